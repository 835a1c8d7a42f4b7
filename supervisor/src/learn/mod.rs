//! `vrift-trace learn`: from traces to the least policy that fits what their jobs did.
//!
//! [`needs`] is what was done, path by path; [`plan`] what that comes to as patterns; [`proof`] asks
//! the rules that came of it about each call of the traces and mends what they would answer
//! otherwise; [`file`] is the policy's text, where what somebody wrote stays.

mod file;
mod needs;
mod plan;
mod proof;
mod words;

use crate::report::Model;
use needs::Needs;
use plan::{Decided, Plan};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use vrift_policy::{Mode, MountSpec, Origin, Policy, PolicyError, Rule, Rules, Surroundings};
use words::Words;

/// Was a rule learnt, and not written by somebody?
pub fn is_learnt(rule: &Rule) -> bool {
    rule.reason.as_ref().is_some_and(|reason| reason.starts_with(file::LEARNT))
}

/// What came of learning.
#[derive(Debug)]
pub struct Learnt {
    /// The policy's text.
    pub text: String,
    /// How many calls rules that somebody wrote had refused: they stay refused.
    pub refused: usize,
    /// What the policy would answer otherwise than the job was answered, and can't be mended: paths
    /// that a rule of somebody's own decides about.
    pub otherwise: Vec<Vec<u8>>,
}

/// The mounts of the jobs of traces, each once.
///
/// # Errors
/// When an argument of `-m` in a trace is none.
pub fn mounts(traces: &[Model]) -> Result<Vec<MountSpec>, String> {
    let mut specs: Vec<MountSpec> = Vec::new();
    for mount in traces.iter().flat_map(|trace| &trace.job.mounts) {
        let at = PathBuf::from(OsStr::from_bytes(mount.at.as_bytes()));
        let spec = match &mount.rule.argument {
            Some(text) => {
                let spec = MountSpec::parse_arg(OsStr::from_bytes(text.as_bytes()), &at);
                MountSpec { at, ..spec.map_err(|e| e.to_string())? }
            }
            None => MountSpec {
                at,
                manifest: OsStr::from_bytes(mount.manifest.as_bytes()).to_owned(),
                mode: Mode::of_word(mount.mode.as_bytes()).unwrap_or_default(),
                upper: None,
                on_exit: None,
                origin: Origin::Argument(OsStr::from_bytes(mount.at.as_bytes()).to_owned()),
            },
        };
        if specs.iter().all(|known| known.at != spec.at) {
            specs.push(spec);
        }
    }
    Ok(specs)
}

/// What a policy would have refused of what the jobs of traces did: one line for each kind.
///
/// # Errors
/// What is wrong with the policy's patterns.
pub fn refused_by(
    policy: &Policy,
    traces: &[Model],
    around: &Surroundings,
) -> Result<Vec<String>, String> {
    let mut lines = Vec::new();
    for trace in traces {
        let job = PathBuf::from(OsStr::from_bytes(trace.job.cwd.as_bytes()));
        let around = Surroundings { job, ..around.clone() };
        let mounts = mounts(std::slice::from_ref(trace))?;
        let ways = mounts.iter().map(|mount| mount.at.as_path());
        let rules = Rules::new(&policy.rules, ways, &around).map_err(|faults| first_of(&faults))?;
        lines.extend(proof::refusals(&rules, trace));
    }
    Ok(lines)
}

/// What rules that somebody wrote decide.
struct Written(Rules);

impl Decided for Written {
    fn access(&self, path: &[u8]) -> bool {
        self.0.at(path).by.is_some()
    }

    fn no_exec(&self, path: &[u8]) -> bool {
        self.0.at(path).no_exec.is_some()
    }
}

/// Learns from traces of jobs with these mounts. `old` is the policy that is added to: its name and
/// text.
///
/// # Errors
/// One line: what is wrong with the traces or the old policy.
pub fn learn(
    traces: &[Model],
    mounts: &[MountSpec],
    old: Option<(&Path, &str)>,
    around: &Surroundings,
) -> Result<Learnt, String> {
    let Some(first) = traces.first() else { return Err("no trace was given".into()) };
    if let Some(trace) = traces.iter().find(|trace| !trace.job.reads || !trace.job.probes) {
        return Err(format!(
            "the trace of {} leaves out what was read or looked up, as its policy's [trace] says; \
             make one without that",
            crate::trace::title(trace.job.command.iter().map(crate::trace::Text::shown))
        ));
    }
    let cwd = first.job.cwd.as_bytes();
    if let Some(other) = traces.iter().find(|trace| trace.job.cwd.as_bytes() != cwd) {
        return Err(format!(
            "the traces are of jobs in different directories, {} and {}, and `${{job}}` can be one \
             only; learn from one after the other",
            first.job.cwd.shown(),
            other.job.cwd.shown()
        ));
    }
    let around = &Surroundings { job: PathBuf::from(OsStr::from_bytes(cwd)), ..around.clone() };
    let written = match old {
        None => Rules::default(),
        Some((name, text)) => {
            let policy = Policy::parse(text, name).map_err(|e| e.to_string())?;
            let own: Vec<Rule> = policy.rules.into_iter().filter(|rule| !is_learnt(rule)).collect();
            Rules::new(&own, [], around).map_err(|faults| first_of(&faults))?
        }
    };
    let mut needs = Needs::new();
    traces.iter().for_each(|trace| needs::add(&mut needs, trace));
    // It is where the job is, whatever it did there.
    let here = needs.entry(cwd.to_vec()).or_default();
    (here.dir, here.looked) = (true, true);
    let mut words = Words { job: cwd.to_vec(), homes: homes(around), ..Words::default() };
    let mut plan = Plan::of(&needs, &mut words, &temporary(around), &Written(written));
    let name = old.map_or(Path::new("the learnt policy"), |(name, _)| name);
    let (text, otherwise) = proof::mend(&mut plan, traces, &words, mounts, around, |plan| {
        let text = file::merge(old.map(|(_, text)| text), plan, mounts)
            .map_err(|e| format!("{}: {e}", name.display()))?;
        let policy = Policy::parse(&text, name).map_err(|e| format!("what was learnt: {e}"))?;
        Ok((text, policy))
    })?;
    let refused = |trace: &Model| trace.ops.iter().filter(|op| op.refused.is_some()).count();
    Ok(Learnt { text, refused: traces.iter().map(refused).sum(), otherwise })
}

fn first_of(faults: &[PolicyError]) -> String {
    faults.first().map(ToString::to_string).unwrap_or_default()
}

/// The home directory as it is called and as it is.
fn homes(around: &Surroundings) -> Vec<Vec<u8>> {
    let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
    let home = around.home.as_deref().filter(|home| home.is_absolute());
    let physical = home.and_then(|home| home.canonicalize().ok());
    let mut homes: Vec<_> = home.into_iter().chain(physical.as_deref()).map(bytes).collect();
    homes.dedup();
    homes
}

/// Where temporary files are made.
fn temporary(around: &Surroundings) -> Vec<Vec<u8>> {
    let own = around.variables.iter().find(|(name, _)| name == "TMPDIR").map(|(_, value)| value);
    let own = own.map(|dir| Path::new(dir).canonicalize().unwrap_or_else(|_| dir.into()));
    let own = own.map(|dir| dir.as_os_str().as_bytes().to_vec());
    let usual = ["/tmp", "/var/tmp", "/dev/shm"].map(|dir| dir.as_bytes().to_vec());
    usual.into_iter().chain(own).collect()
}

#[cfg(test)]
mod tests;
