//! Projects built in their own trees: natively and under the floor in a real copy of the sources, and
//! under vrift-trace in an overlay over the stored ones, whose changes are thrown away.
//!
//! Every build starts from untouched sources; copying them is not timed.

use std::borrow::Cow;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Failure;

use super::build::Cost;
use super::fixture::mount_point;
use super::process::Job;
use super::sources;
use super::tools::Tools;

/// More rounds of a build this long say nothing new.
const MOST_ROUNDS: usize = 5;
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// What is built.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Project {
    /// Redis: objects, dependency files and generated headers beside the sources.
    Redis,
    /// SQLite: its tools, one C file that they make of all others, and the shell.
    Sqlite,
    /// A program with a vendored `serde_json` and the macros of serde, by cargo.
    Cargo,
}

/// What the build takes, each way.
#[derive(Debug, Deserialize, Serialize)]
pub struct InPlace {
    /// What was built.
    pub project: String,
    /// By what.
    #[serde(default = "redis_command")]
    pub command: Cow<'static, str>,
    /// Without a supervisor.
    pub native: Cost,
    /// Under the floor that says CONTINUE.
    pub floor: Cost,
    /// Under vrift-trace, in an overlay.
    pub overlay: Cost,
    /// The same, mounted for the job.
    #[serde(default)]
    pub mounted: Cost,
}

/// Redis was the only project once, and its figures had no command.
fn redis_command() -> Cow<'static, str> {
    Project::Redis.command().into()
}

impl Project {
    fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Sqlite => "sqlite",
            Self::Cargo => "cargo",
        }
    }

    fn command(self) -> &'static str {
        match self {
            Self::Redis => "make redis-server",
            Self::Sqlite => "make sqlite3",
            Self::Cargo => "cargo build --offline",
        }
    }

    /// Puts the sources at `pristine`, as far as they are made ready only once; what they are.
    fn prepare(self, pristine: &Path) -> Result<String, Failure> {
        match self {
            Self::Redis => sources::redis(pristine),
            Self::Sqlite => {
                let name = sources::sqlite(pristine)?;
                // Where nothing is optimised the compiler takes the least time, and what is measured
                // counts the most.
                let configure = "cd \"$1\" && ./configure --quiet --disable-tcl --disable-readline \
                                 CFLAGS='-O0 -w'";
                Job::new("sh").args(["-c", configure, "sh"]).arg(pristine).limit(LIMIT).run()?;
                Ok(format!("{name}, configured with CFLAGS=-O0"))
            }
            Self::Cargo => vendored(pristine),
        }
    }

    /// The build in the tree at `place`.
    fn job(self, place: &Path) -> Job {
        let jobs = thread::available_parallelism().map_or(1, std::num::NonZero::get).to_string();
        let make = || {
            // An outer make's jobserver is not ours.
            Job::new("make").args(["--silent", "-j", &jobs]).env("MAKEFLAGS", "")
        };
        let job = match self {
            // What Redis' users run; without jemalloc, whose configure would be most of it.
            Self::Redis => make()
                .args(["MALLOC=libc", "USE_SYSTEMD=no", "-C"])
                .arg(place.join("src"))
                .arg("redis-server"),
            Self::Sqlite => make().arg("-C").arg(place).arg("sqlite3"),
            Self::Cargo => {
                // In the tree: cargo looks for its configuration from there upwards.
                let script = "cd \"$2\" && exec \"$1\" build --offline --quiet --target-dir target";
                let job = Job::new("sh").args(["-c", script, "sh"]).arg(cargo()).arg(place);
                job.env("CARGO_INCREMENTAL", "0").env("RUSTC_WRAPPER", "")
            }
        };
        job.limit(LIMIT).watched()
    }
}

