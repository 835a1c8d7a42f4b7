//! `--format json`: processes and the closed sets of files.

use super::Model;
use super::sets::Paths;
use crate::trace::Text;
use crate::trace::event::Op;
use crate::trace::hint;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// The report. With `hashes` the real inputs and outputs are hashed as they are now.
pub fn json(model: &Model, hashes: bool) -> Vec<u8> {
    let sets = &model.sets;
    let plain = |paths: Paths<'_>| paths.into_iter().map(|(path, _)| text(path)).collect();
    let hashed = |paths: Paths<'_>| -> Value {
        paths.into_iter().map(|(path, blob)| file(path, blob, hashes)).collect()
    };
    let report = json!({
        "job": model.job,
        "end": model.end,
        "whole": model.end.is_some(),
        "processes": processes(model),
        "inputs": hashed(sets.inputs()),
        "outputs": hashed(sets.outputs()),
        "temporary": Value::Array(plain(sets.temporary())),
        "removed": Value::Array(plain(sets.removed())),
        "directories": Value::Array(plain(sets.directories())),
        "probes": Value::Array(plain(sets.probes())),
        "listed": Value::Array(plain(sets.listed())),
        "looked_at": Value::Array(plain(sets.looked_at())),
        "refused": model.ops.iter().filter_map(|op| refused(model, op)).collect::<Vec<_>>(),
    });
    let mut out = serde_json::to_vec_pretty(&report).unwrap_or_default();
    out.push(b'\n');
    out
}

fn text(path: &[u8]) -> Value {
    json!(Text::from(path))
}

fn file(path: &[u8], blob: Option<&str>, hashes: bool) -> Value {
    let mut file = json!({ "path": Text::from(path) });
    let hash = match blob {
        Some(blob) => Some(blob.to_owned()),
        None if hashes => content(path),
        None => None,
    };
    if let (Some(hash), Some(file)) = (hash, file.as_object_mut()) {
        file.insert("hash".into(), hash.into());
    }
    file
}

/// The hash of a real file's content now; None: it is no regular file, or can't be read.
pub fn content(path: &[u8]) -> Option<String> {
    let path = std::path::Path::new(OsStr::from_bytes(path));
    let regular = std::fs::metadata(path).is_ok_and(|m| m.is_file());
    let bytes = std::fs::read(path).ok().filter(|_| regular)?;
    Some(vrift_store::Hash::of(&bytes).to_string())
}

fn processes(model: &Model) -> Vec<Value> {
    let program = |at: &usize| {
        let op = model.ops.get(*at)?;
        let exec = op.exec.as_ref()?;
        Some(json!({
            "t": op.t,
            "path": Text::from(op.place()),
            "argv": exec.argv,
            "env": exec.env,
            "cwd": exec.cwd,
        }))
    };
    let process = |process: &super::model::Process| {
        json!({
            "process": process.number,
            "pid": process.pid,
            "parent": process.parent,
            "start": process.start,
            "end": process.end,
            "status": process.status,
            "signal": process.signal,
            "programs": process.programs.iter().filter_map(program).collect::<Vec<_>>(),
        })
    };
    model.processes.iter().map(process).collect()
}

/// A refused call, and what would allow it.
fn refused(model: &Model, op: &Op) -> Option<Value> {
    let refused = op.refused.as_ref()?;
    Some(json!({
        "process": op.process,
        "program": model.process(op.process).map(|process| model.title(process)),
        "call": op.call,
        "access": op.access,
        "path": Text::from(op.place()),
        "err": op.err,
        "rule": refused.rule,
        "why": refused.why,
        "allow": hint::of(op),
    }))
}
