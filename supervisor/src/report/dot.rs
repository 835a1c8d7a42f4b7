//! `--format dot`: processes and the files between them, for Graphviz.
//!
//! Inputs outside of the job's working directory and of the mounts are counted in one node for
//! each directory, or no picture of a build could be read.

use super::Model;
use crate::trace::event::{Access, Kind, Op};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use vrift_events::printable;

/// The graph.
pub fn dot(model: &Model) -> Vec<u8> {
    let mut out = String::from(
        "digraph job {\n  rankdir=LR;\n  node [fontname=\"sans-serif\", fontsize=10];\n",
    );
    for process in &model.processes {
        let label = quoted(&model.title(process));
        let _ = writeln!(
            out,
            "  p{} [shape=box, style=filled, fillcolor=lightblue, label={label}];",
            process.number
        );
        if let Some(parent) = process.parent.filter(|p| model.process(*p).is_some()) {
            let _ = writeln!(out, "  p{parent} -> p{} [style=dashed];", process.number);
        }
    }
    let mut edges = BTreeSet::new();
    let mut files: BTreeMap<Vec<u8>, BTreeSet<&[u8]>> = BTreeMap::new();
    for op in model.ops.iter().filter(|op| op.err.is_none() && op.kind != Some(Kind::Dir)) {
        let writes = match op.access {
            Access::Read | Access::Exec => false,
            Access::Write | Access::Create => true,
            _ => continue,
        };
        let node = node(model, op, writes);
        files.entry(node.clone()).or_default().insert(op.place());
        edges.insert((node, op.process, writes));
    }
    let ids: BTreeMap<&Vec<u8>, usize> = files.keys().zip(1..).collect();
    for (node, paths) in &files {
        let name = printable(node);
        let label = if paths.len() > 1 { format!("{name} ({} files)", paths.len()) } else { name };
        let _ = writeln!(out, "  f{} [shape=ellipse, label={}];", ids[node], quoted(&label));
    }
    for (node, process, writes) in &edges {
        let file = ids[node];
        let _ = match writes {
            true => writeln!(out, "  p{process} -> f{file};"),
            false => writeln!(out, "  f{file} -> p{process};"),
        };
    }
    out.push_str("}\n");
    out.into_bytes()
}

/// The node of a file: itself, or its directory.
fn node(model: &Model, op: &Op, writes: bool) -> Vec<u8> {
    let path = op.place();
    let local = model.local(path);
    if writes || op.mount.is_some() || local.len() < path.len() {
        return local.to_vec();
    }
    let cut = path.iter().rposition(|&b| b == b'/').unwrap_or(0);
    [&path[..cut], b"/"].concat()
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
