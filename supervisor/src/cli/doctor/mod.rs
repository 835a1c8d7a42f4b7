//! `vrift-trace doctor`: tries what a job needs, and names one fix for whatever is missing.
//!
//! Nothing is concluded from version numbers: each feature is used once, by a process made for it,
//! and at the end real jobs run over a store of their own. Nothing of the user's is written to.

mod guests;
mod jobs;
mod kernel;
mod machine;
mod view;

use super::args::Json;
use super::demo::child::in_path;
use super::{Complaint, OURS};
use crate::sys::caught;
use std::fmt::Write as _;
use std::io::Write as _;

/// How a check ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// As it should be.
    Ok,
    /// Not there; jobs run all the same, but take longer.
    Slower,
    /// Not there.
    Missing,
    /// Could not be tried, since what it builds on is missing.
    Skipped,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Slower => "slower",
            State::Missing => "missing",
            State::Skipped => "skipped",
        }
    }
}

/// One line of the answer.
#[derive(Debug)]
pub struct Check {
    /// What was tried.
    pub name: &'static str,
    /// How it ended.
    pub state: State,
    /// What it means, or what was seen.
    pub meaning: String,
    /// The one thing to do about it.
    pub fix: Option<String>,
    /// No job with mounts can be trusted to run without it.
    pub needed: bool,
}

impl Check {
    /// It is as it should be.
    pub fn ok(name: &'static str, meaning: impl Into<String>) -> Check {
        Check { name, state: State::Ok, meaning: meaning.into(), fix: None, needed: false }
    }

    /// It is not, and jobs can't run.
    pub fn needed(name: &'static str, meaning: impl Into<String>, fix: impl Into<String>) -> Check {
        Check { needed: true, ..Check::missing(name, meaning, fix) }
    }

    /// It is not, and some jobs notice.
    pub fn missing(
        name: &'static str,
        meaning: impl Into<String>,
        fix: impl Into<String>,
    ) -> Check {
        let (meaning, fix) = (meaning.into(), Some(fix.into()));
        Check { name, state: State::Missing, meaning, fix, needed: false }
    }

    /// It is not, and jobs take longer.
    pub fn slower(name: &'static str, meaning: impl Into<String>, fix: impl Into<String>) -> Check {
        Check { state: State::Slower, ..Check::missing(name, meaning, fix) }
    }

    fn skipped(name: &'static str, meaning: impl Into<String>) -> Check {
        Check { state: State::Skipped, ..Check::ok(name, meaning) }
    }
}

/// Runs the checks; 0 when jobs can run here, else 1.
pub fn run(options: &Json) -> Result<u8, Complaint> {
    caught::catch().map_err(|e| format!("doctor: sigaction: {e}"))?;
    // First, while this process has one thread only: the kernel is asked by forked processes.
    let mut checks = kernel::checks();
    checks.push(view::check());
    checks.extend(machine::checks());
    checks.extend(jobs::checks(&checks));
    if let Some(signal) = caught::caught() {
        return Ok(u8::try_from(128 + signal).unwrap_or(OURS));
    }
    let well = checks.iter().all(|c| !c.needed);
    let text = if options.json { as_json(&checks, well) } else { as_text(&checks, well) };
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(format!("doctor: stdout can't be written to: {e}"))
        }
        _ => Ok(u8::from(!well)),
    }
}

fn release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").map_or("?".into(), |t| t.trim().into())
}

fn as_text(checks: &[Check], well: bool) -> String {
    let mut out = String::new();
    let width = checks.iter().map(|c| c.name.len()).max().unwrap_or(0);
    for c in checks {
        let _ = write!(out, "{:<7}  {:<width$}  {}", c.state.name(), c.name, c.meaning);
        if let Some(fix) = &c.fix {
            let _ = write!(out, " -- {fix}");
        }
        out.push('\n');
    }
    let verdict = match checks.iter().find(|c| c.needed) {
        None => "jobs can run here".into(),
        Some(c) => format!("jobs can't run here: see {}", c.name),
    };
    debug_assert_eq!(well, checks.iter().all(|c| !c.needed));
    let _ = writeln!(out, "{verdict} (vrift-trace {}, Linux {})", version(), release());
    out
}

fn as_json(checks: &[Check], well: bool) -> String {
    let checks: Vec<_> = checks
        .iter()
        .map(|c| {
            serde_json::json!({
                "name": c.name,
                "state": c.state.name(),
                "needed": c.needed,
                "meaning": c.meaning,
                "fix": c.fix,
            })
        })
        .collect();
    serde_json::json!({
        "ok": well,
        "version": version(),
        "kernel": release(),
        "checks": checks,
    })
    .to_string()
        + "\n"
}

fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// A program that the checks need.
fn program(name: &'static str) -> Result<std::path::PathBuf, Complaint> {
    in_path(name).ok_or_else(|| format!("there is no {name} in PATH"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_needed_keeps_jobs_from_running() {
        let checks = [
            Check::ok("a", "is there"),
            Check::slower("bb", "is slow", "do this"),
            Check::missing("c", "is not there", "do that"),
        ];
        let text = as_text(&checks, true);
        assert!(
            text.starts_with("ok       a   is there\nslower   bb  is slow -- do this\n"),
            "{text}"
        );
        assert!(text.contains("\njobs can run here ("), "{text}");
        let needed = [Check::needed("d", "is not there", "do it")];
        assert!(as_text(&needed, false).contains("jobs can't run here: see d ("));
        let json: serde_json::Value = serde_json::from_str(&as_json(&needed, false)).expect("JSON");
        assert_eq!(json["ok"], false);
        assert_eq!(json["checks"][0]["fix"], "do it");
        assert_eq!(json["checks"][0]["state"], "missing");
    }
}
