//! The comparison: builds the programs, makes the trees, runs each thing natively, under the floor
//! and under vrift-trace in turn, and puts the figures side by side.
//!
//! In turn, because a machine's speed drifts by more than the differences that matter: what is
//! divided by each other was measured within the same seconds.

pub mod build;
pub mod calls;
pub mod contention;
pub mod fixture;
pub mod in_place;
pub mod jobs;
pub mod machine;
pub mod peers;
pub mod plots;
pub mod process;
pub mod report;
pub mod sources;
pub mod startup;
pub mod stats;
pub mod store;
pub mod tools;
pub mod views;

use std::env;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::Failure;
use in_place::{InPlace, Project};
use machine::Machine;
use process::Job;
use report::Figures;
use store::Amounts;
use tools::Tools;

/// Runs the same work natively, under the floor (the least supervisor that reads each path and
/// answers) and under vrift-trace, and prints the figures side by side as Markdown and JSON.
#[derive(Debug, Parser)]
#[command(name = "vrift-bench", version)]
pub struct Options {
    /// Rounds of each measurement; medians are over the rounds
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Measure only this part (repeatable) [default: calls, build, in-place, startup, peers, contention]
    #[arg(long, value_enum)]
    pub only: Vec<Part>,
    /// One round, fewer files: to see whether it works
    #[arg(long)]
    pub quick: bool,
    /// Write the JSON to this file instead of printing it after the table
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Take the programs beside this one as they are
    #[arg(long)]
    pub no_build: bool,
    /// Draw each table as an SVG file in this directory, too
    #[arg(long, value_name = "DIR")]
    pub plots: Option<PathBuf>,
    /// Measure nothing: draw what an earlier run wrote with --json
    #[arg(
        long,
        value_name = "FILE",
        requires = "plots",
        conflicts_with_all = ["rounds", "only", "quick", "json", "no_build"]
    )]
    pub from: Option<PathBuf>,
    /// Only make the tree for the guest `calls` in this new directory, to measure by hand
    #[arg(long, value_name = "DIR", exclusive = true)]
    pub make_fixture: Option<PathBuf>,
}

/// A part of the comparison.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Part {
    /// Single system calls.
    Calls,
    /// A whole C build.
    Build,
    /// Redis, built in place.
    InPlace,
    /// Starting `true`.
    Startup,
    /// strace, syd, proot, bwrap and fuse-overlayfs beside it, as far as they are installed.
    Peers,
    /// Up to 64 processes that make the same call at once.
    Contention,
    /// find, du, git, tar, python3 and node over large trees (VRIFT_BENCH_FILES: files of the
    /// repository).
    Jobs,
    /// SQLite, built in place.
    Sqlite,
    /// A program of a few crates, built in place.
    Cargo,
    /// Ingest, export and verify, and starts with manifests of up to a million entries.
    Store,
    /// Walks over many files, by each view of a mount.
    Views,
}

impl Part {
    /// What takes long is measured only when it is asked for.
    fn is_long(self) -> bool {
        matches!(self, Self::Jobs | Self::Sqlite | Self::Cargo | Self::Store | Self::Views)
    }
}

/// Names in the manifest that start-up is measured with.
const LARGE: usize = 200_000;

/// Files of the tree that is walked over beside the peers.
const WALKED: usize = 20_000;

/// Files of the repository that whole jobs run over, unless [`FILES_VARIABLE`] says otherwise.
const REPOSITORY: usize = 100_000;

/// Overrides [`REPOSITORY`].
const FILES_VARIABLE: &str = "VRIFT_BENCH_FILES";

/// How long a crowd makes calls, in milliseconds.
const CROWDED: u64 = 1000;
/// Files of the tree that both views are measured on.
const VIEWED: usize = 100_000;

