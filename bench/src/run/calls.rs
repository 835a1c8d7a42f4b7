//! Single system calls: the guest `calls` natively, under both floors and under vrift-trace.

use std::borrow::Cow;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::guest::{Times, fixture};

use super::fixture::{make_calls, make_static, mount_point};
use super::process::{Done, Job};
use super::stats::Samples;
use super::tools::Tools;

/// Which floor a call is compared with.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Against {
    /// The floor that says CONTINUE: the call is not answered by vrift-trace either, or a floor
    /// could not answer it.
    Continue,
    /// The floor that answers from memory, or with a descriptor.
    Answer,
}

/// One operation in nanoseconds, over the rounds.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Row {
    /// The guest's name for it.
    pub name: Cow<'static, str>,
    /// What it is, for people.
    pub label: Cow<'static, str>,
    /// Which floor counts.
    pub against: Against,
    /// The ratio to that floor that is aimed at.
    pub aim: Option<f64>,
    /// Medians of each round.
    pub native: Samples,
    /// Under the floor that says CONTINUE.
    pub floor: Samples,
    /// Under the floor that answers.
    pub answering: Samples,
    /// Under vrift-trace, on the projection.
    pub trace: Samples,
}

impl Row {
    /// The floor that counts for this row.
    #[must_use]
    pub fn its_floor(&self) -> &Samples {
        match self.against {
            Against::Continue => &self.floor,
            Against::Answer => &self.answering,
        }
    }
}

const STAT_AIM: Option<f64> = Some(1.25);
const OPEN_AIM: Option<f64> = Some(1.3);
const OTHER_AIM: Option<f64> = Some(1.1);

/// The rows of the table, in its order.
const ROWS: &[(&str, &str, Against, Option<f64>)] = &[
    ("stat", "stat", Against::Answer, STAT_AIM),
    ("stat_missing", "stat, ENOENT", Against::Answer, STAT_AIM),
    ("access", "access R_OK", Against::Answer, None),
    ("readlink", "readlink", Against::Answer, None),
    ("readlink_file", "readlink of a file, EINVAL", Against::Answer, None),
    ("open_close", "open + close", Against::Answer, OPEN_AIM),
    ("open_read_close", "open + read 4 KiB + close", Against::Answer, OPEN_AIM),
    ("open_missing", "open, ENOENT", Against::Answer, OPEN_AIM),
    ("fstat", "fstat", Against::Continue, None),
    ("fstat_empty_path", "newfstatat AT_EMPTY_PATH", Against::Continue, None),
    ("readdir_10", "open + read + close a directory of 10", Against::Continue, None),
    ("readdir_1000", "the same of 1,000", Against::Continue, None),
    (fixture::OF_THE_LAST, "the same of 100,000", Against::Continue, None),
    ("chdir_twice", "chdir there and back", Against::Continue, None),
    ("spawn_true", "spawn and wait for `true`, projected", Against::Continue, None),
    (fixture::OF_STATIC, "the same of a static program", Against::Continue, None),
    ("other_stat", "not ours: stat", Against::Continue, OTHER_AIM),
    ("other_stat_missing", "not ours: stat, ENOENT", Against::Continue, OTHER_AIM),
    ("other_open_read_close", "not ours: open + read + close", Against::Continue, OTHER_AIM),
    ("other_spawn_true", "not ours: spawn `/bin/true`", Against::Continue, None),
];

