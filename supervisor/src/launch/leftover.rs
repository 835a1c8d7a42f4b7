//! Processes that outlive the command: adopted by us as their subreaper, and ended.

use crate::sys::process;
use std::collections::HashMap;
use std::time::Duration;

const SHORTEST: Duration = Duration::from_micros(200);
const LONGEST: Duration = Duration::from_millis(10);

/// Ends every descendant of this process and waits until none is left.
///
/// It never waits for a child to end but looks again and again. One may have come after the look
/// for descendants; and in the supervisor, whose wards they become when the keeper is killed, a
/// child that dies while a receiver holds it by ptrace wakes that thread only, and this one not
/// even when it is let go (__ptrace_detach() of kernel/ptrace.c: tracer and parent are one
/// process).
///
/// A descendant that forks meanwhile is found in the next round: whoever loses its parent becomes
/// ours, so the rounds end when nothing is left to fork.
pub fn end_all(mut on_end: impl FnMut(i32, i32)) {
    let mut pause = SHORTEST;
    loop {
        while let Some((pid, status)) = process::reap() {
            on_end(pid, status);
        }
        if process::has_no_children() {
            return;
        }
        for pid in descendants() {
            let _ = process::kill(pid, libc::SIGKILL);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST);
    }
}

/// Every process below this one.
fn descendants() -> Vec<i32> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else {
            continue;
        };
        let Ok(stat) = std::fs::read(entry.path().join("stat")) else { continue };
        // The name in parentheses may hold anything: the fields start after the last one.
        let Some(end) = stat.iter().rposition(|&b| b == b')') else { continue };
        let rest = String::from_utf8_lossy(&stat[end + 1..]);
        if let Some(parent) = rest.split_ascii_whitespace().nth(1).and_then(|p| p.parse().ok()) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut open = vec![i32::try_from(std::process::id()).unwrap_or(0)];
    while let Some(pid) = open.pop() {
        for child in children.remove(&pid).unwrap_or_default() {
            found.push(child);
            open.push(child);
        }
    }
    found
}
