//! A whole C build: natively, under the floor, projected, projected and recorded, and traced without
//! a projection.
//!
//! The sources are read from one tree, the objects go to one directory that is emptied before each
//! build. Projected and native sources lie equally deep, and what comes out has to be the same.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::floor::Report;

use super::fixture::mount_point;
use super::process::{Done, Job};
use super::sources::{self, Sources};
use super::stats::Samples;
use super::tools::Tools;

/// One way of building, over the rounds.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Cost {
    /// Seconds from start to end.
    pub wall: Samples,
    /// Seconds of CPU time, the supervisor's with it.
    pub cpu: Samples,
    /// Mebibytes of memory that the process which was started had at most: the supervisor's, without
    /// the job's. Of native runs it says nothing.
    #[serde(default)]
    pub peak: Samples,
}

impl Cost {
    /// Counts one run.
    pub fn add(&mut self, done: &Done) {
        self.wall.push(done.took.as_secs_f64());
        self.cpu.push(done.cpu.as_secs_f64());
        self.peak.all.extend(done.peak.map(mebibytes));
    }
}

/// Bytes in mebibytes, to a kibibyte.
#[must_use]
pub fn mebibytes(bytes: u64) -> f64 {
    u32::try_from(bytes >> 10).map_or(f64::INFINITY, f64::from) / 1024.0
}

/// What a build takes, each way.
#[derive(Debug, Deserialize, Serialize)]
pub struct Build {
    /// What was built.
    pub project: String,
    /// The compiler's first line of `--version`.
    pub compiler: String,
    /// Jobs of make.
    pub jobs: usize,
    /// Without a supervisor.
    pub native: Cost,
    /// Under the floor that says CONTINUE, on the real tree.
    pub floor: Cost,
    /// Under vrift-trace, from the projection.
    pub projected: Cost,
    /// The same with the sources mounted for the job.
    pub mounted: Cost,
    /// Projected, with `-o`.
    pub recorded: Cost,
    /// Under vrift-trace without mounts and with `probes = false`, on the real tree.
    pub traced: Cost,
    /// Notifications of one build under the floor.
    pub notifications: u64,
    /// Whether every object and the program were the same, however they were built.
    pub identical: bool,
}

/// The policy of the traced build.
const TRACED_POLICY: &str = "version = 1\n[trace]\nprobes = false\n";

/// Builds `rounds` times each way, in turn, after one build that does not count. What keeps
/// vrift-trace from being measured goes to `problems`.
///
/// # Errors
/// When the sources cannot be made, or a native or a floor's build fails.
pub fn measure(
    tools: &Tools,
    work: &Path,
    rounds: usize,
    problems: &mut Vec<String>,
) -> Result<Build, Failure> {
    let source = work.join("source");
    let sources = sources::prepare(&source)?;
    let place = Place::new(work, &source, &sources)?;
    let report = work.join("floor.json");
    let native = place.make(&source);
    let floor = native.clone().under(tools.floor().arg("--report").arg(&report));
    let mut projected = projected(tools, &place, &source, &[], problems);
    let record = work.join("build.trace");
    let options = ["-o".as_ref(), record.as_os_str()];
    let mut recorded = projected
        .as_ref()
        .and_then(|_| self::projected(tools, &place, &source, &options, problems));
    let mut mounted = projected.as_ref().and_then(|_| mounted(tools, &place, work, problems));
    let mut traced = traced(tools, &place, &native, problems);

    let (_, expected) = place.build(&native)?;
    let mut build = Build {
        project: sources.name,
        compiler: compiler()?,
        jobs: place.jobs,
        native: Cost::default(),
        floor: Cost::default(),
        projected: Cost::default(),
        mounted: Cost::default(),
        recorded: Cost::default(),
        traced: Cost::default(),
        notifications: 0,
        identical: true,
    };
    for round in 1..=rounds {
        eprintln!("build: round {round} of {rounds}");
        let mut add = |job: &Job, cost: &mut Cost| -> Result<(), Failure> {
            let (done, outputs) = place.build(job)?;
            cost.add(&done);
            if outputs != expected {
                build.identical = false;
            }
            Ok(())
        };
        add(&native, &mut build.native)?;
        add(&floor, &mut build.floor)?;
        for (job, cost) in [
            (&mut projected, &mut build.projected),
            (&mut mounted, &mut build.mounted),
            (&mut recorded, &mut build.recorded),
            (&mut traced, &mut build.traced),
        ] {
            if let Some(this) = job
                && let Err(error) = add(this, cost)
            {
                problems.push(error.to_string());
                *job = None;
            }
        }
    }
    let text = fs::read(&report).map_err(Failure::io("cannot read the floor's report"))?;
    let report: Report = serde_json::from_slice(&text)
        .map_err(|source| Failure::Output { command: floor.line(), source })?;
    build.notifications = report.notifications;
    Ok(build)
}

