//! Asks the rules that were learnt about each call of the traces: what was answered has to be
//! answered again, and what was not there must not be refused instead.

use super::plan::{Level, Plan};
use super::words::Words;
use crate::report::Model;
use crate::trace::Text;
use crate::trace::event::{Access, Kind, Op};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use vrift_events::printable;
use vrift_policy::{
    Errno, Grant, MountSpec, Operation, Pattern, Policy, RealTarget, Rules, Surroundings, Verdict,
    decide_exec, decide_rule,
};

/// Mends a plan until its rules answer what the traces say: the text that comes of it, and the paths
/// about which rules that somebody wrote answer otherwise.
///
/// # Errors
/// What `make` says.
pub fn mend(
    plan: &mut Plan,
    traces: &[Model],
    words: &Words,
    mounts: &[MountSpec],
    around: &Surroundings,
    make: impl Fn(&Plan) -> Result<(String, Policy), String>,
) -> Result<(String, Vec<Vec<u8>>), String> {
    loop {
        let (text, policy) = make(plan)?;
        let ways = mounts.iter().map(|mount| mount.at.as_path());
        let rules =
            Rules::new(&policy.rules, ways, around).map_err(|faults| super::first_of(&faults))?;
        let mut otherwise: BTreeSet<Vec<u8>> = BTreeSet::new();
        let before = plan.clone();
        for op in traces.iter().flat_map(|trace| &trace.ops) {
            for wrong in all_wrong(&rules, op) {
                let by = wrong.by.and_then(|by| by.reason.as_deref());
                if by.is_some_and(|reason| reason.starts_with(super::file::LEARNT)) {
                    wrong.mend(plan, words);
                }
                otherwise.insert(wrong.path.to_vec());
            }
        }
        // What was mended is asked again.
        if *plan == before {
            return Ok((text, otherwise.into_iter().collect()));
        }
    }
}

/// A call that the rules answer otherwise than it was answered.
struct Wrong<'a> {
    by: Option<&'a Pattern>,
    path: &'a [u8],
    errno: Errno,
    what: Mend,
}

/// What would be right.
enum Mend {
    /// Names can be looked up in that directory.
    Way,
    /// That it is not there.
    Nothing,
    Grant(Level),
    Run,
}

impl Wrong<'_> {
    fn mend(&self, plan: &mut Plan, words: &Words) {
        let (pattern, nobody) = (words.pattern(self.path), BTreeSet::new());
        match self.what {
            Mend::Way => plan.closed_directory(&pattern, Level::Read, false, &nobody),
            Mend::Nothing => plan.add(pattern, Level::Hide, &nobody),
            Mend::Grant(level) => plan.add(pattern, level, &nobody),
            Mend::Run => plan.run(pattern, &nobody),
        }
    }
}

/// What the rules would refuse of a trace: one line for each kind of call and path.
pub fn refusals(rules: &Rules, trace: &Model) -> Vec<String> {
    let mut lines: Vec<(String, BTreeSet<String>, usize)> = Vec::new();
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    for op in &trace.ops {
        let Some(wrong) = all_wrong(rules, op).into_iter().next() else { continue };
        let by = wrong.by.map_or(String::new(), |by| {
            let reason = by.reason.as_ref();
            let reason =
                reason.map_or(String::new(), |why| format!(": {}", printable(why.as_bytes())));
            format!(", by {:?} ({}{reason})", by.text, by.origin)
        });
        let instead = op.err.as_deref().map_or(String::new(), |err| format!(" instead of {err}"));
        let place = if wrong.path == op.place() {
            String::new()
        } else {
            format!(" because of {}", printable(wrong.path))
        };
        let (what, path) = (op.access.word(), printable(op.place()));
        let line = format!("{what} {path}: {}{instead}{place}{by}", wrong.errno);
        let at = *known.entry(line).or_insert_with_key(|line| {
            lines.push((line.clone(), BTreeSet::new(), 0));
            lines.len() - 1
        });
        if let Some((_, who, times)) = lines.get_mut(at) {
            who.extend(trace.process(op.process).map(|process| trace.title(process)));
            *times += 1;
        }
    }
    let told = |(line, who, times): (String, BTreeSet<String>, usize)| {
        let first = who.first().map_or(String::new(), |first| format!("; {first}"));
        let more =
            if who.len() > 1 { format!(" and {} more", who.len() - 1) } else { String::new() };
        let times = if times > 1 { format!(", {times} times") } else { String::new() };
        format!("{line}{first}{more}{times}")
    };
    lines.into_iter().map(told).collect()
}

