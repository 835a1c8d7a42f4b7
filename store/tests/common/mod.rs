//! What the tests of the store share: a temporary place, the program under test with a time limit,
//! and a look at every blob afterwards.

#![allow(dead_code, reason = "no test program needs all of it")]

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use vrift_store::{Hash, Store};

/// No command of these tests takes longer, unless it hangs.
const LIMIT: Duration = Duration::from_secs(120);

/// A directory with a store in it, both removed at the end.
pub struct Place {
    pub temp: tempfile::TempDir,
}

/// What a run of `vrift` gave.
#[derive(Debug)]
pub struct Ran {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Asserts status 0 and gives standard output.
    #[track_caller]
    pub fn fine(self) -> String {
        assert_eq!(self.status, 0, "stderr: {}", self.stderr);
        self.stdout
    }

    /// Asserts status 125 with exactly one line on stderr that begins with `vrift: `.
    #[track_caller]
    pub fn refused(self) -> String {
        assert_eq!(self.status, 125, "stdout: {} stderr: {}", self.stdout, self.stderr);
        assert_eq!(self.stderr.lines().count(), 1, "{}", self.stderr);
        assert!(self.stderr.starts_with("vrift: "), "{}", self.stderr);
        self.stderr
    }
}

impl Place {
    pub fn new() -> Place {
        let temp = tempfile::tempdir().expect("tempdir");
        // Others have to reach it in tests that drop root's rights.
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(temp.path(), mode).expect("chmod");
        Place { temp }
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.temp.path().join(name)
    }

    /// A new directory.
    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(&path).expect("mkdir");
        path
    }

    pub fn store_root(&self) -> PathBuf {
        self.path("store")
    }

    pub fn store(&self) -> Store {
        Store::open(&self.store_root()).expect("open the store")
    }

    /// `vrift` with these arguments, on this place's store.
    pub fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vrift"));
        command.args(args).env("VR_THE_SOURCE", self.store_root()).stdin(Stdio::null());
        command.env_remove("RUST_BACKTRACE");
        command
    }

    /// Runs `vrift` to its end.
    pub fn vrift<S: AsRef<OsStr>>(&self, args: &[S]) -> Ran {
        run(&mut self.command(args))
    }

    /// `vrift ingest DIR --name NAME`, which has to work.
    #[track_caller]
    pub fn ingest(&self, dir: &Path, name: &str) -> String {
        self.vrift(&[OsStr::new("ingest"), dir.as_os_str(), "--name".as_ref(), name.as_ref()])
            .fine()
    }

    /// The same as a user without rights, where the test runs as root.
    pub fn as_nobody(&self, mut command: Command) -> Command {
        if !is_root() {
            return command;
        }
        // The test's own directory may be closed to others.
        let program = self.path("vrift");
        if !program.exists() {
            std::fs::copy(env!("CARGO_BIN_EXE_vrift"), &program).expect("copy the program");
        }
        let mut unprivileged = Command::new(program);
        unprivileged.args(command.get_args()).env("VR_THE_SOURCE", self.store_root());
        unprivileged.stdin(Stdio::null()).current_dir("/").uid(65534).gid(65534);
        command = unprivileged;
        command
    }
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs a command to its end, or kills it and fails.
pub fn run(command: &mut Command) -> Ran {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("spawn");
    let output = wait(child);
    Ran {
        status: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn wait(child: Child) -> Output {
    let pid = rustix::process::Pid::from_child(&child);
    let (done, waiting) = mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        if waiting.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            return true;
        }
        false
    });
    let output = child.wait_with_output().expect("wait");
    drop(done);
    assert!(!watchdog.join().expect("watchdog"), "killed after {LIMIT:?}: {output:?}");
    output
}

/// All blobs of a store.
pub fn blobs(store: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for dir in std::fs::read_dir(store.join("blobs")).expect("blobs") {
        for blob in std::fs::read_dir(dir.expect("entry").path()).expect("fan-out") {
            found.push(blob.expect("entry").path());
        }
    }
    found.sort();
    found
}

/// Every blob hashes to its name, has mode 0444 and one link, and nothing is left in `tmp`.
#[track_caller]
pub fn assert_whole(store: &Path) {
    for blob in blobs(store) {
        let name = blob.file_name().expect("name").to_str().expect("hex").to_owned();
        assert_eq!(Hash::of(&std::fs::read(&blob).expect("read")).to_string(), name);
        let meta = std::fs::symlink_metadata(&blob).expect("metadata");
        assert_eq!((meta.mode() & 0o7777, meta.nlink()), (0o444, 1), "{name}");
        assert_eq!(blob.parent().and_then(Path::file_name), Some(OsStr::new(&name[..2])));
    }
    assert_eq!(std::fs::read_dir(store.join("tmp")).expect("tmp").count(), 0, "left in tmp");
}

/// Writes a file and all directories above it.
pub fn write(path: &Path, content: impl AsRef<[u8]>) {
    std::fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
    std::fs::write(path, content).expect("write");
}

/// Notes a test that this machine can't run, in the form the end-to-end tests use: the runner's
/// name of the test, a tab, and what is lacking.
pub fn skipped(name: &str, reason: &str) {
    // Past the test runner's capture.
    let _ = std::io::stderr().write_all(format!("skipped {name}: {reason}\n").as_bytes());
    let program = std::env::current_exe().unwrap_or_default();
    let thread = std::thread::current();
    let test = thread.name().unwrap_or(name);
    let line = format!("{}::{test}\t{name}: {reason}\n", program.display());
    if let Some(list) = std::env::var_os("VRIFT_SKIPPED") {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(list);
        file.and_then(|mut file| file.write_all(line.as_bytes()))
            .expect("the list of skipped tests");
    }
}
