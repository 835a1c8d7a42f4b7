//! Finds the processes of a job by the mark in their environment, shows what each of their
//! threads waits for, and ends them. The mark outlives setsid, double forks and exec; a
//! process group would not catch those.

use crate::job::MARK;
use rustix::process::{Pid, Signal, kill_process};
use std::fmt::Write;
use std::fs;

/// The ids of the living processes that carry `mark`.
fn carriers(mark: &str) -> Vec<i32> {
    let wanted = format!("{MARK}={mark}");
    let Ok(proc) = fs::read_dir("/proc") else { return Vec::new() };
    proc.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| {
            // Gone, or another user's: not one of ours either way.
            fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|env| env.split(|b| *b == 0).any(|v| v == wanted.as_bytes()))
        })
        .collect()
}

/// Whether any process carries `mark`.
pub fn any(mark: &str) -> bool {
    !carriers(mark).is_empty()
}

/// Ends every process that carries `mark`.
pub fn kill(mark: &str) {
    // Twice: one may have forked between the look and the signal.
    for _ in 0..3 {
        for pid in carriers(mark) {
            if let Some(pid) = Pid::from_raw(pid) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

/// What every thread of every process with `mark` is doing, as text for a failure message.
pub fn picture(mark: &str) -> String {
    let mut text = String::new();
    for pid in carriers(mark) {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let _ = writeln!(text, "process {pid}: {command}");
        let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for task in tasks.flatten() {
            let line = |file: &str| {
                fs::read_to_string(task.path().join(file)).unwrap_or_else(|e| format!("({e})"))
            };
            let status = line("status");
            let state = status.lines().filter(|l| {
                ["State:", "PPid:", "TracerPid:", "SigPnd:", "ShdPnd:"]
                    .iter()
                    .any(|key| l.starts_with(key))
            });
            let _ = writeln!(
                text,
                "  thread {}: {} wchan={} syscall={}",
                task.file_name().display(),
                state.map(|l| l.replace('\t', " ")).collect::<Vec<_>>().join(" "),
                line("wchan").trim(),
                line("syscall").trim()
            );
            let stack = line("stack"); // root only
            if !stack.starts_with('(') {
                let _ = writeln!(text, "    {}", stack.trim().replace('\n', "\n    "));
            }
        }
    }
    if text.is_empty() {
        text.push_str("(none of its processes can be seen)");
    }
    text
}
