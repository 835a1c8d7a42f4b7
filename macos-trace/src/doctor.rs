//! `vrift-trace doctor`: what a job needs of this machine, and one fix for what is missing.
//!
//! What was found out is [`Facts`]; here it becomes lines, which is tested on Linux.

use crate::machine::{Facts, program};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use vrift_macos_es::es::adapter::EndpointError;
use vrift_macos_es::program::Program;
use vrift_macos_es::shim::symbols::Arch;

/// The entitlement that a client of Endpoint Security has to have.
const ENTITLEMENT: &str = "com.apple.developer.endpoint-security.client";

/// What builds mostly run, of which some are Apple's own.
const USUAL: [&str; 8] = ["sh", "bash", "make", "cc", "clang", "git", "python3", "env"];

/// One line of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was asked for.
    pub name: &'static str,
    /// It is as it should be.
    pub well: bool,
    /// What was found.
    pub meaning: String,
    /// The one thing to do about it.
    pub fix: Option<String>,
    /// No job with mounts can run without it.
    pub needed: bool,
}

fn well(name: &'static str, meaning: impl Into<String>) -> Check {
    Check { name, well: true, meaning: meaning.into(), fix: None, needed: false }
}

fn missing(name: &'static str, meaning: impl Into<String>, fix: Option<String>) -> Check {
    Check { name, well: false, meaning: meaning.into(), fix, needed: false }
}

/// All lines. `programs` are those of a usual build, as they were found.
#[must_use]
pub fn checks(facts: &Facts, programs: &[(PathBuf, Program)]) -> Vec<Check> {
    let mut checks = vec![processor(facts)];
    checks.push(companion("shim", "mounts are projected by it", &facts.library));
    checks.push(companion("starter", "commands are started by it", &facts.starter));
    checks.push(endpoint(&facts.endpoint));
    checks.push(disk_access(&facts.endpoint));
    checks.push(protection(facts.sip));
    checks.push(restricted(programs));
    checks
}

fn processor(facts: &Facts) -> Check {
    let (major, minor) = facts.macos;
    let here = format!("macOS {major}.{minor}, {}", facts.arch.name());
    if facts.translated {
        let fix = "use the vrift-trace that was built for arm64".to_owned();
        return missing("processor", format!("{here}, by Rosetta"), Some(fix));
    }
    if facts.arch == Arch::Arm64 {
        let note = "; programs for arm64e (Apple's) can't have the shim";
        return well("processor", format!("{here}{note}"));
    }
    well("processor", here)
}

fn companion(name: &'static str, meaning: &str, found: &Result<PathBuf, String>) -> Check {
    match found {
        Ok(path) => well(name, format!("{}: {meaning}", path.display())),
        Err(why) => Check { needed: true, ..missing(name, why.clone(), None) },
    }
}

fn endpoint(found: &Result<(), EndpointError>) -> Check {
    let name = "endpoint-security";
    match found {
        Ok(()) => well(name, "traces, rules, and a guard round the store"),
        Err(why) => {
            let meaning = format!("no traces, no rules: {why}");
            let fix = match why {
                EndpointError::NotEntitled => Some(format!(
                    "codesign -s - --entitlements FILE, with {ENTITLEMENT} in it, works where System \
                     Integrity Protection is off"
                )),
                _ => None,
            };
            missing(name, meaning, fix)
        }
    }
}

/// Asked for by the same call, which looks at the entitlement and the user first.
fn disk_access(found: &Result<(), EndpointError>) -> Check {
    let name = "full-disk-access";
    match found {
        Ok(()) => well(name, "given to what starts this program"),
        Err(EndpointError::NotPermitted) => missing(
            name,
            "not given to what starts this program",
            Some(
                "allow the terminal in System Settings, Privacy & Security, Full Disk Access, and \
                 start it anew"
                    .into(),
            ),
        ),
        Err(_) => well(name, "not asked for: the client fails before it matters"),
    }
}

fn protection(on: Option<bool>) -> Check {
    let name = "sip";
    match on {
        Some(true) => well(
            name,
            "System Integrity Protection is on: the loader keeps the shim out of what it guards",
        ),
        Some(false) => well(
            name,
            "System Integrity Protection is off: an ad-hoc signature with the entitlement will do",
        ),
        None => well(name, "System Integrity Protection has a configuration of its own"),
    }
}

fn restricted(programs: &[(PathBuf, Program)]) -> Check {
    let name = "restricted-programs";
    let closed: Vec<String> = programs
        .iter()
        .filter_map(|(path, program)| match program {
            Program::Closed(why) => Some(format!("{} ({})", path.display(), why.name())),
            _ => None,
        })
        .collect();
    if closed.is_empty() {
        return well(name, "none of the usual programs in PATH keeps the shim out");
    }
    let fix = "have others come first in PATH, or choose with the policy's [macos] restricted = \
               \"clone\", \"observe\" or \"refuse\"";
    let meaning = format!("the loader keeps the shim out of {}", closed.join(", "));
    missing(name, meaning, Some(fix.into()))
}

/// The programs of a usual build that are in PATH, and whether the shim is let in.
#[must_use]
pub fn programs(facts: &Facts) -> Vec<(PathBuf, Program)> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let found = USUAL.iter().filter_map(|name| first(&dirs, name));
    found.filter_map(|path| Some((path.clone(), program(&path, facts.arch).ok()?))).collect()
}

fn first(dirs: &[PathBuf], name: &str) -> Option<PathBuf> {
    dirs.iter().map(|dir| dir.join(name)).find(|path| Path::is_file(path))
}

/// The answer, as text or as one JSON object.
#[must_use]
pub fn told(facts: &Facts, checks: &[Check], json: bool) -> String {
    let needed = checks.iter().find(|check| check.needed);
    let state = |check: &Check| if check.well { "ok" } else { "missing" };
    let version = env!("CARGO_PKG_VERSION");
    let (major, minor) = facts.macos;
    if json {
        let lines = checks.iter().map(|check| {
            serde_json::json!({
                "name": check.name,
                "state": state(check),
                "needed": check.needed,
                "meaning": check.meaning,
                "fix": check.fix,
            })
        });
        let whole = serde_json::json!({
            "ok": needed.is_none(),
            "version": version,
            "kernel": format!("macOS {major}.{minor}"),
            "checks": lines.collect::<Vec<_>>(),
        });
        return format!("{whole}\n");
    }
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let mut out = String::new();
    for check in checks {
        let _ = write!(out, "{:<7}  {:<width$}  {}", state(check), check.name, check.meaning);
        if let Some(fix) = &check.fix {
            let _ = write!(out, " -- {fix}");
        }
        out.push('\n');
    }
    let verdict = match needed {
        None => "what a job needs is there; whether the shim projects was not tried".into(),
        Some(check) => format!("jobs with mounts can't run here: see {}", check.name),
    };
    let _ = writeln!(out, "{verdict} (vrift-trace {version}, macOS {major}.{minor})");
    out
}
