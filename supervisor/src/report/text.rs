//! `--format text`: a trace for a terminal.

use super::Model;
use super::model::Process;
use super::sets::Paths;
use crate::trace::event::Access;
use crate::trace::{Text, hint};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::time::Duration;
use vrift_events::printable;

/// How many lines a list has at most; what is left out is counted.
const MOST: usize = 20;

/// The report.
pub fn text(model: &Model) -> Vec<u8> {
    let mut out = String::new();
    head(model, &mut out);
    out.push_str("\nprocesses\n");
    let mut rest = 10 * MOST;
    let children = model.children();
    for top in children.get(&None).into_iter().flatten() {
        tree(model, &children, top, 1, &mut rest, &mut out);
    }
    if rest == 0 {
        let _ = writeln!(out, "  … {} processes in all; see --html", model.processes.len());
    }
    let sets = &model.sets;
    list("outputs", &sets.outputs(), model, &mut out);
    list("removed", &sets.removed(), model, &mut out);
    by_directory("inputs", &sets.inputs(), &mut out);
    in_vain(model, &mut out);
    refused(model, &mut out);
    out.into_bytes()
}

fn head(model: &Model, out: &mut String) {
    let command: Vec<String> = model.job.command.iter().map(Text::shown).collect();
    let _ = writeln!(out, "{}", command.join(" "));
    let _ = writeln!(out, "  in {}, Linux {}", model.job.cwd.shown(), model.job.kernel);
    let took = Duration::from_nanos(model.last).as_secs_f64();
    let ended = match &model.end {
        Some(end) => format!("exit status {}", end.status),
        None => "the trace has no end: it, or who wrote it, was stopped".into(),
    };
    let count = model.processes.len();
    let _ = writeln!(out, "  {count} processes, {took:.2} s, {ended}");
    for mount in &model.job.mounts {
        let (at, what) = (mount.at.shown(), mount.manifest.shown());
        let _ = writeln!(out, "  mount {at}: {what}, {} ({})", mount.mode, mount.rule);
    }
}

fn tree(
    model: &Model,
    children: &HashMap<Option<u32>, Vec<&Process>>,
    process: &Process,
    depth: usize,
    rest: &mut usize,
    out: &mut String,
) {
    if *rest == 0 {
        return;
    }
    *rest -= 1;
    let took = Duration::from_nanos(model.wall(process)).as_secs_f64();
    let how = match (process.status, process.signal) {
        (Some(0), _) => String::new(),
        (Some(status), _) => format!("  status {status}"),
        (None, Some(signal)) => format!("  signal {signal}"),
        (None, None) => "  end unknown".into(),
    };
    // A chain of processes is as deep as it likes; a line is not.
    let indent = "  ".repeat(depth.min(MOST));
    let _ = writeln!(out, "{took:>8.2} s{indent}{}{how}", model.title(process));
    for child in children.get(&Some(process.number)).into_iter().flatten() {
        tree(model, children, child, depth + 1, rest, out);
    }
}

fn list(name: &str, paths: &Paths<'_>, model: &Model, out: &mut String) {
    if paths.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n{name} ({})", paths.len());
    for (path, _) in paths.iter().take(MOST) {
        let _ = writeln!(out, "  {}", printable(model.local(path)));
    }
    if paths.len() > MOST {
        let _ = writeln!(out, "  … and {} more", paths.len() - MOST);
    }
}

fn by_directory(name: &str, paths: &Paths<'_>, out: &mut String) {
    let mut dirs: BTreeMap<&[u8], usize> = BTreeMap::new();
    for (path, _) in paths {
        let cut = path.iter().rposition(|&b| b == b'/').unwrap_or(0);
        *dirs.entry(&path[..cut.max(1)]).or_default() += 1;
    }
    let mut dirs: Vec<_> = dirs.into_iter().collect();
    dirs.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let _ = writeln!(out, "\n{name} ({}), by directory", paths.len());
    for (dir, count) in dirs.iter().take(MOST) {
        let _ = writeln!(out, "{count:>6} {}", printable(dir));
    }
    if dirs.len() > MOST {
        let _ = writeln!(out, "       … and {} more directories", dirs.len() - MOST);
    }
}

fn in_vain(model: &Model, out: &mut String) {
    let mut vain: HashMap<&[u8], usize> = HashMap::new();
    for op in model.ops.iter().filter(|op| op.access == Access::Probe) {
        *vain.entry(op.place()).or_default() += 1;
    }
    if vain.is_empty() {
        return;
    }
    let _ = writeln!(out, "\nlooked up in vain ({} paths), most often", vain.len());
    let mut vain: Vec<_> = vain.into_iter().collect();
    vain.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    for (path, count) in vain.iter().take(MOST / 2) {
        let _ = writeln!(out, "{count:>6} {}", printable(path));
    }
}

fn refused(model: &Model, out: &mut String) {
    let refused: Vec<_> = model.ops.iter().filter(|op| op.refused.is_some()).collect();
    if refused.is_empty() {
        return;
    }
    let _ = writeln!(out, "\nrefused ({})", refused.len());
    for op in refused.iter().take(MOST) {
        let (path, err) = (printable(op.place()), op.err.as_deref().unwrap_or_default());
        let _ = writeln!(out, "  {} {path}: {err}; {}", op.call, hint::of(op));
    }
    if refused.len() > MOST {
        let _ = writeln!(out, "  … and {} more; see `vrift-trace explain`", refused.len() - MOST);
    }
}
