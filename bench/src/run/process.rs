//! Running a command: timed from its start to its end, output kept aside, killed when it hangs.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::sys::process;

/// A command to be run, perhaps many times.
#[derive(Clone, Debug)]
pub struct Job {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    cwd: Option<PathBuf>,
    limit: Duration,
    watched: bool,
}

/// A command that ended with status 0.
#[derive(Debug)]
pub struct Done {
    /// From before its start until after its end.
    pub took: Duration,
    /// CPU time of it and of everything that it waited for. Other work on the machine changes this
    /// less than the time it took.
    pub cpu: Duration,
    /// The most memory that the process itself had at a time, in bytes, where that was watched: a
    /// supervisor's, then, without its job's. `None` too when it ended before it was looked at.
    pub peak: Option<u64>,
    /// Its standard output.
    pub stdout: Vec<u8>,
}

/// How often the memory of a watched process is looked at. The kernel keeps the most that there was:
/// what is missed is only what came after the last look.
const LOOK: Duration = Duration::from_millis(5);

impl Job {
    /// `program`, looked for in PATH when it has no slash, killed after two minutes.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            cwd: None,
            limit: Duration::from_secs(120),
            watched: false,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Runs in this directory.
    #[must_use]
    pub fn cwd(mut self, directory: &Path) -> Self {
        self.cwd = Some(directory.to_owned());
        self
    }

    /// Kills after this time.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Watches how much memory the process takes.
    #[must_use]
    pub fn watched(mut self) -> Self {
        self.watched = true;
        self
    }

    /// This job as the command of `supervisor`: its arguments, `--`, and this.
    #[must_use]
    pub fn under(self, supervisor: Self) -> Self {
        let mut whole = supervisor.arg("--").arg(&self.program).args(&self.args);
        whole.env.extend(self.env);
        whole.cwd = self.cwd.or(whole.cwd);
        whole.limit = self.limit;
        whole.watched |= self.watched;
        whole
    }

    /// Runs it with an empty stdin.
    ///
    /// # Errors
    /// When it cannot be started, ends with anything but status 0, or takes too long.
    pub fn run(&self) -> Result<Done, Failure> {
        let fail = |what: &str| Failure::io(format!("cannot {what} `{}`", self.line()));
        let mut stdout = tempfile::tempfile().map_err(fail("keep the output of"))?;
        let mut stderr = tempfile::tempfile().map_err(fail("keep the output of"))?;
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(stdout.try_clone().map_err(fail("run"))?)
            .stderr(stderr.try_clone().map_err(fail("run"))?);
        if let Some(cwd) = &self.cwd {
            command.current_dir(cwd);
        }
        let cpu_before = process::children_cpu().map_err(fail("account for"))?;
        let start = Instant::now();
        let mut child = command.spawn().map_err(fail("run"))?;
        let pid = child.id();
        let (ended, watch_end) = mpsc::channel::<()>();
        let (limit, watched) = (self.limit, self.watched);
        // The child is not reaped before this thread is joined, so that the pid is its own.
        let watchdog = thread::spawn(move || watch(pid, &watch_end, limit, watched));
        let waited = process::wait_unreaped(pid);
        let took = start.elapsed();
        drop(ended);
        let (killed, peak) = watchdog.join().unwrap_or_default();
        waited.map_err(fail("wait for"))?;
        let status = child.wait().map_err(fail("wait for"))?;
        let cpu_after = process::children_cpu().map_err(fail("account for"))?;
        let said = contents(&mut stderr).map_err(fail("read the output of"))?;
        let said = String::from_utf8_lossy(&said).into_owned();
        if killed {
            return Err(Failure::TimedOut { command: self.line(), after: limit, stderr: said });
        }
        if !status.success() {
            return Err(Failure::Command {
                command: self.line(),
                status: status.to_string(),
                stderr: said,
            });
        }
        let stdout = contents(&mut stdout).map_err(fail("read the output of"))?;
        Ok(Done { took, cpu: cpu_after.saturating_sub(cpu_before), peak, stdout })
    }

    /// The command as one would type it, for messages.
    #[must_use]
    pub fn line(&self) -> String {
        let words = std::iter::once(&self.program).chain(&self.args);
        words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }
}

/// Waits for the end of the process `pid`, and kills it when that takes longer than `limit`. Whether it
/// did, and the most memory that it had, if that is `watched`.
fn watch(
    pid: u32,
    end: &mpsc::Receiver<()>,
    limit: Duration,
    watched: bool,
) -> (bool, Option<u64>) {
    let start = Instant::now();
    let mut peak = None;
    loop {
        let left = limit.saturating_sub(start.elapsed());
        let pause = if watched { left.min(LOOK) } else { left };
        if end.recv_timeout(pause) != Err(mpsc::RecvTimeoutError::Timeout) {
            return (false, peak);
        }
        if left.is_zero() {
            return (process::kill(pid).is_ok(), peak);
        }
        if watched {
            // The last look counts: exec begins anew.
            peak = peak_of(pid).or(peak);
        }
    }
}

/// The most memory that a process had so far; `None` when it has ended.
fn peak_of(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

fn contents(file: &mut File) -> io::Result<Vec<u8>> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_timed_and_its_output_kept() {
        let done = Job::new("sh").args(["-c", "sleep 0.1; printf hello"]).run().unwrap();
        assert_eq!(done.stdout, b"hello");
        assert!(done.took >= Duration::from_millis(100));
    }

    #[test]
    fn a_failure_says_the_status_and_the_last_words() {
        let error = Job::new("sh").args(["-c", "echo why >&2; exit 3"]).run().unwrap_err();
        let text = error.to_string();
        assert!(text.contains("exit status: 3") && text.ends_with(": why"), "{text}");
    }

    #[test]
    fn a_command_that_hangs_is_killed() {
        let start = Instant::now();
        let hung = Job::new("sleep").arg("60").limit(Duration::from_millis(50)).run();
        assert!(matches!(hung, Err(Failure::TimedOut { .. })), "{hung:?}");
        assert!(start.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn the_memory_of_the_process_itself_is_watched_and_not_its_childrens() {
        let hog = "exec dd if=/dev/zero of=/dev/null bs=64M count=40 2>/dev/null";
        let alone = Job::new("sh").args(["-c", hog]);
        assert_eq!(alone.run().unwrap().peak, None);
        let parent = Job::new("sh").args(["-c", "sh -c \"$1\"; exit", "sh", hog]);
        let (alone, parent) = (alone.watched().run().unwrap(), parent.watched().run().unwrap());
        assert!(alone.peak.unwrap() >= 64 << 20, "{alone:?}");
        assert!(parent.peak.unwrap() < 32 << 20, "{parent:?}");
    }

    #[test]
    fn a_job_under_a_supervisor_keeps_its_own_surroundings() {
        let job = Job::new("cc").arg("x.c").env("A", "1").cwd(Path::new("/out"));
        let whole = job.under(Job::new("floor").args(["--receivers", "2"]).env("B", "2"));
        assert_eq!(whole.line(), "floor --receivers 2 -- cc x.c");
        assert_eq!(whole.env.len(), 2);
        assert_eq!(whole.cwd.as_deref(), Some(Path::new("/out")));
    }
}
