//! A command that ends in bounded time: its output is collected, its status compared as a
//! shell would see it, and when its time is up the test fails with what every one of its
//! processes was waiting for.

use crate::hang;
use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The search path of every job, so that a developer's own tools don't change a result.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The variable that marks all processes of one job, whatever they make of their parents.
pub const MARK: &str = "VRIFT_TEST_MARK";

/// By how much time limits are multiplied: an emulated machine is 20 times slower than a real one.
///
/// # Panics
/// When `VRIFT_TEST_PATIENCE` is no whole number above zero.
pub fn patience() -> u32 {
    std::env::var("VRIFT_TEST_PATIENCE").map_or(1, |factor| {
        factor
            .parse()
            .ok()
            .filter(|f| *f > 0)
            .unwrap_or_else(|| panic!("VRIFT_TEST_PATIENCE={factor}"))
    })
}

/// A command about to be run.
#[derive(Debug, Clone)]
pub struct Job {
    argv: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    cwd: Option<PathBuf>,
    stdin: Vec<u8>,
    timeout: Duration,
}

/// How a command ended.
#[derive(Debug)]
pub struct Outcome {
    /// The command line, for messages.
    pub command: String,
    /// Its status as the kernel gave it.
    pub status: ExitStatus,
    /// All it wrote to stdout.
    pub stdout: Vec<u8>,
    /// All it wrote to stderr.
    pub stderr: Vec<u8>,
    /// From start to end.
    pub wall: Duration,
}

impl Job {
    /// A job that runs `argv` in a fixed, small environment, with an empty stdin.
    pub fn new<S: AsRef<OsStr>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self {
            argv: argv.into_iter().map(|a| a.as_ref().to_owned()).collect(),
            env: Vec::new(),
            cwd: None,
            stdin: Vec::new(),
            timeout: Duration::from_secs(60) * patience(),
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.argv.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.argv.extend(args.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// Runs it by another command, whose arguments it becomes.
    #[must_use]
    pub fn behind<S: AsRef<OsStr>>(mut self, argv: impl IntoIterator<Item = S>) -> Self {
        self.argv.splice(0..0, argv.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Sets its working directory.
    #[must_use]
    pub fn cwd(mut self, dir: impl AsRef<Path>) -> Self {
        self.cwd = Some(dir.as_ref().to_owned());
        self
    }

    /// What it reads from stdin.
    #[must_use]
    pub fn stdin(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.stdin = bytes.as_ref().to_owned();
        self
    }

    /// How long it may take (default: a minute), on a machine that isn't slow.
    #[must_use]
    pub fn timeout(mut self, seconds: u64) -> Self {
        self.timeout = Duration::from_secs(seconds) * patience();
        self
    }

    fn command(&self, mark: &str) -> Command {
        let mut command = Command::new(&self.argv[0]);
        command
            .args(&self.argv[1..])
            .env_clear()
            .env("PATH", PATH)
            .env("LC_ALL", "C")
            .env(MARK, mark)
            .process_group(0);
        command.envs(self.env.iter().map(|(k, v)| (k, v)));
        if let Some(dir) = &self.cwd {
            command.current_dir(dir);
        }
        command
    }

    fn shown(&self) -> String {
        let words: Vec<_> = self.argv.iter().map(|a| a.to_string_lossy()).collect();
        words.join(" ")
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When it can't be started, doesn't end in time, or leaves a process behind.
    pub fn run(self) -> Outcome {
        let mark = new_mark();
        let started = Instant::now();
        let mut child = self
            .command(&mark)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {}: {e}", self.shown()));
        let mut stdin = child.stdin.take().expect("piped");
        let bytes = self.stdin.clone();
        // A command need not read its stdin: EPIPE is its right.
        let feeder = std::thread::spawn(move || drop(stdin.write_all(&bytes)));
        let stdout = drain(child.stdout.take().expect("piped"));
        let stderr = drain(child.stderr.take().expect("piped"));
        let status = self.wait(&mut child, &mark, started);
        let wall = started.elapsed();
        let outcome = Outcome {
            command: self.shown(),
            status,
            stdout: self.collect(stdout, &mark),
            stderr: self.collect(stderr, &mark),
            wall,
        };
        drop(feeder);
        expect_no_leftovers(&mark, &outcome.command);
        outcome
    }

    fn wait(&self, child: &mut Child, mark: &str, started: Instant) -> ExitStatus {
        let mut pause = Duration::from_micros(500);
        loop {
            if let Some(status) = child.try_wait().expect("wait") {
                return status;
            }
            if started.elapsed() > self.timeout {
                let picture = hang::picture(mark);
                hang::kill(mark);
                let _ = child.kill();
                let _ = child.wait();
                panic!("no end within {:?}: {}\n{picture}", self.timeout, self.shown());
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
    }

    /// What a pipe brought. A process that outlives its job and holds the pipe would keep
    /// the test here for ever, so it gets a few seconds.
    fn collect(&self, pipe: JoinHandle<Vec<u8>>, mark: &str) -> Vec<u8> {
        let deadline = Instant::now() + Duration::from_secs(5) * patience();
        while !pipe.is_finished() {
            if Instant::now() > deadline {
                let picture = hang::picture(mark);
                hang::kill(mark);
                panic!("ended, but something still holds its output: {}\n{picture}", self.shown());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        pipe.join().expect("reader")
    }
}

/// A name no other process on the machine carries.
pub fn new_mark() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("vt-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Fails the test when a process with this mark is still there shortly after its job's end.
///
/// # Panics
/// When one is.
pub fn expect_no_leftovers(mark: &str, command: &str) {
    let deadline = Instant::now() + Duration::from_secs(2) * patience();
    while hang::any(mark) {
        if Instant::now() > deadline {
            let picture = hang::picture(mark);
            hang::kill(mark);
            panic!("processes left behind by: {command}\n{picture}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn drain(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        bytes
    })
}

impl Outcome {
    /// The status as a shell shows it: the exit code, or 128 + the signal's number.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// Fails unless the command exited with `code`.
    ///
    /// # Panics
    /// With all it said, when it didn't.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert!(self.code() == code, "expected status {code}: {self}");
        self
    }

    /// Fails unless the command exited with 0.
    ///
    /// # Panics
    /// With all it said, when it didn't.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.expect(0)
    }

    /// Its stdout for comparing and printing; bytes that aren't UTF-8 are replaced.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Its stderr for comparing and printing; bytes that aren't UTF-8 are replaced.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tail = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes);
            let lines: Vec<_> = text.lines().collect();
            lines[lines.len().saturating_sub(40)..].join("\n")
        };
        write!(
            f,
            "{}\n  ended with {} after {:?}\n--- stdout\n{}\n--- stderr\n{}",
            self.command,
            self.code(),
            self.wall,
            tail(&self.stdout),
            tail(&self.stderr)
        )
    }
}
