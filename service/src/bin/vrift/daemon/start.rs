//! Starting and ending the daemon. There is no file with its number: that it runs is told by its lock,
//! who it is by its socket.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal, setsid};
use serde_json::json;
use vrift_client::{DaemonError, Running};
use vrift_service::daemon::log;
use vrift_store::text::shown;
use vrift_store::{Store, StoreError};

use super::{Idle, run, say};
use crate::Outcome;
use crate::output::{Failure, Out};

/// One that was told to end has 30 seconds to do so, and some to go.
const LONGEST: Duration = Duration::from_secs(40);
const PAUSE: Duration = Duration::from_millis(50);
/// What a daemon says to who started it: it is ready; or there is another one.
const READY: &str = "ready";
const TAKEN: &str = "taken";

/// `vrift daemon start`
pub fn start(store: &Store, idle: Idle, out: &mut Out) -> Result<Outcome, Failure> {
    let end = Instant::now() + LONGEST;
    let mut began = false;
    loop {
        if let Some(running) = Running::find(store)? {
            return started(running, began, out);
        }
        if Instant::now() > end {
            let root = shown(store.root());
            return Err(Failure::new(format!(
                "the daemon of store {root} has its lock, but isn't to be had: it is starting, ending or stopped"
            )));
        }
        began = launch(store, idle)?;
        if !began {
            std::thread::sleep(PAUSE);
        }
    }
}

fn started(running: Running, began: bool, out: &mut Out) -> Result<Outcome, Failure> {
    let pid = running.pid().map(|pid| pid.as_raw_nonzero().get());
    let version = running.version().to_owned();
    // Whether it is understood is part of whether it is there.
    running.client()?;
    if out.json {
        out.object(&json!({ "started": began, "pid": pid, "version": version }))?;
    } else {
        let what = if began { "started" } else { "runs already" };
        let pid = pid.map_or_else(String::new, |pid| format!(", process {pid}"));
        out.text(format_args!("{what}{pid}\n"))?;
    }
    Ok(Outcome::Fine)
}

/// Starts one; false when another one was first.
fn launch(store: &Store, idle: Idle) -> Result<bool, Failure> {
    let failed = |error| Failure::new(format!("can't start the daemon: {error}"));
    let root = store.root().canonicalize().map_err(StoreError::io("find", store.root()))?;
    let mut child = Command::new(std::env::current_exe().map_err(failed)?)
        .arg("--store")
        .arg(root)
        .args(["daemon", "run", "--ready", "--idle"])
        .arg(idle.seconds.to_string())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut said = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut said).map_err(failed)?;
    }
    if said.trim_end() == READY {
        return Ok(true);
    }
    let mut why = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_string(&mut why).map_err(failed)?;
    }
    let _ = child.wait();
    if said.trim_end() == TAKEN {
        return Ok(false);
    }
    let why = why.lines().last().unwrap_or("it ended and said nothing");
    Err(Failure::new(why.strip_prefix("vrift: ").unwrap_or(why)))
}

/// `vrift daemon run --ready`: what `start` starts.
pub fn run_detached(store: Store, idle: Idle) -> Result<Outcome, Failure> {
    // The terminal's signals are for others. As the leader of a group it would be refused, and has
    // no other terminal then than who started it so.
    let _ = setsid();
    let log = log(&store)?;
    let ready = || {
        say(&mut std::io::stdout(), READY);
        // Nobody listens there any more.
        let _ = rustix::stdio::dup2_stderr(&log);
        if let Ok(null) = File::options().write(true).open("/dev/null") {
            let _ = rustix::stdio::dup2_stdout(&null);
        }
    };
    match run(store, idle, ready) {
        Err(DaemonError::Taken { .. }) => {
            say(&mut std::io::stdout(), TAKEN);
            Ok(Outcome::Fine)
        }
        result => Ok(result.map(|()| Outcome::Fine)?),
    }
}

/// Tells systemd that clients can come: sd_notify(3).
pub fn tell_the_system() {
    let Some(to) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match to.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(&to),
    };
    // Who wants to know and can't be told waits, and says so.
    if let (Ok(address), Ok(socket)) = (address, UnixDatagram::unbound()) {
        let _ = socket.send_to_addr(b"READY=1", &address);
    }
}

/// `vrift daemon stop`
pub fn stop(store: &Store, out: &mut Out) -> Result<Outcome, Failure> {
    let Some(running) = Running::find(store)? else {
        return stopped(None, out);
    };
    let root = shown(store.root()).to_string();
    let other = || {
        Failure::new(format!(
            "the daemon of store {root} runs where its process can't be told (in a container?): end it there"
        ))
    };
    let pid = running.pid().ok_or_else(other)?;
    // Its connection is open yet, so the number is its own.
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Err(Errno::SRCH) => return stopped(Some(pid), out),
        process => {
            process.map_err(|errno| Failure::new(format!("can't find process {pid:?}: {errno}")))?
        }
    };
    drop(running);
    match pidfd_send_signal(&process, Signal::TERM) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(Errno::PERM) => {
            let owner = store.owner()?;
            return Err(Failure::new(format!(
                "the daemon of store {root} is uid {owner}'s: that user ends it, or root"
            )));
        }
        Err(errno) => return Err(Failure::new(format!("can't end process {pid:?}: {errno}"))),
    }
    let mut waiting = [PollFd::new(&process, PollFlags::IN)];
    let limit = Timespec { tv_sec: LONGEST.as_secs().cast_signed(), tv_nsec: 0 };
    loop {
        match poll(&mut waiting, Some(&limit)) {
            Err(Errno::INTR) => {}
            Ok(0) => {
                return Err(Failure::new(format!(
                    "the daemon of store {root} doesn't end: look after process {}",
                    pid.as_raw_nonzero()
                )));
            }
            Ok(_) => return stopped(Some(pid), out),
            Err(errno) => return Err(Failure::new(format!("can't wait for the daemon: {errno}"))),
        }
    }
}

fn stopped(pid: Option<rustix::process::Pid>, out: &mut Out) -> Result<Outcome, Failure> {
    if out.json {
        out.object(&json!({ "stopped": pid.map(|pid| pid.as_raw_nonzero().get()) }))?;
    } else {
        let what = if pid.is_some() { "ended" } else { "not running" };
        out.text(format_args!("{what}\n"))?;
    }
    Ok(Outcome::Fine)
}
