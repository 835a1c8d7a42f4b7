//! The process that fetches: which program it is, how it is started, and what it says when it
//! fails.

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use vrift_store::asking::HELLO;

/// The program.
const NAME: &str = "vrift";
/// How long it may take until it greets.
const READY: Duration = Duration::from_secs(20);
/// The most of its complaints that is read, in bytes.
const COMPLAINTS: usize = 4096;

/// A process that has greeted.
pub struct Process {
    /// Its process id.
    pub id: u32,
    /// Its standard input.
    pub requests: ChildStdin,
    /// Its standard output.
    pub answers: ChildStdout,
    /// Its standard error.
    pub complaints: ChildStderr,
}

impl Process {
    /// Starts it for the store at `root` and waits for its greeting.
    pub fn start(root: &Path, limit: Duration) -> Result<Process, String> {
        let program = find()?;
        let shown = program.display();
        let mut command = Command::new(&program);
        command.arg("--store").arg(root).args(["fetch", "--serve", "--limit"]);
        command.arg(limit.as_secs().to_string()).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|e| format!("{shown}: {e}"))?;
        // Nobody waits for it by this handle: the supervisor waits for all that it has.
        let id = child.id();
        let (Some(requests), Some(mut answers), Some(mut complaints)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(format!("{shown}: it has no pipes"));
        };
        if let Err(reason) = greeting(&mut answers) {
            // Its input has ended, and with that it does, unless it hangs.
            drop(requests);
            let _ = child.kill();
            let said = said(&mut complaints);
            let _ = child.wait();
            return Err(format!("{shown} {reason}{said}; is it of this release?"));
        }
        fcntl(&requests, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
            .map_err(|e| format!("fcntl: {e}"))?;
        Ok(Process { id, requests, answers, complaints })
    }
}

/// `vrift` beside this program, else in PATH.
fn find() -> Result<PathBuf, String> {
    let own = std::env::current_exe().ok();
    let own = own.as_deref().and_then(Path::parent);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = own.map(Path::to_owned).into_iter().chain(std::env::split_paths(&path));
    let mut programs = places.filter(|dir| dir.is_absolute()).map(|dir| dir.join(NAME));
    let runs = |program: &PathBuf| {
        program.is_file() && nix::unistd::access(program, nix::unistd::AccessFlags::X_OK).is_ok()
    };
    programs.find(runs).ok_or_else(|| {
        let own = own.map_or_else(|| "this program's".into(), |dir| dir.display().to_string());
        format!("there is no program `{NAME}` in {own} or in PATH; install it")
    })
}

/// Reads the greeting; or what is wrong with it.
fn greeting(from: &mut ChildStdout) -> Result<(), String> {
    let mut greeting = [0; HELLO.len()];
    let mut have = 0;
    let until = Instant::now() + READY;
    while have < greeting.len() {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        match poll(&mut [PollFd::new(from.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) => return Err(format!("says nothing for {} s", READY.as_secs())),
            Ok(_) => {}
            Err(nix::errno::Errno::EINTR) => continue,
            Err(e) => return Err(format!("can't be heard: {e}")),
        }
        match from.read(&mut greeting[have..]) {
            Ok(0) => return Err("ended at once".into()),
            Ok(n) => have += n,
            Err(e) => return Err(format!("can't be heard: {e}")),
        }
    }
    if greeting == *HELLO { Ok(()) } else { Err("speaks another language".into()) }
}

/// Why there are no answers any more, when it has ended.
pub fn has_ended(complaints: &mut ChildStderr) -> String {
    format!("`vrift fetch`, which gets it, has ended early{}; run the job again", said(complaints))
}

/// The last line of what an ended process said, ready to be added to a message; what it said before
/// doesn't matter.
fn said(complaints: &mut ChildStderr) -> String {
    // Should somebody else have its other end, it is read as far as it goes.
    let _ = fcntl(&*complaints, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
    let mut text = Vec::new();
    let mut piece = [0; 512];
    while text.len() < COMPLAINTS {
        match complaints.read(&mut piece) {
            Ok(n @ 1..) => text.extend_from_slice(&piece[..n]),
            Ok(0) | Err(_) => break,
        }
    }
    let line = text.split(|&b| b == b'\n').rfind(|line| !line.is_empty());
    line.map_or_else(String::new, |line| format!(" (it says: {})", vrift_events::printable(line)))
}
