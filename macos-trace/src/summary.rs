//! What is said at the end, on stderr.

use crate::run::Outcome;

/// As text.
pub fn text(outcome: &Outcome) -> String {
    let mut lines = format!(
        "vrift-trace: exit status {}, {:.2} s, {}\n",
        outcome.status,
        outcome.took.as_secs_f64(),
        outcome.means.shown()
    );
    if let Some(seen) = &outcome.seen {
        lines += &format!(
            "  Endpoint Security: {} processes, {} events, {} asked, {} refused, {} answered late\n",
            seen.processes,
            seen.tally.events,
            seen.tally.asked,
            seen.tally.refused,
            seen.tally.late + seen.tally.failed
        );
        if seen.incomplete {
            lines += &format!(
                "  {} events were lost: what was recorded is not all that happened\n",
                seen.lost
            );
        }
    }
    lines
}

/// As one object.
pub fn json(outcome: &Outcome) -> String {
    let endpoint = outcome.seen.map(|seen| {
        serde_json::json!({
            "processes": seen.processes,
            "events": seen.tally.events,
            "asked": seen.tally.asked,
            "refused": seen.tally.refused,
            "late": seen.tally.late,
            "failed": seen.tally.failed,
            "lost": seen.lost,
            "complete": !seen.incomplete,
        })
    });
    let whole = serde_json::json!({
        "status": outcome.status,
        "seconds": outcome.took.as_secs_f64(),
        "shim": outcome.means.shim,
        "unguarded": outcome.means.unguarded,
        "endpoint": endpoint,
    });
    format!("{whole}\n")
}
