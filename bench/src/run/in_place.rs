//! Redis built in place: natively and under the floor in a real copy of its sources, and under
//! vrift-trace in an overlay over the stored ones, whose changes are thrown away.
//!
//! Every build starts from untouched sources; copying them is not timed.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde::Serialize;

use crate::Failure;

use super::build::Cost;
use super::fixture::mount_point;
use super::process::Job;
use super::sources;
use super::tools::Tools;

/// More rounds of a build this long say nothing new.
const MOST_ROUNDS: usize = 5;
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// What the build takes, each way.
#[derive(Debug, Serialize)]
pub struct InPlace {
    /// What was built.
    pub project: String,
    /// Without a supervisor.
    pub native: Cost,
    /// Under the floor that says CONTINUE.
    pub floor: Cost,
    /// Under vrift-trace, in an overlay.
    pub overlay: Cost,
}

/// Builds in turn. What keeps vrift-trace from being measured goes to `problems`.
///
/// # Errors
/// When the sources cannot be had, or a native or a floor's build fails.
pub fn measure(
    tools: &Tools,
    work: &Path,
    rounds: usize,
    problems: &mut Vec<String>,
) -> Result<InPlace, Failure> {
    let pristine = work.join("redis");
    let project = sources::redis(&pristine)?;
    let place = work.join("in-place");
    let native = make(&place);
    let floor = native.clone().under(tools.floor());
    let mut overlay = overlay(tools, &pristine, &place, problems);
    let mut costs = InPlace {
        project,
        native: Cost::default(),
        floor: Cost::default(),
        overlay: Cost::default(),
    };
    let run = |job: &Job, cost: Option<&mut Cost>| -> Result<(), Failure> {
        copy(&pristine, &place)?;
        let done = job.run()?;
        if let Some(cost) = cost {
            cost.wall.push(done.took.as_secs_f64());
            cost.cpu.push(done.cpu.as_secs_f64());
        }
        Ok(())
    };
    run(&native, None)?;
    let rounds = rounds.min(MOST_ROUNDS);
    for round in 1..=rounds {
        eprintln!("in place: round {round} of {rounds}");
        run(&native, Some(&mut costs.native))?;
        run(&floor, Some(&mut costs.floor))?;
        if let Some(job) = &overlay
            && let Err(error) = run(job, Some(&mut costs.overlay))
        {
            problems.push(error.to_string());
            overlay = None;
        }
    }
    Ok(costs)
}

/// What Redis' users run; without jemalloc, whose configure would be most of it.
fn make(place: &Path) -> Job {
    let jobs = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Job::new("make")
        .args(["--silent", "-j", &jobs.to_string(), "MALLOC=libc", "USE_SYSTEMD=no", "-C"])
        .arg(place.join("src"))
        .arg("redis-server")
        // An outer make's jobserver is not ours.
        .env("MAKEFLAGS", "")
        .limit(LIMIT)
}

fn overlay(
    tools: &Tools,
    pristine: &Path,
    place: &Path,
    problems: &mut Vec<String>,
) -> Option<Job> {
    let trace = tools.trace()?;
    if let Err(error) = tools.ingest(pristine, "bench/redis") {
        problems.push(error.to_string());
        return None;
    }
    let at = mount_point(place);
    let mut mount = at.clone().into_os_string();
    mount.push("=bench/redis,mode=overlay");
    Some(make(&at).under(trace.arg("-m").arg(mount)))
}

fn copy(from: &Path, to: &PathBuf) -> Result<(), Failure> {
    if to.exists() {
        fs::remove_dir_all(to).map_err(Failure::io(format!("cannot remove {}", to.display())))?;
    }
    Job::new("cp").arg("-a").arg(from).arg(to).run().map(drop)
}
