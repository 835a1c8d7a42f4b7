//! The closing summary: some ten lines on stderr.

use crate::counters::{Counters, Refusal};
use crate::job::Job;
use crate::launch::Outcome;
use crate::trace::event::Rule;
use crate::trace::{Slow, Tally, Written, hint};
use crate::view::Seen;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
pub use vrift_events::printable;

/// How many refusals are shown by name.
const SHOWN: usize = 4;
/// How many lines there are at most.
const LINES: usize = 10;

/// The lines, each ended. `written` is what a trace says taken together; `cost` the supervisor's
/// own processor time.
pub fn lines(job: &Job, outcome: &Outcome, written: Option<&Written>, cost: Duration) -> String {
    let c: &Counters = &job.counters;
    let tally = written.map(|written| &written.tally);
    let mut lines = match &job.seen {
        Seen::Mounted => mounted(c, outcome, cost),
        Seen::Notified { instead } => {
            let mut lines = notified(c, outcome, tally, cost);
            lines.extend(instead.iter().map(|why| format!("  view:     notify: {why}")));
            lines
        }
    };
    if let Some(fetched) = fetched(job).filter(|(blobs, _)| *blobs > 0) {
        let place = job.lazy.first().map(|tree| printable(&tree.place)).unwrap_or_default();
        let more = if job.lazy.len() > 1 { " and other places" } else { "" };
        let (blobs, size) = (fetched.0, bytes(fetched.1));
        lines.push(format!("  fetched:  {blobs} contents ({size}) from {place}{more}"));
    }
    let last = closing(c, outcome, tally);
    let failures = c.failures();
    let failed = c.failed.load(Relaxed);
    let refused = c.refused.load(Relaxed);
    if refused == 0 && is_mounted(job) {
        // What the kernel refused is not known.
    } else if refused == 0 {
        lines.push("  refused:  nothing".into());
    } else {
        lines.push(format!("  refused:  {refused} calls"));
        // Two are for what failed, if something did.
        let taken = lines.len() + last.len() + if failed > 0 { 2 } else { 0 };
        let room = LINES.saturating_sub(taken).clamp(1, SHOWN);
        for (refusal, times) in c.refusals().iter().take(room) {
            lines.push(format!(
                "    {} {}: {}{}{}; {}",
                refusal.call,
                printable(&refusal.path),
                refusal.errno,
                refusal.why.as_ref().map_or(String::new(), |why| format!(" ({why})")),
                if *times > 1 { format!(" ({times} times)") } else { String::new() },
                way_out(job, refusal).1
            ));
        }
    }
    lines.extend(last);
    if failed > 0 {
        lines.push(format!("  failed:   {failed} calls"));
        let room = LINES.saturating_sub(lines.len()).clamp(1, SHOWN);
        for (reason, times) in failures.iter().take(room) {
            let times = if *times > 1 { format!(" ({times} times)") } else { String::new() };
            lines.push(format!("    {reason}{times}"));
        }
    }
    lines.into_iter().fold(String::new(), |all, line| all + &line + "\n")
}

/// How a job ended that the supervisor answered for.
fn notified(c: &Counters, outcome: &Outcome, tally: Option<&Tally>, cost: Duration) -> Vec<String> {
    vec![
        format!(
            "vrift-trace: {} processes, {} programs run, {:.2} s, exit status {}",
            tally.map_or(c.processes.load(Relaxed), Tally::processes),
            c.execs.load(Relaxed),
            outcome.wall.as_secs_f64(),
            outcome.status
        ),
        format!(
            "  read:     {} files from the store ({}), opened {} times{}",
            c.files.load(Relaxed),
            bytes(c.bytes.load(Relaxed)),
            c.opens.load(Relaxed),
            tally.map_or(String::new(), |tally| format!(
                "; in all {} files read, {} written",
                tally.read(),
                tally.written()
            ))
        ),
        format!(
            "  look-ups: {} ({} found nothing in a mount{}), {} calls supervised in {:.2} s",
            c.look_ups.load(Relaxed),
            c.missing.load(Relaxed),
            tally.map_or(String::new(), |tally| format!("; {} paths in vain", tally.vain())),
            c.notifications.load(Relaxed),
            cost.as_secs_f64()
        ),
    ]
}

/// How a job ended whose mounts the kernel answered for. Nobody counted what else it did.
fn mounted(c: &Counters, outcome: &Outcome, cost: Duration) -> Vec<String> {
    vec![
        format!("vrift-trace: {:.2} s, exit status {}", outcome.wall.as_secs_f64(), outcome.status),
        format!(
            "  read:     {} files from the store ({}), by file systems mounted for the job",
            c.files.load(Relaxed),
            bytes(c.bytes.load(Relaxed)),
        ),
        format!(
            "  the rest: look-ups and refused changes are the kernel's, which counts none; the \
             supervisor took {:.2} s",
            cost.as_secs_f64()
        ),
    ]
}