/// Builds in turn. What keeps vrift-trace from being measured goes to `problems`.
///
/// # Errors
/// When the sources cannot be had, or a native or a floor's build fails.
pub fn measure(
    tools: &Tools,
    work: &Path,
    project: Project,
    rounds: usize,
    problems: &mut Vec<String>,
) -> Result<InPlace, Failure> {
    let pristine = work.join(project.name());
    let name = project.prepare(&pristine)?;
    let place = work.join("in-place");
    let native = project.job(&place);
    let floor = native.clone().under(tools.floor());
    let mut overlay = overlay(tools, project, &pristine, &place, problems);
    // Where a directory is, as deep as the real one.
    let point = work.join("mounted");
    fs::create_dir_all(&point).map_err(Failure::io(format!("cannot make {}", point.display())))?;
    let mut mounted = overlay.is_some().then(|| over(tools, project, &point, "mount")).flatten();
    let mut costs = InPlace {
        project: name,
        command: project.command().into(),
        native: Cost::default(),
        floor: Cost::default(),
        overlay: Cost::default(),
        mounted: Cost::default(),
    };
    let run = |job: &Job, cost: Option<&mut Cost>| -> Result<(), Failure> {
        copy(&pristine, &place)?;
        let done = job.run()?;
        if let Some(cost) = cost {
            cost.add(&done);
        }
        Ok(())
    };
    run(&native, None)?;
    let rounds = rounds.min(MOST_ROUNDS);
    for round in 1..=rounds {
        eprintln!("in place: {}, round {round} of {rounds}", project.name());
        run(&native, Some(&mut costs.native))?;
        run(&floor, Some(&mut costs.floor))?;
        for (job, cost) in [(&mut overlay, &mut costs.overlay), (&mut mounted, &mut costs.mounted)]
        {
            if let Some(this) = job
                && let Err(error) = run(this, Some(cost))
            {
                problems.push(error.to_string());
                *job = None;
            }
        }
    }
    Ok(costs)
}

fn overlay(
    tools: &Tools,
    project: Project,
    pristine: &Path,
    place: &Path,
    problems: &mut Vec<String>,
) -> Option<Job> {
    tools.trace()?;
    if let Err(error) = tools.ingest(pristine, &reference(project)) {
        problems.push(error.to_string());
        return None;
    }
    over(tools, project, &mount_point(place), "notify")
}

/// The build in an overlay at `at`, seen in this way.
fn over(tools: &Tools, project: Project, at: &Path, view: &str) -> Option<Job> {
    let mut mount = at.to_owned().into_os_string();
    mount.push(format!("={},mode=overlay", reference(project)));
    let trace = tools.trace()?.args(["--view", view, "-m"]).arg(mount);
    Some(project.job(at).under(trace))
}

fn reference(project: Project) -> String {
    format!("bench/{}", project.name())
}

fn copy(from: &Path, to: &PathBuf) -> Result<(), Failure> {
    if to.exists() {
        fs::remove_dir_all(to).map_err(Failure::io(format!("cannot remove {}", to.display())))?;
    }
    Job::new("cp").arg("-a").arg(from).arg(to).run().map(drop)
}

/// The cargo that started this program, else the one in PATH.
fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// A package at `root` with its dependencies beside it, as `cargo vendor` takes them from what was
/// fetched to build this program: of the same versions, and without a network.
fn vendored(root: &Path) -> Result<String, Failure> {
    const MANIFEST: &str = "[package]\nname = \"vendored\"\nversion = \"0.0.0\"\nedition = \"2021\"\n\n\
        [dependencies]\nserde = { version = \"1\", features = [\"derive\"] }\nserde_json = \"1\"\n\n\
        [workspace]\n";
    const MAIN: &str = "#[derive(serde::Deserialize, serde::Serialize)]\nstruct Thing {\n    \
        name: String,\n    size: u64,\n}\n\nfn main() {\n    let thing = Thing { name: \"a\".into(), size: 1 };\n    \
        let text = serde_json::to_string(&thing).unwrap();\n    \
        let thing: Thing = serde_json::from_str(&text).unwrap();\n    \
        println!(\"{} {}\", thing.name, thing.size);\n}\n";
    const CONFIGURATION: &str = "[source.crates-io]\nreplace-with = \"vendored-sources\"\n\n\
        [source.vendored-sources]\ndirectory = \"vendor\"\n";
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
    let make = || -> io::Result<()> {
        fs::create_dir_all(root.join("src"))?;
        fs::create_dir_all(root.join(".cargo"))?;
        fs::write(root.join("Cargo.toml"), MANIFEST)?;
        fs::write(root.join("src/main.rs"), MAIN)?;
        fs::copy(&lock, root.join("Cargo.lock")).map(drop)
    };
    make().map_err(Failure::io(format!("cannot make a package at {}", root.display())))?;
    let script = "cd \"$2\" && exec \"$1\" vendor --offline --quiet vendor";
    Job::new("sh").args(["-c", script, "sh"]).arg(cargo()).arg(root).limit(LIMIT).run()?;
    let configuration = root.join(".cargo/config.toml");
    fs::write(&configuration, CONFIGURATION)
        .map_err(Failure::io(format!("cannot write {}", configuration.display())))?;
    let crates = fs::read_dir(root.join("vendor"))
        .map_err(Failure::io("cannot list the vendored crates"))?
        .count();
    Ok(format!("A program with serde_json and serde's macros, {crates} vendored crates"))
}
