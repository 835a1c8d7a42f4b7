//! `--html`: one page that holds everything and loads nothing.
//!
//! Calls that say the same are taken together (process, path, access, result), names stand once,
//! and only the rows that can be seen are made, so that traces of 100,000 events and more open
//! quickly.

use super::Model;
use crate::trace::event::Access;
use crate::trace::{Text, hint};
use serde_json::{Value, json};
use std::collections::HashMap;
use vrift_events::printable;

const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// The page.
pub fn page(model: &Model) -> Vec<u8> {
    // `<` can't begin a tag inside of JSON that has none.
    let data = data(model).to_string().replace('<', "\\u003c");
    let command: Vec<String> = model.job.command.iter().map(Text::shown).collect();
    let title = escaped(&command.join(" "));
    // The data go in last: whatever stands in them is not looked at any more.
    PAGE.replace("{{title}}", &title)
        .replace("{{style}}", STYLE)
        .replace("{{script}}", SCRIPT)
        .replacen("{{data}}", &data, 1)
        .into_bytes()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('{', "&#123;")
}

/// Names that stand once.
#[derive(Default)]
struct Names<'a> {
    at: HashMap<&'a [u8], usize>,
    all: Vec<String>,
}

impl<'a> Names<'a> {
    fn number(&mut self, path: &'a [u8]) -> usize {
        *self.at.entry(path).or_insert_with(|| {
            self.all.push(printable(path));
            self.all.len() - 1
        })
    }
}

fn data(model: &Model) -> Value {
    let mut names = Names::default();
    let mut uses: HashMap<(u32, usize, usize, &str), (u64, u64)> = HashMap::new();
    let mut programs = Vec::new();
    for op in model.ops.iter().filter(|op| !op.place().is_empty()) {
        let access = Access::ALL.iter().position(|access| *access == op.access).unwrap_or(0);
        let name = names.number(op.place());
        let err = op.err.as_deref().unwrap_or_default();
        uses.entry((op.process, name, access, err)).or_insert((0, op.t)).0 += 1;
        for interpreter in op.exec.iter().flat_map(|exec| &exec.interpreters) {
            let name = names.number(interpreter.as_bytes());
            uses.entry((op.process, name, 0, "")).or_insert((0, op.t)).0 += 1;
        }
        if let Some(exec) = &op.exec {
            let argv: Vec<String> = exec.argv.iter().map(Text::shown).collect();
            let cwd = exec.cwd.as_ref().map(Text::shown);
            programs.push(json!([op.process, op.t / 1000, name, argv, cwd]));
        }
    }
    let set = |paths: super::sets::Paths<'_>| -> Vec<usize> {
        // Every path of a set was an operation's or an interpreter's.
        paths.iter().filter_map(|(path, _)| names.at.get(path).copied()).collect()
    };
    let sets = &model.sets;
    let sets = json!({
        "inputs": set(sets.inputs()), "outputs": set(sets.outputs()),
        "temporary": set(sets.temporary()), "removed": set(sets.removed()),
        "directories": set(sets.directories()), "listed": set(sets.listed()),
    });
    let mut uses: Vec<_> = uses.into_iter().collect();
    uses.sort_unstable_by_key(|((process, name, ..), (_, t))| (*process, *t, *name));
    let uses: Vec<Value> = uses
        .into_iter()
        .map(|((process, name, access, err), (times, t))| {
            json!([process, name, access, err, times, t / 1000])
        })
        .collect();
    let processes: Vec<Value> = model
        .processes
        .iter()
        .map(|p| {
            let end = p.start + model.wall(p);
            json!([
                p.number,
                p.pid,
                p.parent,
                p.start / 1000,
                end / 1000,
                p.status,
                p.signal,
                model.title(p)
            ])
        })
        .collect();
    let refused: Vec<Value> = model
        .ops
        .iter()
        .filter_map(|op| {
            let refused = op.refused.as_ref()?;
            Some(json!([
                op.process,
                op.call,
                printable(op.place()),
                op.err,
                refused.rule.to_string(),
                refused.why,
                hint::of(op)
            ]))
        })
        .collect();
    json!({
        "job": {
            "command": model.job.command.iter().map(Text::shown).collect::<Vec<_>>(),
            "cwd": model.job.cwd.shown(), "name": model.job.name, "began": model.job.began,
            "kernel": model.job.kernel, "machine": model.job.machine,
            "mounts": model.job.mounts.iter().map(|m| json!([
                m.at.shown(), m.manifest.shown(), m.mode, m.rule.to_string(),
            ])).collect::<Vec<_>>(),
        },
        "status": model.end.as_ref().map(|end| end.status),
        "supervision_ms": model.end.as_ref().map(|end| end.supervision_ms),
        "events": model.ops.len(),
        "last": model.last / 1000,
        "access": Access::ALL.map(Access::word),
        "processes": processes,
        "programs": programs,
        "names": names.all,
        "uses": uses,
        "sets": sets,
        "refused": refused,
    })
}