/// Measures `rounds` times, native, floors and vrift-trace in turn. What keeps vrift-trace from being
/// measured goes to `problems`; the rest is measured all the same. When `quick` the directory that is
/// long to make is left out.
///
/// # Errors
/// When the fixture cannot be made, or a command other than vrift-trace's fails.
pub fn measure(
    tools: &Tools,
    work: &Path,
    rounds: usize,
    quick: bool,
    problems: &mut Vec<String>,
) -> Result<Vec<Row>, Failure> {
    let ground = Ground::prepare(&work.join("base"), !quick, problems)?;
    let Ground { base, without, .. } = &ground;
    let guest = |base: &Path| ground.guest(tools, base).cwd(work);
    let mut answering = tools.floor();
    for name in [fixture::FILE, fixture::MISSING, fixture::LINK] {
        answering = answering.arg("--answer").arg(base.join(name));
    }
    let at = mount_point(base);
    let mut mount = at.clone().into_os_string();
    mount.push("=bench/calls");
    let mut trace = tools.trace().map(|trace| guest(&at).under(trace.arg("-m").arg(mount)));
    if let Err(error) = tools.ingest(base, "bench/calls") {
        problems.push(error.to_string());
        trace = None;
    }
    let native = guest(base);
    let floor = guest(base).under(tools.floor());
    let answering = guest(base).under(answering);
    let mut rows: Vec<Row> = ROWS
        .iter()
        .filter(|(operation, ..)| !without.contains(operation))
        .map(|&row| empty(row))
        .collect();
    for round in 1..=rounds {
        eprintln!("calls: round {round} of {rounds}");
        add(&mut rows, &native, |row| &mut row.native)?;
        add(&mut rows, &floor, |row| &mut row.floor)?;
        add(&mut rows, &answering, |row| &mut row.answering)?;
        if let Some(job) = &trace
            && let Err(error) = add(&mut rows, job, |row| &mut row.trace)
        {
            problems.push(error.to_string());
            trace = None;
        }
    }
    Ok(rows)
}

/// The guest's trees, and what isn't measured on them.
#[derive(Debug)]
pub struct Ground {
    /// The tree that is shown.
    pub base: PathBuf,
    /// The real file that is under no mount.
    pub other: PathBuf,
    /// Operations that something is missing for.
    pub without: Vec<&'static str>,
}

impl Ground {
    /// Makes them, that of 100,000 files only `with_last`. What keeps the static program from being made
    /// goes to `problems`.
    ///
    /// # Errors
    /// Those of making files; `base` must not exist.
    pub fn prepare(
        base: &Path,
        with_last: bool,
        problems: &mut Vec<String>,
    ) -> Result<Ground, Failure> {
        let last = fixture::DIRECTORIES.len() - usize::from(!with_last);
        let other = make_calls(base, &fixture::DIRECTORIES[..last])?;
        let mut without = Vec::new();
        if !with_last {
            without.push(fixture::OF_THE_LAST);
        }
        if let Err(error) = make_static(base) {
            problems.push(error.to_string());
            without.push(fixture::OF_STATIC);
        }
        Ok(Ground { base: base.to_owned(), other, without })
    }

    /// The arguments of the guest where the tree is shown at `at`.
    pub fn arguments(&self, at: &Path) -> Vec<OsString> {
        let mut all = vec![at.into(), self.other.clone().into()];
        all.extend(
            self.without.iter().flat_map(|operation| ["--without".into(), operation.into()]),
        );
        all
    }

    /// The guest where the tree is shown at `at`.
    pub(super) fn guest(&self, tools: &Tools, at: &Path) -> Job {
        Job::new(&tools.calls).args(self.arguments(at))
    }
}

/// What the guest calls an operation, and what it is for people, in the order of the table.
pub fn labels() -> impl Iterator<Item = (&'static str, &'static str)> {
    ROWS.iter().map(|(name, label, ..)| (*name, *label))
}

/// Runs the guest.
pub(super) fn times(job: &Job) -> Result<(Done, Times), Failure> {
    let done = job.run()?;
    let times = serde_json::from_slice(&done.stdout)
        .map_err(|source| Failure::Output { command: job.line(), source })?;
    Ok((done, times))
}

fn empty((name, label, against, aim): (&'static str, &'static str, Against, Option<f64>)) -> Row {
    let none = Samples::default;
    let (native, floor, answering, trace) = (none(), none(), none(), none());
    let (name, label) = (name.into(), label.into());
    Row { name, label, against, aim, native, floor, answering, trace }
}

fn add(rows: &mut [Row], job: &Job, column: fn(&mut Row) -> &mut Samples) -> Result<(), Failure> {
    let (_, times) = times(job)?;
    for row in rows {
        if let Some(time) = times.get(&*row.name) {
            column(row).push(time.median);
        }
    }
    Ok(())
}
