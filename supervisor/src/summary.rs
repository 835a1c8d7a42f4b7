//! The closing summary: some ten lines on stderr.

use crate::counters::Counters;
use crate::job::Job;
use crate::launch::Outcome;
use std::fmt::Write as _;
use std::sync::atomic::Ordering::Relaxed;

/// How many refusals are shown by name.
const SHOWN: usize = 4;

/// The lines, each ended.
pub fn lines(job: &Job, outcome: &Outcome) -> String {
    let c: &Counters = &job.counters;
    let mut out = String::new();
    let _ = writeln!(
        out,
        "vrift-trace: {} processes, {} programs run, {:.2} s, exit status {}",
        c.processes.load(Relaxed),
        c.execs.load(Relaxed),
        outcome.wall.as_secs_f64(),
        outcome.status
    );
    let _ = writeln!(
        out,
        "  read:     {} files from the store ({}), opened {} times",
        c.files.load(Relaxed),
        bytes(c.bytes.load(Relaxed)),
        c.opens.load(Relaxed)
    );
    let _ = writeln!(
        out,
        "  look-ups: {} ({} found nothing in a mount), {} calls supervised",
        c.look_ups.load(Relaxed),
        c.missing.load(Relaxed),
        c.notifications.load(Relaxed)
    );
    let refused = c.refused.load(Relaxed);
    if refused == 0 {
        let _ = writeln!(out, "  refused:  nothing");
    } else {
        let _ = writeln!(out, "  refused:  {refused} changes");
        for (refusal, times) in c.refusals().iter().take(SHOWN) {
            let _ = writeln!(
                out,
                "    {} {}: {}{}{}",
                refusal.call,
                printable(&refusal.path),
                refusal.errno,
                refusal.why.map_or(String::new(), |why| format!(" ({why})")),
                if *times > 1 { format!(" ({times} times)") } else { String::new() }
            );
        }
    }
    if outcome.ended > 0 {
        let _ = writeln!(out, "  ended:    {} processes that outlived the command", outcome.ended);
    }
    let unknown = c.unknown_calls();
    if let Some((arch, nr, times)) = unknown.first() {
        let more = if unknown.len() > 1 {
            format!(" and {} more", unknown.len() - 1)
        } else {
            String::new()
        };
        let _ = writeln!(
            out,
            "  unknown:  system call {nr} of {arch} ({times} times){more}: newer than this program, \
             not supervised"
        );
    }
    if c.failed.load(Relaxed) > 0 {
        let failures = c.failures();
        // Ten lines in all: what the refusals left of the room.
        let room = SHOWN.saturating_sub(c.refusals().len()).max(1);
        let _ = writeln!(out, "  failed:   {} calls", c.failed.load(Relaxed));
        for (reason, times) in failures.iter().take(room) {
            let times = if *times > 1 { format!(" ({times} times)") } else { String::new() };
            let _ = writeln!(out, "    {reason}{times}");
        }
    }
    out
}

/// The same as one JSON object.
pub fn json(job: &Job, outcome: &Outcome) -> String {
    let c = &job.counters;
    let refusals: Vec<_> = c
        .refusals()
        .into_iter()
        .map(|(r, times)| {
            serde_json::json!({
                "call": r.call,
                "errno": r.errno.to_string(),
                "path": printable(&r.path),
                "why": r.why,
                "times": times,
            })
        })
        .collect();
    let unknown: Vec<_> = c
        .unknown_calls()
        .into_iter()
        .map(|(arch, nr, times)| serde_json::json!({ "arch": arch, "nr": nr, "times": times }))
        .collect();
    let failures: Vec<_> = c
        .failures()
        .into_iter()
        .map(|(reason, times)| serde_json::json!({ "reason": reason, "times": times }))
        .collect();
    serde_json::json!({
        "status": outcome.status,
        "wall_seconds": outcome.wall.as_secs_f64(),
        "processes": c.processes.load(Relaxed),
        "programs": c.execs.load(Relaxed),
        "files_read": c.files.load(Relaxed),
        "bytes_read": c.bytes.load(Relaxed),
        "opens": c.opens.load(Relaxed),
        "look_ups": c.look_ups.load(Relaxed),
        "missing": c.missing.load(Relaxed),
        "notifications": c.notifications.load(Relaxed),
        "refused": c.refused.load(Relaxed),
        "refusals": refusals,
        "ended": outcome.ended,
        "failed": c.failed.load(Relaxed),
        "failures": failures,
        "unknown_calls": unknown,
    })
    .to_string()
        + "\n"
}

/// Bytes in the unit that fits.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut scaled = n;
    let mut rest = 0;
    while scaled >= 1024 && unit + 1 < UNITS.len() {
        rest = scaled % 1024;
        scaled /= 1024;
        unit += 1;
    }
    if unit == 0 {
        format!("{n} B")
    } else {
        format!("{scaled}.{} {}", rest * 10 / 1024, UNITS[unit])
    }
}

/// A path for a message: what is not printable is escaped.
pub fn printable(path: &[u8]) -> String {
    path.utf8_chunks().fold(String::new(), |mut out, chunk| {
        out.extend(chunk.valid().chars().flat_map(|c| {
            if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }
        }));
        for b in chunk.invalid() {
            let _ = write!(out, "\\x{b:02x}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_names_are_shown_plainly() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(3 << 30), "3.0 GiB");
        assert_eq!(printable(b"/a\nb\xff/\xc3\xa9"), "/a\\nb\\xff/\u{e9}");
    }
}