/// How many contents came from remotes, and their bytes; None where nothing had to.
fn fetched(job: &Job) -> Option<(u64, u64)> {
    let fetcher = job.fetcher.as_ref()?;
    Some((fetcher.blobs.load(Relaxed), fetcher.bytes.load(Relaxed)))
}

/// What comes after the refusals: at most three lines.
fn closing(c: &Counters, outcome: &Outcome, tally: Option<&Tally>) -> Vec<String> {
    let mut lines = Vec::new();
    let slow = |slow: &Slow| format!("{:.2} s {}", slow.wall.as_secs_f64(), slow.program);
    if let Some(slowest) = tally.map(Tally::slowest).filter(|slowest| !slowest.is_empty()) {
        let slowest: Vec<_> = slowest.iter().map(slow).collect();
        lines.push(format!("  slowest:  {}", slowest.join(", ")));
    }
    if outcome.ended > 0 {
        lines.push(format!("  ended:    {} processes that outlived the command", outcome.ended));
    }
    let unknown = c.unknown_calls();
    if let Some((arch, nr, times)) = unknown.first() {
        let more = if unknown.len() > 1 {
            format!(" and {} more", unknown.len() - 1)
        } else {
            String::new()
        };
        lines.push(format!(
            "  unknown:  system call {nr} of {arch} ({times} times){more}: newer than this program, \
             not supervised"
        ));
    }
    lines
}

/// What refused a change, and what would allow it.
fn way_out(job: &Job, refusal: &Refusal) -> (Rule, String) {
    let mount = job.origin(&refusal.path).filter(|_| refusal.why.is_none());
    let by = refusal.rule.as_ref().or(mount.map(|mount| &mount.origin));
    let rule = by.map(Rule::of).unwrap_or_default();
    let hint = hint::allow(&hint::Refusal {
        err: &refusal.errno.to_string(),
        path: &refusal.path.as_slice().into(),
        projected: mount.is_some(),
        runs: refusal.call.starts_with("execve"),
        rule: &rule,
    });
    (rule, hint)
}

fn is_mounted(job: &Job) -> bool {
    job.seen == Seen::Mounted
}

/// The same as one JSON object.
pub fn json(job: &Job, outcome: &Outcome, written: Option<&Written>, cost: Duration) -> String {
    let c = &job.counters;
    let refusals: Vec<_> = c
        .refusals()
        .into_iter()
        .map(|(r, times)| {
            let (rule, hint) = way_out(job, &r);
            serde_json::json!({
                "call": r.call,
                "errno": r.errno.to_string(),
                "path": printable(&r.path),
                "why": r.why,
                "rule": rule,
                "allow": hint,
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
    let trace = written.map(|written| {
        let tally = &written.tally;
        let slow = |slow: &Slow| serde_json::json!({ "seconds": slow.wall.as_secs_f64(), "program": slow.program });
        serde_json::json!({
            "events": written.events,
            "processes": tally.processes(),
            "files_read": tally.read(),
            "files_written": tally.written(),
            "looked_up_in_vain": tally.vain(),
            "slowest": tally.slowest().iter().map(slow).collect::<Vec<_>>(),
        })
    });
    // Of calls that the kernel answers alone nobody counts any.
    let asked = |n: &std::sync::atomic::AtomicU64| (!is_mounted(job)).then(|| n.load(Relaxed));
    let instead = match &job.seen {
        Seen::Notified { instead } => instead.as_deref(),
        Seen::Mounted => None,
    };
    serde_json::json!({
        "status": outcome.status,
        "wall_seconds": outcome.wall.as_secs_f64(),
        "view": job.seen.name(),
        "not_mounted": instead,
        "processes": asked(&c.processes),
        "programs": asked(&c.execs),
        "files_read": c.files.load(Relaxed),
        "bytes_read": c.bytes.load(Relaxed),
        "blobs_fetched": fetched(job).map(|(blobs, _)| blobs),
        "bytes_fetched": fetched(job).map(|(_, bytes)| bytes),
        "opens": asked(&c.opens),
        "look_ups": asked(&c.look_ups),
        "missing": asked(&c.missing),
        "notifications": c.notifications.load(Relaxed),
        "supervision_seconds": cost.as_secs_f64(),
        "refused": c.refused.load(Relaxed),
        "refusals": refusals,
        "ended": outcome.ended,
        "failed": c.failed.load(Relaxed),
        "failures": failures,
        "unknown_calls": unknown,
        "trace": trace,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_names_are_shown_plainly() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(3 << 30), "3.0 GiB");
    }
}
