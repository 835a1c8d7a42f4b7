//! A store that several users share: its daemon, and the user nobody, who may only read it.

use crate::binaries;
use crate::world::World;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The user and group nobody.
pub const NOBODY: u32 = 65534;
/// What a command is put behind to be run as nobody.
pub const AS_NOBODY: [&str; 4] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];

/// A daemon in the foreground; killed when it is dropped.
#[derive(Debug)]
pub struct Daemon(Child);

impl Daemon {
    /// The daemon of a store, when clients can come.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn run(store: &Path) -> Daemon {
        let child = Command::new(binaries::vrift())
            .arg("--store")
            .arg(store)
            .args(["daemon", "run", "--idle", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the daemon is started");
        let daemon = Daemon(child);
        let began = Instant::now();
        while !is_running(store) {
            assert!(began.elapsed() < Duration::from_secs(60), "the daemon doesn't come");
            std::thread::sleep(Duration::from_millis(10));
        }
        daemon
    }

    /// Ends it as nothing can keep it from.
    ///
    /// # Panics
    /// When it is gone already.
    pub fn kill(mut self) {
        assert!(self.0.try_wait().expect("wait").is_none(), "it ended by itself");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_running(store: &Path) -> bool {
    let mut status = Command::new(binaries::vrift());
    status.arg("--store").arg(store).args(["daemon", "status"]).stdin(Stdio::null());
    status.output().expect("vrift runs").status.success()
}

/// Writes the configuration of a store's daemon.
///
/// # Panics
/// When it can't be written.
pub fn configure(store: &Path, text: &str) {
    let dir = store.join("daemon");
    fs::create_dir_all(&dir).expect("daemon/");
    fs::write(dir.join("config.toml"), text).expect("config.toml");
}

/// Lets others into a world, and gives a new directory in it to nobody.
///
/// # Panics
/// When only root can.
pub fn home_of_nobody(world: &World, name: &str) -> PathBuf {
    fs::set_permissions(world.path(""), Permissions::from_mode(0o755)).expect("chmod");
    let home = world.dir(name);
    chown(&home, Some(NOBODY), Some(NOBODY)).expect("chown");
    home
}