/// What the rules answer otherwise of one call: its own place, links on the way there, and what the
/// kernel opens besides.
fn all_wrong<'a>(rules: &'a Rules, op: &'a Op) -> Vec<Wrong<'a>> {
    if op.refused.is_some() {
        return Vec::new();
    }
    let mut all = Vec::new();
    let nothing = op.err.as_deref() == Some("ENOENT");
    for link in op.through.iter().map(Text::as_bytes).filter(|_| !nothing) {
        let verdict = rules.at(link);
        if verdict.grant == Grant::Hide {
            let what = Mend::Grant(Level::Read);
            all.push(Wrong { by: verdict.by, path: link, errno: Errno::ENOENT, what });
        }
    }
    let interpreters = op.exec.iter().flat_map(|exec| &exec.interpreters);
    for path in interpreters.map(Text::as_bytes) {
        let verdict = rules.at(path);
        let denied = decide_rule(Operation::Execute, verdict.grant, RealTarget::File);
        if let Some(errno) = denied {
            let what = Mend::Grant(Level::Read);
            all.push(Wrong { by: verdict.by, path, errno, what });
        }
        if verdict.no_exec.is_some() {
            all.push(Wrong { by: verdict.no_exec, path, errno: Errno::EACCES, what: Mend::Run });
        }
    }
    let path = op.place();
    if op.mount.is_none() && path.first() == Some(&b'/') && !path.ends_with(b" (deleted)") {
        all.extend(wrong(rules, op));
    }
    all
}

fn wrong<'a>(rules: &'a Rules, op: &'a Op) -> Option<Wrong<'a>> {
    let path = op.place();
    let nothing = matches!(op.err.as_deref(), Some("ENOENT" | "ENOTDIR"));
    let above = Path::new(OsStr::from_bytes(path)).ancestors().skip(1).collect::<Vec<_>>();
    for above in above.into_iter().rev() {
        let dir = above.as_os_str().as_bytes();
        let Verdict { grant, by, .. } = rules.at(dir);
        match grant {
            // What is not there is not there either way.
            Grant::Hide if nothing => return None,
            Grant::Hide => {
                return Some(Wrong { by, path: dir, errno: Errno::ENOENT, what: Mend::Way });
            }
            // What is not there is not shut.
            Grant::Deny if nothing && above.symlink_metadata().is_err() => return None,
            Grant::Deny => {
                return Some(Wrong { by, path: dir, errno: Errno::EACCES, what: Mend::Way });
            }
            Grant::Search | Grant::ReadOnly | Grant::ReadWrite => {}
        }
    }
    let Verdict { grant, by, no_exec } = rules.at(path);
    let target = match op.kind {
        _ if nothing => RealTarget::Missing,
        Some(Kind::File) => RealTarget::File,
        Some(Kind::Dir) => RealTarget::Directory,
        Some(Kind::Link) => RealTarget::Symlink,
        Some(Kind::Other) => RealTarget::Special,
        None => RealTarget::File,
    };
    let target =
        if op.access == Access::Create && op.err.is_none() { RealTarget::Missing } else { target };
    let asked = operations(op, target);
    let refused = asked.iter().filter_map(|op| decide_rule(*op, grant, target)).next();
    if let Some(errno) = refused {
        let what = if nothing {
            // Found missing before it was asked who may change it.
            if errno == Errno::ENOENT {
                return None;
            }
            Mend::Nothing
        } else if asked.iter().any(|op| decide_rule(*op, Grant::ReadOnly, target).is_some()) {
            Mend::Grant(Level::Change)
        } else {
            Mend::Grant(Level::Read)
        };
        return Some(Wrong { by, path, errno, what });
    }
    let runs = asked.iter().any(|op| decide_exec(*op, target).is_some());
    (runs && op.err.is_none() && no_exec.is_some()).then_some(Wrong {
        by: no_exec,
        path,
        errno: Errno::EACCES,
        what: Mend::Run,
    })
}

/// What the call wanted there.
fn operations(op: &Op, target: RealTarget) -> Vec<Operation> {
    use Operation as O;
    let directory = target == RealTarget::Directory;
    let call = op.call.as_ref();
    match op.access {
        Access::Read if call.starts_with("link") => vec![O::ChangeMode],
        Access::Read => vec![O::Read],
        Access::List => vec![O::List],
        Access::Exec => vec![O::Execute],
        Access::Lock => vec![O::Stat],
        Access::Write if op.call.starts_with("open") && !directory => vec![O::OpenWrite],
        Access::Write => vec![O::ChangeMode],
        Access::Create if op.err.is_some() => vec![O::MakeDirectory],
        Access::Create => vec![O::CreateExclusive],
        Access::Delete if directory => vec![O::RemoveDirectory],
        Access::Delete => vec![O::Unlink],
        Access::Stat | Access::Probe if call == "connect" => vec![O::ConnectSocket],
        Access::Stat | Access::Probe if call == "chdir" => vec![O::EnterDirectory],
        Access::Stat | Access::Probe if call.contains("xattr") => vec![O::GetXattr],
        Access::Stat | Access::Probe if call.starts_with("inotify") => vec![O::Watch],
        Access::Stat | Access::Probe => {
            let asks = op.asks.as_deref().filter(|_| op.err.is_none()).unwrap_or_default();
            let each = [('r', O::Read), ('w', O::TestWrite), ('x', O::TestExecute)];
            let asked = each.into_iter().filter(|(c, _)| asks.contains(*c)).map(|(_, op)| op);
            asked.chain([O::Stat]).collect()
        }
    }
}
