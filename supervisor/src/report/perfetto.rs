//! `--format perfetto`: the Chrome trace event format, which ui.perfetto.dev and chrome://tracing
//! open. Each process is a track with a slice for each program; what it did with files are
//! instants on it. Times are in microseconds.

use super::Model;
use crate::trace::Text;
use serde_json::{Value, json};
use vrift_events::printable;

/// The events.
pub fn perfetto(model: &Model) -> Vec<u8> {
    let mut events = Vec::new();
    for process in &model.processes {
        let track = process.number;
        let named = |name: &str, args: Value| json!({ "ph": "M", "name": name, "pid": track, "tid": track, "args": args });
        let title = format!("{} [{}]", model.title(process), process.pid);
        events.push(named("process_name", json!({ "name": title })));
        events.push(named("process_sort_index", json!({ "sort_index": track })));
        let end = process.start + model.wall(process);
        let mut slices = vec![(process.start, None)];
        slices.extend(
            process.programs.iter().filter_map(|at| model.ops.get(*at)).map(|op| (op.t, Some(op))),
        );
        for (at, (start, op)) in slices.iter().enumerate() {
            let until = slices.get(at + 1).map_or(end, |(next, _)| *next);
            if op.is_none() && until.saturating_sub(*start) < 1000 {
                continue;
            }
            let exec = op.and_then(|op| op.exec.as_ref());
            let name = match op {
                Some(op) => printable(op.place().rsplit(|&b| b == b'/').next().unwrap_or_default()),
                None => "(forked)".to_owned(),
            };
            let argv: Vec<String> = exec.iter().flat_map(|e| &e.argv).map(Text::shown).collect();
            events.push(json!({
                "ph": "X", "cat": "process", "name": name, "pid": track, "tid": track,
                "ts": microseconds(*start), "dur": microseconds(until.saturating_sub(*start)),
                "args": { "argv": argv, "cwd": exec.and_then(|e| e.cwd.as_ref()).map(Text::shown),
                          "status": process.status, "signal": process.signal },
            }));
        }
        for op in process.ops.iter().filter_map(|at| model.ops.get(*at)) {
            events.push(json!({
                "ph": "i", "s": "t", "cat": op.access, "name": op.access, "pid": track, "tid": track,
                "ts": microseconds(op.t),
                "args": { "call": op.call, "path": printable(op.place()), "err": op.err },
            }));
        }
    }
    let whole = json!({ "displayTimeUnit": "ms", "traceEvents": events });
    serde_json::to_vec(&whole).unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "a job of 104 days is shown to the nanosecond")]
fn microseconds(ns: u64) -> f64 {
    ns as f64 / 1000.0
}