fn projected(
    tools: &Tools,
    place: &Place,
    source: &Path,
    options: &[&OsStr],
    problems: &mut Vec<String>,
) -> Option<Job> {
    let trace = tools.trace()?;
    if let Err(error) = tools.ingest(source, "bench/source") {
        problems.push(error.to_string());
        return None;
    }
    let at = mount_point(source);
    let mut mount = at.clone().into_os_string();
    mount.push("=bench/source");
    Some(place.make(&at).under(trace.args(options).arg("-m").arg(mount)))
}

/// From the tree that is in the store already, mounted where a directory is, as deep as the real one.
fn mounted(tools: &Tools, place: &Place, work: &Path, problems: &mut Vec<String>) -> Option<Job> {
    let at = work.join("mounted");
    if let Err(error) = fs::create_dir_all(&at) {
        problems.push(format!("cannot make {}: {error}", at.display()));
        return None;
    }
    let mut mount = at.clone().into_os_string();
    mount.push("=bench/source");
    let trace = tools.trace()?.args(["--view", "mount", "-m"]).arg(mount);
    Some(place.make(&at).under(trace))
}

fn traced(tools: &Tools, place: &Place, native: &Job, problems: &mut Vec<String>) -> Option<Job> {
    let trace = tools.trace()?;
    let policy = place.makefile.with_file_name("traced.toml");
    if let Err(error) = fs::write(&policy, TRACED_POLICY) {
        problems.push(format!("cannot write {}: {error}", policy.display()));
        return None;
    }
    Some(native.clone().under(trace.arg("-p").arg(policy)))
}

fn compiler() -> Result<String, Failure> {
    let done = Job::new("cc").arg("--version").run()?;
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// Where builds happen.
pub(super) struct Place {
    makefile: PathBuf,
    out: PathBuf,
    jobs: usize,
}

pub(super) type Outputs = BTreeMap<PathBuf, Vec<u8>>;

impl Place {
    /// Makes `work`, if it isn't there, and the Makefile in it.
    pub(super) fn new(work: &Path, source: &Path, sources: &Sources) -> Result<Self, Failure> {
        fs::create_dir_all(work).map_err(Failure::io(format!("cannot make {}", work.display())))?;
        let makefile = work.join("Makefile");
        let text = makefile_for(source, sources)
            .map_err(Failure::io(format!("cannot list {}", source.display())))?;
        fs::write(&makefile, text)
            .map_err(Failure::io(format!("cannot write {}", makefile.display())))?;
        let jobs = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Self { makefile, out: work.join("out"), jobs })
    }

    /// `make` of everything from the sources at `source`.
    pub(super) fn make(&self, source: &Path) -> Job {
        let mut variable = std::ffi::OsString::from("SRC=");
        variable.push(source);
        Job::new("make")
            .args(["--silent", "-j", &self.jobs.to_string(), "-f"])
            .arg(&self.makefile)
            .arg(variable)
            .cwd(&self.out)
            // An outer make's jobserver is not ours.
            .env("MAKEFLAGS", "")
            .watched()
    }

    /// Builds from nothing: what it cost, and what came out.
    pub(super) fn build(&self, job: &Job) -> Result<(Done, Outputs), Failure> {
        let empty = || -> io::Result<()> {
            if self.out.exists() {
                fs::remove_dir_all(&self.out)?;
            }
            fs::create_dir(&self.out)
        };
        empty().map_err(Failure::io(format!("cannot empty {}", self.out.display())))?;
        let done = job.run()?;
        let read = || -> io::Result<Outputs> {
            let mut outputs = Outputs::new();
            for entry in fs::read_dir(&self.out)? {
                let path = entry?.path();
                let bytes = fs::read(&path)?;
                outputs.insert(path, bytes);
            }
            Ok(outputs)
        };
        let outputs = read().map_err(Failure::io(format!("cannot read {}", self.out.display())))?;
        Ok((done, outputs))
    }
}

fn makefile_for(source: &Path, sources: &Sources) -> io::Result<String> {
    let mut objects = Vec::new();
    for entry in fs::read_dir(source)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        if let Some(stem) = name.strip_suffix(".c")
            && sources.left_out != Some(name)
        {
            objects.push(format!("{stem}.o"));
        }
    }
    objects.sort_unstable();
    Ok(format!(
        "OBJECTS = {}\n\
         program: $(OBJECTS)\n\
         \tcc -o $@ $(OBJECTS) {}\n\
         %.o: $(SRC)/%.c\n\
         \tcc {} -I$(SRC) -c -o $@ $<\n",
        objects.join(" "),
        sources.libraries,
        sources.cflags,
    ))
}
