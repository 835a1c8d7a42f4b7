//! A command on a terminal of its own, for what only terminals have: Ctrl-C, job control.

use crate::job::patience;
use crate::job::{MARK, PATH, expect_no_leftovers, new_mark};
use crate::{hang, skip};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// A command that has a pseudo terminal as its controlling terminal.
#[derive(Debug)]
pub struct Terminal {
    master: File,
    child: Child,
    mark: String,
    seen: Vec<u8>,
    bytes: Receiver<Vec<u8>>,
}

impl Terminal {
    /// Starts `argv` on a new terminal.
    ///
    /// # Errors
    /// When setsid isn't there: a sentence for [`skip!`](crate::skip!).
    ///
    /// # Panics
    /// When there is no pseudo terminal to be had.
    pub fn start<S: AsRef<OsStr>>(
        argv: impl IntoIterator<Item = S>,
        env: &[(&str, &Path)],
    ) -> Result<Self, String> {
        let setsid = skip::program("setsid")?;
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("openpt");
        grantpt(&master).expect("grantpt");
        unlockpt(&master).expect("unlockpt");
        let name = ptsname(&master, Vec::new()).expect("ptsname");
        let slave = OpenOptions::new()
            .read(true)
            .write(true)
            .open(OsStr::from_bytes(name.to_bytes()))
            .expect("the terminal's other end");
        let mark = new_mark();
        let mut command = Command::new(setsid);
        command
            .arg("--ctty")
            .arg("--wait")
            .args(argv)
            .env_clear()
            .env("PATH", PATH)
            .env("LC_ALL", "C")
            .env("TERM", "dumb")
            .env(MARK, &mark)
            .envs(env.iter().copied())
            .stdin(slave.try_clone().expect("dup"))
            .stdout(slave.try_clone().expect("dup"))
            .stderr(slave);
        let child = command.spawn().expect("setsid");
        // The command keeps copies of the terminal's descriptors; ours go, or no end is seen.
        drop(command);
        let master = File::from(master);
        let mut reader = master.try_clone().expect("dup");
        let (sender, bytes) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // EIO is how a terminal says that nobody is on its other end any more.
            while let Ok(n @ 1..) = reader.read(&mut buffer) {
                if sender.send(buffer[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        Ok(Self { master, child, mark, seen: Vec::new(), bytes })
    }

    /// All that was shown so far.
    pub fn seen(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    /// Waits until `text` has been shown.
    ///
    /// # Panics
    /// When it isn't within ten seconds.
    pub fn wait_for(&mut self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(10) * patience();
        while !self.seen().contains(text) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.bytes.recv_timeout(left) {
                Ok(more) => self.seen.extend(more),
                Err(e) => self.give_up(&format!("{text:?} was not shown ({e})")),
            }
        }
    }

    /// Types `keys`: `b"\x03"` is Ctrl-C.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn type_keys(&mut self, keys: &[u8]) {
        self.master.write_all(keys).expect("write to the terminal");
    }

    /// Waits for the end and gives the status and all that was shown.
    ///
    /// # Panics
    /// When the end doesn't come within ten seconds, or a process is left behind.
    pub fn finish(mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + Duration::from_secs(10) * patience();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                break status;
            }
            if Instant::now() > deadline {
                self.give_up("it does not end");
            }
            match self.bytes.recv_timeout(Duration::from_millis(20)) {
                Ok(more) => self.seen.extend(more),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        while let Ok(more) = self.bytes.recv_timeout(Duration::from_millis(200)) {
            self.seen.extend(more);
        }
        expect_no_leftovers(&self.mark, "the command on the terminal");
        (status, self.seen())
    }

    fn give_up(&mut self, why: &str) -> ! {
        let picture = hang::picture(&self.mark);
        hang::kill(&self.mark);
        let _ = self.child.kill();
        let _ = self.child.wait();
        panic!("{why}; shown so far:\n{}\n{picture}", self.seen());
    }
}
