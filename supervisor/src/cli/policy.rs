//! `vrift-trace policy`: what a policy file says, asked without a job.

use super::Complaint;
use super::args::{Op, PolicyCommand};
use super::run::{surroundings, without_links};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use vrift_events::printable;
use vrift_policy::{
    Access, Errno, Grant, MountSpec, Operation, Outcome, Pattern, Policy, RealTarget, Rules,
    SCHEMA, Severity, Target, check, decide, decide_exec, decide_rule,
};

/// The exit status when a check has found something.
const FOUND: u8 = 1;

/// Runs a subcommand.
pub fn run(command: &PolicyCommand) -> Result<u8, Complaint> {
    match command {
        PolicyCommand::Check { file, json } => findings(file, *json),
        PolicyCommand::Explain { file, op, path, json } => explain(file, *op, path, *json),
        PolicyCommand::Schema => print(SCHEMA).map(|()| 0),
    }
}

fn print(text: &str) -> Result<(), Complaint> {
    std::io::stdout().write_all(text.as_bytes()).map_err(|e| format!("writing to stdout: {e}"))
}

fn findings(file: &Path, json: bool) -> Result<u8, Complaint> {
    let found = check(file, &surroundings()?);
    // Not even read: that is no finding about it.
    if let [only] = found.as_slice()
        && only.line.is_none()
        && only.severity == Severity::Error
    {
        return Err(only.to_string());
    }
    let text = if json {
        let all = found.iter().map(|finding| {
            serde_json::json!({
                "severity": match finding.severity {
                    Severity::Error => "error",
                    Severity::Warning => "warning",
                },
                "line": finding.line,
                "message": finding.to_string(),
            })
        });
        format!("{}\n", serde_json::Value::from_iter(all))
    } else {
        found.iter().map(|finding| format!("{finding}\n")).collect()
    };
    print(&text)?;
    Ok(if found.is_empty() { 0 } else { FOUND })
}

/// What decides, and what comes of it.
struct Answer {
    /// `FILE:LINE: …`, or that nothing does.
    by: String,
    /// What the job gets, if that is an errno of ours.
    errno: Option<Errno>,
    /// What it gets else.
    otherwise: &'static str,
}

const KERNEL: &str = "what the kernel says";

fn explain(file: &Path, op: Op, path: &Path, json: bool) -> Result<u8, Complaint> {
    let policy = Policy::load(file).map_err(|e| e.to_string())?;
    let around = surroundings()?;
    let mounts = policy.mounts.iter().map(|mount| mount.at.as_path());
    let rules = Rules::new(&policy.rules, mounts, &around).map_err(|faults| {
        let first = faults.first();
        first.map(ToString::to_string).unwrap_or_default()
    })?;
    let whole = normal(&around.job.join(path));
    let answer = match covering(&policy.mounts, &whole) {
        Some(mount) => by_mount(mount, op),
        None => {
            let whole = physical(&whole, op != Op::Delete);
            match covering(&policy.mounts, &whole) {
                Some(mount) => by_mount(mount, op),
                None => by_rule(&rules, op, &whole),
            }
        }
    };
    let gets = match answer.errno {
        Some(errno) => format!("{errno} ({})", errno.text().unwrap_or_default()),
        None => answer.otherwise.to_owned(),
    };
    let shown = printable(path.as_os_str().as_bytes());
    let text = if json {
        let errno = answer.errno.map(|errno| errno.to_string());
        format!("{}\n", serde_json::json!({ "path": shown, "errno": errno, "by": answer.by }))
    } else {
        format!("{shown}: {gets}: {}\n", answer.by)
    };
    print(&text).map(|()| 0)
}

/// The path that the links on the way lead to, and, with `last`, the one that it ends in.
fn physical(path: &Path, last: bool) -> PathBuf {
    match (path.parent(), path.file_name()) {
        (Some(dir), Some(name)) if !last => {
            without_links(dir).unwrap_or_else(|| dir.to_owned()).join(name)
        }
        _ => without_links(path).unwrap_or_else(|| path.to_owned()),
    }
}

