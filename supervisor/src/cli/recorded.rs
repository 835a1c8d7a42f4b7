//! Runs a job for the sake of its record.

use super::args::Cli;
use super::run::{mounts, policy, run_by};
use super::{Complaint, report};
use crate::report::Model;
use vrift_policy::{MountSpec, Policy, Trace};

/// What came of it.
pub struct Recorded {
    /// The whole record.
    pub trace: Model,
    /// What was mounted.
    pub mounts: Vec<MountSpec>,
    /// The command's exit status.
    pub status: u8,
}

/// Runs the job of `cli` by its policy, as `change` leaves it. The trace is kept until it is read.
pub fn run(cli: Cli, change: impl FnOnce(&mut Policy)) -> Result<Recorded, Complaint> {
    let place = tempfile::Builder::new()
        .prefix("vrift-trace-")
        .tempdir()
        .map_err(|e| format!("{}: {e}; set TMPDIR", std::env::temp_dir().display()))?;
    let file = place.path().join("trace");
    let cli = Cli { command: None, trace: Some(file.clone()), summary: None, quiet: true, ..cli };
    let mut policy = policy(&cli)?;
    change(&mut policy);
    // What the supervisor answers it knows; of what the kernel answers a look has to tell.
    policy.job.view = None;
    policy.trace = Trace { reads: true, probes: true };
    let mounts = mounts(&cli, &policy)?;
    let status = run_by(&cli, &policy, &mounts)?;
    let trace = report::load(&file)?;
    if trace.end.is_none() {
        return Err(format!(
            "the job's record ends before the job did (is {} full?), so nothing comes of it; set TMPDIR",
            place.path().display()
        ));
    }
    Ok(Recorded { trace, mounts, status })
}
