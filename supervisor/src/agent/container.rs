//! What is different where a job is a container: whose calls come first, and what its processes
//! are called.

use super::numbers::Numbers;
use crate::status::Status;
use crate::table::Handler;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};

/// A container as the receivers know it.
pub struct Container {
    /// Its first process, by the number that it has here.
    first: i32,
    /// The first process is a program of the container's: what the runtime did is over.
    started: AtomicBool,
    /// What the first process ran when it was seen first: the runtime.
    runtime: Mutex<Option<Image>>,
    /// Its process numbers; None where they are the same as here.
    numbers: Option<Numbers>,
}

impl Container {
    /// The container whose first process is `first`.
    pub fn new(first: i32, numbers: Option<Numbers>) -> Container {
        let runtime = Mutex::new(Image::of(first));
        Container { first, started: AtomicBool::new(false), runtime, numbers }
    }

    /// Is this call the runtime's own? It loads the filter and goes on with what it has to do
    /// (dropping rights, waiting to be started) until it executes the container's program. That
    /// one exec is the container's already.
    pub fn is_runtimes(&self, tid: i32, handler: Option<Handler>) -> bool {
        if self.started.load(Ordering::Relaxed) {
            return false;
        }
        let leader = Status::of(tid).and_then(|status| status.number("Tgid:"));
        if leader != Some(self.first) {
            return false;
        }
        let mut runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Image::of(self.first);
        match (&*runtime, &now) {
            // Not to be looked into until its exec.
            (None, Some(_)) => *runtime = now,
            (Some(then), Some(now)) if then != now => {
                self.started.store(true, Ordering::Relaxed);
                return false;
            }
            _ => {}
        }
        !matches!(handler, Some(Handler::ExecVe | Handler::ExecVeAt))
    }

    /// Does the tree of processes begin with this one?
    pub fn begins_with(&self, pid: i32) -> bool {
        pid == self.first
    }

    /// Is this process, by its number here, none that the container can name?
    pub fn is_outside(&self, pid: i32) -> bool {
        self.numbers.as_ref().is_some_and(|numbers| numbers.inside(pid).is_none())
    }

    /// The number here of what the container calls `pid`; None: it has no such process.
    pub fn number_here(&self, pid: i32) -> Option<i32> {
        self.numbers.as_ref().map_or(Some(pid), |numbers| numbers.here(pid))
    }

    /// A path as the container calls it: /proc counts other numbers there.
    pub fn path_inside(&self, path: &[u8]) -> Option<Vec<u8>> {
        let numbers = self.numbers.as_ref()?;
        let mut parts = path.strip_prefix(b"/proc/")?.split(|&b| b == b'/');
        let inside = |part: &[u8]| {
            let pid = std::str::from_utf8(part).ok()?.parse().ok()?;
            numbers.inside(pid).map(|pid| pid.to_string().into_bytes())
        };
        let mut told = [b"/proc/".as_slice(), &inside(parts.next()?)?].concat();
        let mut task = false;
        for part in parts {
            told.push(b'/');
            match inside(part).filter(|_| task) {
                Some(tid) => told.extend(tid),
                None => told.extend_from_slice(part),
            }
            task = part == b"task";
        }
        Some(told)
    }
}

/// The program that a process runs: it has another one after an exec.
#[derive(Debug, Eq, PartialEq)]
struct Image {
    /// Where code and stack begin and end; the stack is put elsewhere by each exec.
    places: Vec<String>,
    file: Option<(u64, u64)>,
}

impl Image {
    /// None: the process may not be looked into, or is gone.
    fn of(pid: i32) -> Option<Image> {
        use std::os::unix::fs::MetadataExt;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may hold anything: the fields start after the last one.
        let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().collect();
        // proc_pid_stat(5) counts from 1, and the state is the third.
        let places: Vec<String> = fields.get(26 - 3..29 - 3)?.iter().map(|f| (*f).into()).collect();
        if places.iter().all(|place| place == "0") {
            return None;
        }
        let file = std::fs::metadata(format!("/proc/{pid}/exe")).ok().map(|m| (m.dev(), m.ino()));
        Some(Image { places, file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Command, Stdio};

    #[test]
    fn the_runtimes_calls_end_with_its_exec() {
        let mut child = Command::new("sh")
            .args(["-c", "echo sh; read x; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let pid = i32::try_from(child.id()).expect("a process id");
        // What each of them says: that it runs is known by nothing else, its name comes first.
        let mut said = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut says = || said.next().expect("a line").expect("text");
        assert_eq!(says(), "sh");
        let container = Container::new(pid, None);
        assert!(container.is_runtimes(pid, Some(Handler::GetCwd)));
        assert!(!container.is_runtimes(pid, Some(Handler::ExecVe)), "the exec is the container's");
        assert!(container.is_runtimes(pid, None), "it may have failed");
        let me = i32::try_from(std::process::id()).expect("a process id");
        assert!(!container.is_runtimes(me, None), "another process");
        // The shell reads its line byte by byte, and leaves the other to cat.
        child.stdin.as_mut().expect("a pipe").write_all(b"\ncat\n").expect("they read");
        assert_eq!(says(), "cat");
        assert!(!container.is_runtimes(pid, Some(Handler::GetCwd)));
        drop(child.stdin.take());
        child.wait().expect("it ends");
    }
}
