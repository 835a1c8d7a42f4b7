//! A directory of a test's own: its sources, its store, its temporary files, and the jobs
//! that use them. Dropping it checks that nothing of the store was harmed and removes it.

use crate::binaries;
use crate::job::{Job, Outcome};
use crate::store_guard::{Snapshot, damage};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use tempfile::TempDir;

/// One test's place.
#[derive(Debug)]
pub struct World {
    dir: TempDir,
    snapshot: Mutex<Snapshot>,
    check_store: bool,
}

impl World {
    /// An empty world.
    ///
    /// # Panics
    /// When no temporary directory can be made.
    #[expect(
        clippy::new_without_default,
        reason = "it makes a directory, which a default should not"
    )]
    pub fn new() -> Self {
        let dir =
            tempfile::Builder::new().prefix("vrift-test-").tempdir().expect("temporary directory");
        for name in ["home", "tmp"] {
            fs::create_dir(dir.path().join(name)).expect("directories of the world");
        }
        Self { dir, snapshot: Mutex::default(), check_store: true }
    }

    /// A path in it; nothing need be there.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A directory in it, made if need be.
    ///
    /// # Panics
    /// When it can't be made.
    pub fn dir(&self, name: impl AsRef<Path>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap_or_else(|e| panic!("mkdir {}: {e}", path.display()));
        path
    }

    /// Writes a file in it, and its parents, and gives its path.
    ///
    /// # Panics
    /// When it can't be written.
    pub fn file(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        self.dir(path.parent().expect("a name below the world"));
        fs::write(&path, content).unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
        path
    }

    /// The root of its store.
    pub fn store(&self) -> PathBuf {
        self.path("store")
    }

    /// For tests that damage the store themselves: it isn't checked at the end.
    #[must_use]
    pub fn without_store_check(mut self) -> Self {
        self.check_store = false;
        self
    }

    /// A job in this world: HOME, TMPDIR and the store are the world's.
    pub fn native<S: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = S>) -> Job {
        Job::new(argv)
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"))
            .env("VR_THE_SOURCE", self.store())
            .cwd(self.dir.path())
    }

    /// A shell script as a job in this world.
    pub fn sh(&self, script: &str) -> Job {
        self.native(["/bin/sh", "-c", script])
    }

    /// `vrift` with the world's store.
    pub fn vrift<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Job {
        self.native([binaries::vrift().as_os_str()]).args(args)
    }

    /// Ingests `dir` as `name` and gives what `vrift` said.
    ///
    /// # Panics
    /// When that fails.
    pub fn ingest(&self, dir: impl AsRef<Path>, name: &str) -> Outcome {
        let argv: [&OsStr; 4] = [
            OsStr::new("ingest"),
            dir.as_ref().as_os_str(),
            OsStr::new("--name"),
            OsStr::new(name),
        ];
        let outcome = self.vrift(argv).timeout(300).run().ok();
        self.remember();
        outcome
    }

    /// Takes the store as it is now for what must not change from here on.
    ///
    /// # Panics
    /// When another thread panicked while it did so.
    pub fn remember(&self) {
        *self.snapshot.lock().expect("snapshot") = Snapshot::of(&self.store());
    }

    /// `vrift-trace` with these mounts (`AT`, `REF`) and this command.
    pub fn trace<S: AsRef<OsStr>>(
        &self,
        mounts: &[(&Path, &str)],
        argv: impl IntoIterator<Item = S>,
    ) -> Job {
        self.trace_as(&["--quiet"], mounts, argv)
    }

    /// The same as a job that sees its mounts as file systems.
    pub fn trace_mounted<S: AsRef<OsStr>>(
        &self,
        mounts: &[(&Path, &str)],
        argv: impl IntoIterator<Item = S>,
    ) -> Job {
        self.trace_as(&["--quiet", "--view", "mount"], mounts, argv)
    }

    /// `vrift-trace` with these options, these mounts (`AT`, `REF`) and this command.
    pub fn trace_as<S: AsRef<OsStr>>(
        &self,
        options: &[&str],
        mounts: &[(&Path, &str)],
        argv: impl IntoIterator<Item = S>,
    ) -> Job {
        let mut job = self.native([binaries::vrift_trace().as_os_str()]).args(options);
        for (at, reference) in mounts {
            let mut mount = OsString::from(at);
            mount.push("=");
            mount.push(reference);
            job = job.arg("-m").arg(mount);
        }
        job.arg("--").args(argv)
    }

    /// `vrift-trace` with these mounts and a shell script.
    pub fn trace_sh(&self, mounts: &[(&Path, &str)], script: &str) -> Job {
        self.trace(mounts, ["/bin/sh", "-c", script])
    }

    /// What is wrong with the store now: nothing, unless a job harmed it.
    pub fn damage(&self) -> Vec<String> {
        damage(&self.store(), &self.snapshot.lock().expect("snapshot"))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Trees that were made unwritable must not keep the directory from being removed.
        let _ = std::process::Command::new("chmod")
            .arg("-R")
            .arg("u+rwX")
            .arg(self.dir.path().join("src"))
            .output();
        if std::thread::panicking() || !self.check_store {
            return;
        }
        let wrong = self.damage();
        assert!(wrong.is_empty(), "the store was harmed:\n{}", wrong.join("\n"));
    }
}
