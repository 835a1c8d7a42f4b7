//! What it costs to start: `true` alone, under the floor, and under vrift-trace with a large mount.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Failure;

use super::fixture::{make_large, mount_point};
use super::process::Job;
use super::stats::Samples;
use super::tools::Tools;

/// Milliseconds from before the start to after the end, over the rounds.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Startup {
    /// Names in the mounted manifest.
    pub files: usize,
    /// `true` by itself.
    pub native: Samples,
    /// `floor -- true`.
    pub floor: Samples,
    /// `vrift-trace -- true`.
    pub trace: Samples,
    /// `vrift-trace -m … -- true`.
    pub mounted: Samples,
}

/// Starts each `rounds` times, in turn, after one time that does not count. What keeps vrift-trace
/// from being measured goes to `problems`.
///
/// # Errors
/// When the tree cannot be made, or a command other than vrift-trace's fails.
pub fn measure(
    tools: &Tools,
    work: &Path,
    rounds: usize,
    files: usize,
    problems: &mut Vec<String>,
) -> Result<Startup, Failure> {
    let native = Job::new("/bin/true").cwd(work);
    let floor = native.clone().under(tools.floor());
    let bare = tools.trace().map(|trace| native.clone().under(trace));
    let mounted = match mounted(tools, work, &native, files) {
        Ok(job) => job,
        Err(error) => {
            problems.push(error.to_string());
            None
        }
    };
    let mut startup = Startup { files, ..Startup::default() };
    eprintln!("start-up: {rounds} rounds");
    let add = |job: &Job, samples: &mut Samples, counts: bool| -> Result<(), Failure> {
        let took = job.run()?.took;
        if counts {
            samples.push(took.as_secs_f64() * 1e3);
        }
        Ok(())
    };
    let mut supervised = [(bare, &mut startup.trace), (mounted, &mut startup.mounted)];
    for round in 0..=rounds {
        add(&native, &mut startup.native, round > 0)?;
        add(&floor, &mut startup.floor, round > 0)?;
        for (job, samples) in &mut supervised {
            if let Some(this) = job
                && let Err(error) = add(this, samples, round > 0)
            {
                problems.push(error.to_string());
                *job = None;
            }
        }
    }
    Ok(startup)
}

/// Ingests a large tree, and `native` with it mounted. The tree itself is not needed any more.
fn mounted(tools: &Tools, work: &Path, native: &Job, files: usize) -> Result<Option<Job>, Failure> {
    let Some(trace) = tools.trace() else { return Ok(None) };
    let large = work.join("large");
    eprintln!("start-up: making and ingesting {files} files");
    make_large(&large, files)?;
    tools.ingest(&large, "bench/large")?;
    fs::remove_dir_all(&large)
        .map_err(Failure::io(format!("cannot remove {}", large.display())))?;
    let mut mount = mount_point(&large).into_os_string();
    mount.push("=bench/large");
    Ok(Some(native.clone().under(trace.arg("-m").arg(mount))))
}
