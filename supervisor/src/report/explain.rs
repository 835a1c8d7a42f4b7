//! `vrift-trace explain`: who was refused what, by which rule, and what would allow it; or all that
//! happened to one path.

use super::Model;
use crate::trace::event::Op;
use crate::trace::hint;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use vrift_events::printable;

/// How many calls of one kind are told for a path.
const MOST: usize = 200;

/// Explains every refusal, or all that was done with `path`. None: the trace has nothing to say.
pub fn explain(model: &Model, path: Option<&[u8]>) -> Option<Vec<u8>> {
    let mut out = String::new();
    match path {
        None => {
            let refused: Vec<&Op> = model.ops.iter().filter(|op| op.refused.is_some()).collect();
            for (op, times) in alike(&refused) {
                refusal(model, op, times, &mut out);
            }
        }
        Some(path) => {
            let concerns = |op: &&Op| {
                let given = op.path.as_ref().map(crate::trace::Text::as_bytes);
                op.place() == path || given == Some(path) || model.local(op.place()) == path
            };
            let ops: Vec<&Op> = model.ops.iter().filter(concerns).collect();
            let all = alike(&ops);
            for (op, times) in all.iter().take(MOST) {
                match op.refused {
                    Some(_) => refusal(model, op, *times, &mut out),
                    None => plain(model, op, *times, &mut out),
                }
            }
            if all.len() > MOST {
                let _ = writeln!(out, "… and {} more", all.len() - MOST);
            }
            interpreter_of(model, path, &mut out);
        }
    }
    (!out.is_empty()).then(|| out.into_bytes())
}

/// Calls of one process that say the same, told once: in the order of the first of each.
fn alike<'a>(ops: &[&'a Op]) -> Vec<(&'a Op, usize)> {
    let mut first: Vec<(&Op, usize)> = Vec::new();
    let mut at = BTreeMap::new();
    for op in ops {
        let key = (op.process, op.call.as_ref(), op.access, op.err.as_deref(), op.place());
        let index = *at.entry(key).or_insert_with(|| {
            first.push((op, 0));
            first.len() - 1
        });
        if let Some((_, times)) = first.get_mut(index) {
            *times += 1;
        }
    }
    first
}

fn who(model: &Model, op: &Op) -> String {
    match model.process(op.process) {
        Some(process) => format!("{} [{}]", model.title(process), process.pid),
        None => format!("process {}", op.process),
    }
}

fn often(times: usize) -> String {
    if times > 1 { format!(" ({times} times)") } else { String::new() }
}

fn refusal(model: &Model, op: &Op, times: usize, out: &mut String) {
    let Some(refused) = &op.refused else { return };
    let path = printable(op.place());
    let _ = writeln!(out, "{} {path}{}", op.access.word(), often(times));
    let _ = writeln!(out, "  who:   {}", who(model, op));
    let _ = writeln!(out, "  call:  {}, got {}", op.call, op.err.as_deref().unwrap_or("nothing"));
    if let Some(given) = &op.path
        && given.as_bytes() != op.place()
    {
        let _ = writeln!(out, "  named: {}", given.shown());
    }
    let _ = writeln!(out, "  rule:  {}: {}", refused.rule, refused.why);
    let _ = writeln!(out, "  allow: {}", hint::of(op));
}

fn plain(model: &Model, op: &Op, times: usize, out: &mut String) {
    let result = op.err.as_deref().unwrap_or("ok");
    let looked = if op.looked { ", as a look just before said" } else { "" };
    let blob = op.blob.as_ref().map_or(String::new(), |blob| format!(", blob {blob}"));
    let _ = writeln!(
        out,
        "{:>10.6} s  {:<6} {}{}\n  {}: {result}{looked}{blob}",
        std::time::Duration::from_nanos(op.t).as_secs_f64(),
        op.access.word(),
        who(model, op),
        often(times),
        op.call,
    );
}

/// Programs that the kernel opened this file for, unseen.
fn interpreter_of(model: &Model, path: &[u8], out: &mut String) {
    let runs = model.ops.iter().filter(|op| {
        op.exec.iter().flat_map(|exec| &exec.interpreters).any(|name| name.as_bytes() == path)
    });
    let count = runs.count();
    if count > 0 {
        let _ = writeln!(out, "the kernel opened it as interpreter of {count} programs");
    }
}