/// The path without `.` and empty components, and with `..` taken by the text alone where what is
/// above is not there.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for part in path.components() {
        match part {
            std::path::Component::Normal(name) => out.push(name),
            std::path::Component::ParentDir => {
                out = without_links(&out).unwrap_or(out);
                out.pop();
            }
            _ => {}
        }
    }
    out
}

/// The innermost mount that a path lies in.
fn covering<'m>(mounts: &'m [MountSpec], path: &Path) -> Option<&'m MountSpec> {
    let all = mounts.iter().filter(|mount| path.starts_with(&mount.at));
    all.max_by_key(|mount| mount.at.as_os_str().len())
}

fn by_mount(mount: &MountSpec, op: Op) -> Answer {
    let target = match op {
        Op::List => Target::Directory,
        Op::Create => Target::Missing,
        _ => Target::File,
    };
    let errno = match decide(operation(op, false), mount.mode, target) {
        Outcome::Refuse(errno) => Some(errno),
        Outcome::Serve => None,
    };
    let by = format!(
        "{}: the {} mount at {} decides",
        mount.origin,
        mount.mode,
        printable(mount.at.as_os_str().as_bytes())
    );
    Answer { by, errno, otherwise: "what its manifest has there" }
}

fn by_rule(rules: &Rules, op: Op, path: &Path) -> Answer {
    // The way there comes first.
    for above in path.ancestors().skip(1).collect::<Vec<_>>().into_iter().rev() {
        let verdict = rules.at(above.as_os_str().as_bytes());
        let errno = match verdict.grant {
            Grant::Hide => Errno::ENOENT,
            Grant::Deny => Errno::EACCES,
            Grant::Search | Grant::ReadOnly | Grant::ReadWrite => continue,
        };
        return Answer { by: told(verdict.by, Some(above)), errno: Some(errno), otherwise: KERNEL };
    }
    let verdict = rules.at(path.as_os_str().as_bytes());
    let target = match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => RealTarget::Directory,
        Ok(found) if found.is_file() => RealTarget::File,
        Ok(found) if found.is_symlink() => RealTarget::Symlink,
        Ok(_) => RealTarget::Special,
        Err(_) => RealTarget::Missing,
    };
    let operation = operation(op, target == RealTarget::Directory);
    if let Some(errno) = decide_rule(operation, verdict.grant, target) {
        return Answer { by: told(verdict.by, None), errno: Some(errno), otherwise: KERNEL };
    }
    let no_exec = verdict.no_exec.filter(|_| op == Op::Exec);
    match no_exec.and_then(|by| Some((by, decide_exec(operation, target)?))) {
        Some((by, errno)) => {
            Answer { by: told(Some(by), None), errno: Some(errno), otherwise: KERNEL }
        }
        None => Answer { by: told(verdict.by, None), errno: None, otherwise: KERNEL },
    }
}

fn told(by: Option<&Pattern>, above: Option<&Path>) -> String {
    let Some(by) = by else { return "no rule speaks of it".to_owned() };
    let says = match (by.access, by.exec) {
        (Some(access), _) => format!("access = \"{}\"", access.as_str()),
        (None, exec) => format!("exec = {}", exec.unwrap_or(true)),
    };
    let of = above.map(|dir| format!(" for {}", printable(dir.as_os_str().as_bytes())));
    let opens = by.access == Some(Access::ReadWrite);
    let reason = by.reason.as_ref().filter(|_| !opens);
    let reason = reason.map(|text| format!(": {}", printable(text.as_bytes())));
    format!(
        "{}: {:?} says {says}{}{}",
        by.origin,
        by.text,
        of.unwrap_or_default(),
        reason.unwrap_or_default()
    )
}

const fn operation(op: Op, directory: bool) -> Operation {
    match op {
        Op::Stat => Operation::Stat,
        Op::Read => Operation::Read,
        Op::Write => Operation::OpenWrite,
        Op::Create => Operation::CreateWrite,
        Op::Delete if directory => Operation::RemoveDirectory,
        Op::Delete => Operation::Unlink,
        Op::List => Operation::List,
        Op::Exec => Operation::Execute,
    }
}
