//! `report A --against B`: what one job did that another did not.

use super::Model;
use super::sets::Paths;
use crate::trace::Text;
use crate::trace::event::Op;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use vrift_events::printable;

/// One set of both jobs.
struct Difference<'a> {
    name: &'static str,
    /// Only in the first.
    more: Vec<&'a [u8]>,
    /// Only in the second.
    less: Vec<&'a [u8]>,
    /// In both, with another content.
    changed: Vec<&'a [u8]>,
}

/// Compares; with `as_json` as one object, else as lines with `+` (only in the first), `-` (only in
/// the second) and `~` (other content). True: they are the same.
pub fn compare(a: &Model, b: &Model, as_json: bool) -> (Vec<u8>, bool) {
    let differences = [
        of("inputs", &a.sets.inputs(), &b.sets.inputs()),
        of("outputs", &a.sets.outputs(), &b.sets.outputs()),
        of("removed", &a.sets.removed(), &b.sets.removed()),
        of("probes", &a.sets.probes(), &b.sets.probes()),
        of("listed", &a.sets.listed(), &b.sets.listed()),
        of("refused", &refused(a), &refused(b)),
    ];
    let empty = |d: &Difference<'_>| d.more.is_empty() && d.less.is_empty() && d.changed.is_empty();
    let same = differences.iter().all(empty);
    if as_json {
        let texts =
            |paths: &[&[u8]]| -> Value { paths.iter().map(|p| json!(Text::from(*p))).collect() };
        let object: Map<String, Value> = differences
            .iter()
            .map(|d| {
                let sets = json!({
                    "only_here": texts(&d.more), "only_there": texts(&d.less), "changed": texts(&d.changed),
                });
                (d.name.to_owned(), sets)
            })
            .chain([("same".to_owned(), Value::from(same))])
            .collect();
        let mut out = serde_json::to_vec_pretty(&object).unwrap_or_default();
        out.push(b'\n');
        return (out, same);
    }
    let mut out = String::new();
    for d in differences.iter().filter(|d| !empty(d)) {
        let _ = writeln!(
            out,
            "{}: {} more, {} less, {} changed",
            d.name,
            d.more.len(),
            d.less.len(),
            d.changed.len()
        );
        for (sign, paths) in [('+', &d.more), ('-', &d.less), ('~', &d.changed)] {
            for path in paths {
                let _ = writeln!(out, "  {sign} {}", printable(path));
            }
        }
    }
    if same {
        out.push_str("the same inputs, outputs, probes, listings and refusals\n");
    }
    (out.into_bytes(), same)
}

fn of<'a>(name: &'static str, a: &Paths<'a>, b: &Paths<'a>) -> Difference<'a> {
    let names =
        |paths: &Paths<'a>| -> BTreeSet<&'a [u8]> { paths.iter().map(|(p, _)| *p).collect() };
    let (in_a, in_b) = (names(a), names(b));
    let blobs: std::collections::HashMap<_, _> = b.iter().copied().collect();
    let changed = a.iter().filter(
        |(path, blob)| matches!((blob, blobs.get(path)), (Some(a), Some(Some(b))) if a != b),
    );
    Difference {
        name,
        more: in_a.difference(&in_b).copied().collect(),
        less: in_b.difference(&in_a).copied().collect(),
        changed: changed.map(|(path, _)| *path).collect(),
    }
}

fn refused(model: &Model) -> Paths<'_> {
    let refused: BTreeSet<&[u8]> =
        model.ops.iter().filter(|op| op.refused.is_some()).map(Op::place).collect();
    refused.into_iter().map(|path| (path, None)).collect()
}
