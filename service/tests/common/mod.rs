//! What the tests of `vrift` share: the store's own place for tests, and the program under test with
//! a time limit.

#![allow(dead_code, reason = "no test program needs all of it")]

#[path = "../../../store/tests/common/mod.rs"]
mod store;

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

pub use store::*;

/// No command of these tests takes longer, unless it hangs.
const LIMIT: Duration = Duration::from_secs(120);

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
            // By another process: a child that another test starts just now would have our descriptor
            // of the copy until its exec, and a file that is open for writing can't be run.
            let cp = Command::new("cp").arg(env!("CARGO_BIN_EXE_vrift")).arg(&program).status();
            assert!(cp.expect("cp").success());
        }
        let mut unprivileged = Command::new(program);
        unprivileged.args(command.get_args()).env("VR_THE_SOURCE", self.store_root());
        unprivileged.stdin(Stdio::null()).current_dir("/").uid(65534).gid(65534);
        command = unprivileged;
        command
    }
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
