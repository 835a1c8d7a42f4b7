//! Starting a job with a small, a large and a very large manifest: how long it takes, and how much
//! memory the supervisor has then.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::run::build::mebibytes;
use crate::run::fixture::{make_large, mount_point};
use crate::run::process::Job;
use crate::run::stats::Samples;
use crate::run::tools::Tools;

use super::{Amounts, remove};

/// What a start takes.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Start {
    /// Milliseconds from before the start to after the end of `true`.
    pub took: Samples,
    /// Mebibytes that the supervisor had at most, of a job that sleeps for a tenth of a second.
    pub peak: Samples,
}

/// With one manifest.
#[derive(Debug, Deserialize, Serialize)]
pub struct Mounted {
    /// Files of the manifest.
    pub files: usize,
    /// What a start with it takes.
    pub start: Start,
}

/// What starts take.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Manifests {
    /// `true` by itself.
    pub native: Start,
    /// `floor -- true`.
    pub floor: Start,
    /// `vrift-trace -m … -- true`.
    pub mounted: Vec<Mounted>,
}

/// Looks at the memory of a start.
const LOOKS: usize = 3;

/// Starts in turn, after one time that does not count. What keeps vrift-trace from being measured goes
/// to `problems`.
///
/// # Errors
/// When a tree cannot be made, or a command other than vrift-trace's fails.
pub(super) fn measure(
    tools: &Tools,
    work: &Path,
    amounts: &Amounts,
    problems: &mut Vec<String>,
) -> Result<Manifests, Failure> {
    let command = |words: &[&str]| Job::new(words[0]).args(&words[1..]).cwd(work);
    let (quick, slow) = (command(&["/bin/true"]), command(&["sleep", "0.1"]).watched());
    let mut manifests = Manifests::default();
    let mut jobs = Vec::new();
    if tools.has_product() {
        for &files in &amounts.manifests {
            let tree = work.join(format!("entries-{files}"));
            eprintln!("store: making and ingesting {files} files");
            make_large(&tree, files)?;
            let reference = format!("entries/{files}");
            let stored = tools.ingest(&tree, &reference);
            remove(&tree)?;
            if let Err(error) = stored {
                problems.push(error.to_string());
                continue;
            }
            let mut mount = mount_point(&tree).into_os_string();
            mount.push("=");
            mount.push(reference);
            let under = |job: &Job| Some(job.clone().under(tools.trace()?.arg("-m").arg(&mount)));
            jobs.push(under(&quick).zip(under(&slow)));
            manifests.mounted.push(Mounted { files, start: Start::default() });
        }
    }
    eprintln!("store: {} starts with each manifest", amounts.starts);
    let floor = [&quick, &slow].map(|job| job.clone().under(tools.floor()));
    for round in 0..=amounts.starts {
        manifests.native.add(&quick, round)?;
        manifests.floor.add(&floor[0], round)?;
        manifests.floor.look(&floor[1], round)?;
        for (slot, mounted) in jobs.iter_mut().zip(&mut manifests.mounted) {
            let Some((quick, slow)) = slot else { continue };
            let start = &mut mounted.start;
            if let Err(error) = start.add(quick, round).and_then(|()| start.look(slow, round)) {
                problems.push(error.to_string());
                *slot = None;
            }
        }
    }
    Ok(manifests)
}

impl Start {
    fn add(&mut self, job: &Job, round: usize) -> Result<(), Failure> {
        let done = job.run()?;
        if round > 0 {
            self.took.push(done.took.as_secs_f64() * 1e3);
        }
        Ok(())
    }

    fn look(&mut self, job: &Job, round: usize) -> Result<(), Failure> {
        if (1..=LOOKS).contains(&round) {
            self.peak.all.extend(job.run()?.peak.map(mebibytes));
        }
        Ok(())
    }
}
