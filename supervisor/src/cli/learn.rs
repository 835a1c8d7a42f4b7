//! `vrift-trace learn`: a policy from what a job did, and what a policy would have refused of it.

use super::args::{Cli, LearnOptions};
use super::run::{policy_file, surroundings};
use super::{Complaint, recorded, report};
use crate::learn;
use crate::report::Model;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use vrift_policy::{MountSpec, Policy};

/// The exit status when a policy would have refused something.
const REFUSES: u8 = 1;

/// What ran, or was read.
struct Seen {
    traces: Vec<Model>,
    mounts: Vec<MountSpec>,
    /// The command's exit status; of traces 0.
    status: u8,
}

/// Learns, or checks.
pub fn run(options: &LearnOptions) -> Result<u8, Complaint> {
    match &options.check {
        Some(file) => check(options, file),
        None => write(options),
    }
}

fn check(options: &LearnOptions, file: &Path) -> Result<u8, Complaint> {
    let whole = Policy::load(file).map_err(|e| e.to_string())?;
    if whole.rules.is_empty() {
        let file = file.display();
        return Err(format!("{file}: no rule stands in it, so there is nothing to check"));
    }
    // The rules are asked afterwards, about what the job did without them.
    let seen = see(options, Some(file), |policy| policy.rules.clear())?;
    let lines = learn::refused_by(&whole, &seen.traces, &surroundings()?)?;
    let mut out = std::io::stderr().lock();
    for line in &lines {
        let _ = writeln!(out, "vrift-trace: would be refused: {line}");
    }
    Ok(match seen.status {
        0 if lines.is_empty() => 0,
        0 => REFUSES,
        status => status,
    })
}

fn write(options: &LearnOptions) -> Result<u8, Complaint> {
    let output = options.output.as_path();
    let to_stdout = output == Path::new("-");
    let there = !to_stdout && output.try_exists().map_err(|e| complaint(output, &e))?;
    let used = policy_file(options.policy.as_deref().or(there.then_some(output)));
    // What is added to: the file itself, else the policy of the run. It is read before the job can
    // take as long as it likes, and its mistakes are told before.
    let basis = if there { Some(output) } else { used.filter(|_| options.from.is_empty()) };
    let text = basis.map(|file| std::fs::read_to_string(file).map_err(|e| complaint(file, &e)));
    let text = text.transpose()?;
    let old = basis.zip(text.as_deref());
    if let Some((name, text)) = old {
        Policy::parse(text, name).map_err(|e| e.to_string())?;
    }
    // Rules that somebody wrote hold; what was learnt may be too little for this run.
    let seen = see(options, used, |policy| policy.rules.retain(|rule| !learn::is_learnt(rule)))?;
    let learnt = learn::learn(&seen.traces, &seen.mounts, old, &surroundings()?)?;
    if to_stdout {
        let mut out = std::io::stdout().lock();
        out.write_all(learnt.text.as_bytes())
            .and_then(|()| out.flush())
            .map_err(|e| format!("writing the policy: {e}"))?;
    } else if old.is_none_or(|(name, text)| name != output || text != learnt.text) {
        replace(output, &learnt.text).map_err(|e| complaint(output, &e))?;
    }
    if seen.status != 0 {
        eprintln!(
            "vrift-trace: the command ended with status {}: what it did as far as that was learnt",
            seen.status
        );
    }
    if learnt.refused > 0 {
        eprintln!(
            "vrift-trace: {} calls were refused, by mounts or rules that somebody wrote: they stay so",
            learnt.refused
        );
    }
    for path in learnt.otherwise.iter().take(10) {
        eprintln!(
            "vrift-trace: {}: a rule that somebody wrote refuses what was done there; see \
             `vrift-trace learn --check`",
            vrift_events::printable(path)
        );
    }
    Ok(seen.status)
}

fn complaint(file: &Path, e: &std::io::Error) -> Complaint {
    format!("{}: {e}; name a policy file that can be read and written", file.display())
}

/// Runs the command by the policy `used`, as `change` leaves it; or reads the traces.
fn see(
    options: &LearnOptions,
    used: Option<&Path>,
    change: impl FnOnce(&mut Policy),
) -> Result<Seen, Complaint> {
    if !options.from.is_empty() {
        let traces =
            options.from.iter().map(|file| report::load(file)).collect::<Result<Vec<_>, _>>()?;
        return Ok(Seen { mounts: learn::mounts(&traces)?, traces, status: 0 });
    }
    let cli = Cli {
        policy: used.map(Path::to_owned),
        mounts: options.mounts.clone(),
        store: options.store.clone(),
        job: options.job.clone(),
        ..Cli::default()
    };
    let recorded = recorded::run(cli, change)?;
    let traces = vec![recorded.trace];
    Ok(Seen { traces, mounts: recorded.mounts, status: recorded.status })
}

/// Writes a file as a whole or not at all; behind a link, what it leads to.
fn replace(file: &Path, text: &str) -> std::io::Result<()> {
    let target = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let dir = target.parent().filter(|dir| !dir.as_os_str().is_empty());
    let dir = dir.map_or_else(|| PathBuf::from("."), Path::to_owned);
    let mode = match std::fs::metadata(&target) {
        Ok(there) => there.permissions(),
        Err(_) => std::fs::Permissions::from_mode(0o644),
    };
    let mut new = tempfile::NamedTempFile::new_in(dir)?;
    new.write_all(text.as_bytes())?;
    new.as_file().set_permissions(mode)?;
    new.persist(&target).map_err(|e| e.error)?;
    Ok(())
}