/// Takes every figure that was asked for. What could not be taken is in `problems` of the result.
///
/// # Errors
/// When there is no floor or no work directory: nothing could be measured then.
pub fn measure(options: &Options) -> Result<Figures, Failure> {
    let work = tempfile::Builder::new()
        .prefix("vrift-bench-")
        .tempdir()
        .map_err(Failure::io("cannot make a work directory"))?;
    let (tools, missing) = Tools::find(&work.path().join("store"), !options.no_build)?;
    let mut problems: Vec<String> = Vec::new();
    problems.extend(missing.map(|why| format!("vrift-trace: {why}")));
    let rounds = if options.quick { 1 } else { options.rounds.max(1) };
    let wanted = |part: Part| {
        if options.only.is_empty() { !part.is_long() } else { options.only.contains(&part) }
    };
    let files = repository_files(options.quick)?;
    let machine = Machine::look(work.path());

    let calls = if wanted(Part::Calls) {
        calls::measure(&tools, work.path(), rounds, options.quick, &mut problems)
    } else {
        Ok(Vec::new())
    };
    let calls = kept(calls, &mut problems).unwrap_or_default();
    let mut build = None;
    if wanted(Part::Build) {
        build = kept(build::measure(&tools, work.path(), rounds, &mut problems), &mut problems);
    }
    let mut built = |part: Part, project: Project| -> Option<InPlace> {
        if !wanted(part) {
            return None;
        }
        let done = in_place::measure(&tools, work.path(), project, rounds, &mut problems);
        kept(done, &mut problems)
    };
    let in_place = built(Part::InPlace, Project::Redis);
    let sqlite = built(Part::Sqlite, Project::Sqlite);
    let cargo = built(Part::Cargo, Project::Cargo);
    let mut startup = None;
    if wanted(Part::Startup) {
        let (rounds, files) = if options.quick { (5, LARGE / 100) } else { (8 * rounds, LARGE) };
        let done = startup::measure(&tools, work.path(), rounds, files, &mut problems);
        startup = kept(done, &mut problems);
    }
    let mut peers = None;
    if wanted(Part::Peers) {
        let files = if options.quick { WALKED / 20 } else { WALKED };
        let done = peers::measure(&tools, work.path(), rounds, files, &mut problems);
        peers = kept(done, &mut problems);
    }
    let mut contention = Vec::new();
    if wanted(Part::Contention) {
        let length = if options.quick { CROWDED / 10 } else { CROWDED };
        let done = contention::measure(&tools, work.path(), rounds, length, &mut problems);
        contention = kept(done, &mut problems).unwrap_or_default();
    }
    let mut jobs = None;
    if wanted(Part::Jobs) {
        let done = jobs::measure(&tools, work.path(), rounds, files, &mut problems);
        jobs = kept(done, &mut problems);
    }
    let mut store = None;
    if wanted(Part::Store) {
        let amounts = amounts(options.quick);
        let done = store::measure(&tools, work.path(), rounds, &amounts, &mut problems);
        store = kept(done, &mut problems);
    }
    let mut views = None;
    if wanted(Part::Views) {
        let files = if options.quick { VIEWED / 20 } else { VIEWED };
        let done = views::measure(&tools, work.path(), rounds, files, &mut problems);
        views = kept(done, &mut problems);
    }
    Ok(Figures {
        machine,
        command: command(),
        commit: commit(),
        rounds,
        calls,
        build,
        in_place,
        sqlite,
        cargo,
        startup,
        peers,
        contention,
        jobs,
        store,
        views,
        problems,
    })
}

/// How much is stored to be measured.
fn amounts(quick: bool) -> Amounts {
    if quick {
        let manifests = vec![10, LARGE / 100, LARGE / 20];
        Amounts { small: LARGE / 40, big: 8 << 20, manifests, starts: 3 }
    } else {
        let manifests = vec![10, LARGE, 5 * LARGE];
        Amounts { small: LARGE, big: 256 << 20, manifests, starts: 20 }
    }
}

/// Files of the repository that whole jobs run over.
fn repository_files(quick: bool) -> Result<usize, Failure> {
    match env::var_os(FILES_VARIABLE) {
        None if quick => Ok(REPOSITORY / 50),
        None => Ok(REPOSITORY),
        Some(text) => {
            text.to_str().and_then(|text| text.parse().ok()).filter(|files| *files > 0).ok_or_else(
                || Failure::Variable { name: FILES_VARIABLE, text: text.to_string_lossy().into() },
            )
        }
    }
}

fn kept<T>(done: Result<T, Failure>, problems: &mut Vec<String>) -> Option<T> {
    done.map_err(|error| problems.push(error.to_string())).ok()
}

/// How this run is repeated.
fn command() -> String {
    let profile = if cfg!(debug_assertions) { "" } else { "--release " };
    let mut line = format!("cargo run {profile}-p vrift-bench");
    let args: Vec<String> =
        env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    if !args.is_empty() {
        line.push_str(" -- ");
        line.push_str(&args.join(" "));
    }
    line
}

fn commit() -> Option<String> {
    let git = Job::new("git").args(["describe", "--always", "--dirty"]);
    let text = String::from_utf8(git.run().ok()?.stdout).ok()?;
    Some(text.trim().to_owned())
}
