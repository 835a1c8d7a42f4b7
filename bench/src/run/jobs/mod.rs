//! Whole jobs over a tree: on a real copy natively and under the floor, over the stored tree under
//! vrift-trace, and there recorded too.
//!
//! What a job prints has to be the same each way, as far as it is the same on two file systems.

mod trees;

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Failure;

use super::build::Cost;
use super::fixture::mount_point;
use super::process::{Done, Job};
use super::tools::Tools;

/// A walk over a hundred thousand files is no hang.
const LIMIT: Duration = Duration::from_secs(10 * 60);

/// More rounds of jobs this long say nothing new.
const MOST_ROUNDS: usize = 3;

/// What a job takes, each way.
#[derive(Debug, Deserialize, Serialize)]
pub struct Row {
    /// What the job is, for people.
    pub label: Cow<'static, str>,
    /// On the real tree, without a supervisor.
    pub native: Cost,
    /// On the real tree, under the floor that says CONTINUE.
    pub floor: Cost,
    /// Under vrift-trace, over the stored tree.
    pub trace: Cost,
    /// The same with `-o`.
    pub recorded: Cost,
}

/// All of them.
#[derive(Debug, Deserialize, Serialize)]
pub struct Jobs {
    /// Files of the repository.
    pub files: usize,
    /// Modules that Python imports.
    pub python: usize,
    /// Modules that Node requires.
    pub node: usize,
    /// The rows, in the order of the table.
    pub rows: Vec<Row>,
    /// Programs that are not installed, whose jobs are left out.
    pub absent: Vec<Cow<'static, str>>,
}

/// The trees.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Tree {
    Repository,
    Python,
    Node,
}

/// How vrift-trace shows the tree.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mode {
    ReadOnly,
    /// In an overlay that is thrown away.
    Overlay,
    /// In an overlay whose changes every later run finds.
    Kept,
}

struct Kind {
    program: &'static str,
    label: &'static str,
    tree: Tree,
    mode: Mode,
    /// Run by `sh -c`, in the tree. `$1` is the program.
    script: &'static str,
    /// Whether it prints the same wherever it runs, but for the order.
    same: bool,
}

const WALK: &str = "exec \"$1\" . -type f -size -1000";
const STATUS: &str = "exec \"$1\" -c safe.directory=* status --porcelain";

const KINDS: [Kind; 7] = [
    kind("find", "`find -size`", Tree::Repository, Mode::ReadOnly, WALK, true),
    // What a directory takes on a disk is the file system's matter.
    kind("du", "`du -s`", Tree::Repository, Mode::ReadOnly, "exec \"$1\" -s .", false),
    kind("git", "`git status` with a fresh index", Tree::Repository, Mode::Kept, STATUS, true),
    kind(
        "git",
        "`git status` that reads every file",
        Tree::Repository,
        Mode::Overlay,
        STATUS,
        true,
    ),
    kind(
        "tar",
        "`tar c` into a pipe",
        Tree::Repository,
        Mode::ReadOnly,
        // Not the archive itself: tar doesn't read what goes to /dev/null. Without .git, whose index
        // the other jobs write.
        "\"$1\" -c --exclude=./.git . | wc -c",
        true,
    ),
    kind(
        "python3",
        "`python3 -c` importing",
        Tree::Python,
        Mode::ReadOnly,
        "exec \"$1\" -I -c 'import glob, importlib, sys; sys.path.insert(0, \".\")\n\
         found = glob.glob(\"package_*/module_*.py\")\n\
         names = sorted(name[:-3].replace(\"/\", \".\") for name in found)\n\
         print(sum(importlib.import_module(name).VALUE for name in names))'",
        true,
    ),
    kind("node", "`node` requiring", Tree::Node, Mode::ReadOnly, "exec \"$1\" main.js", true),
];

const fn kind(
    program: &'static str,
    label: &'static str,
    tree: Tree,
    mode: Mode,
    script: &'static str,
    same: bool,
) -> Kind {
    Kind { program, label, tree, mode, script, same }
}

/// Runs each job in turn, after one time that does not count, over a repository of `files` files, a
/// hundredth as many modules for Python and a fifth as many for Node. What keeps one from being
/// measured goes to `problems`, and the others are measured all the same.
///
/// # Errors
/// When the trees cannot be made.
pub fn measure(
    tools: &Tools,
    work: &Path,
    rounds: usize,
    files: usize,
    problems: &mut Vec<String>,
) -> Result<Jobs, Failure> {
    let (python, node) = ((files / 100).max(1), (files / 5).max(1));
    let mut jobs = Jobs { files, python, node, rows: Vec::new(), absent: Vec::new() };
    for program in ["find", "du", "git", "tar", "python3", "node"] {
        if Job::new(path_of(program)).arg("--version").run().is_err() {
            jobs.absent.push(program.into());
        }
    }
    let ground = Ground { tools, work };
    eprintln!("jobs: making the trees");
    ground.prepare(&jobs, problems)?;
    let rounds = rounds.min(MOST_ROUNDS);
    for kind in &KINDS {
        if jobs.absent.iter().any(|program| program == kind.program) {
            continue;
        }
        let label = match kind.tree {
            Tree::Repository => format!("{}, {files} files", kind.label),
            Tree::Python => format!("{} {python} modules", kind.label),
            Tree::Node => format!("{} {node} modules", kind.label),
        };
        eprintln!("jobs: {label}, {rounds} rounds");
        let costs = || (Cost::default(), Cost::default());
        let ((native, floor), (trace, recorded)) = (costs(), costs());
        let mut row = Row { label: label.into(), native, floor, trace, recorded };
        if let Err(error) = ground.rounds(kind, rounds, &mut row, problems) {
            problems.push(format!("{}: {error}", row.label));
        }
        jobs.rows.push(row);
    }
    Ok(jobs)
}

/// A program of the distribution's, where it has one: what comes first in PATH may be a script that
/// looks for it, and what is measured isn't that.
fn path_of(program: &str) -> PathBuf {
    let own = Path::new("/usr/bin").join(program);
    if own.exists() { own } else { program.into() }
}

struct Ground<'a> {
    tools: &'a Tools,
    work: &'a Path,
}

impl Ground<'_> {
    fn root(&self, tree: Tree) -> PathBuf {
        self.work.join(match tree {
            Tree::Repository => "repository",
            Tree::Python => "python",
            Tree::Node => "node",
        })
    }

    /// An index of the repository that knows nothing of its files.
    fn unrefreshed(&self) -> PathBuf {
        self.work.join("unrefreshed-index")
    }

    /// Makes the trees that there are programs for, and stores them.
    fn prepare(&self, jobs: &Jobs, problems: &mut Vec<String>) -> Result<(), Failure> {
        let absent = |program: &str| jobs.absent.iter().any(|this| this == program);
        let mut store = |tree: Tree| {
            if let Err(error) = self.tools.ingest(&self.root(tree), &name(tree)) {
                problems.push(error.to_string());
            }
        };
        let repository = self.root(Tree::Repository);
        if absent("git") {
            super::fixture::make_small(&repository, jobs.files)?;
        } else {
            trees::repository(&repository, jobs.files)?;
            trees::unrefreshed_index(&repository, &self.unrefreshed())?;
        }
        store(Tree::Repository);
        if !absent("python3") {
            let root = self.root(Tree::Python);
            trees::python(&path_of("python3").to_string_lossy(), &root, jobs.python)?;
            store(Tree::Python);
        }
        if !absent("node") {
            trees::node(&self.root(Tree::Node), jobs.node)?;
            store(Tree::Node);
        }
        Ok(())
    }

    /// One kind of job, `rounds` times each way in turn.
    fn rounds(
        &self,
        kind: &Kind,
        rounds: usize,
        row: &mut Row,
        problems: &mut Vec<String>,
    ) -> Result<(), Failure> {
        let root = self.root(kind.tree);
        let native = job(kind, &root);
        let floor = native.clone().under(self.tools.floor());
        let record = self.work.join("jobs.trace");
        let mut trace = self.trace(kind, "plain", |trace| trace);
        let mut recorded = self.trace(kind, "recorded", |trace| trace.arg("-o").arg(&record));
        let mut expected = None;
        for round in 0..=rounds {
            let counts = round > 0;
            let done = self.real(kind, &native)?;
            let expected = &*expected.get_or_insert_with(|| done.stdout.clone());
            keep(kind, expected, &done, counts, &mut row.native)?;
            let done = self.real(kind, &floor)?;
            keep(kind, expected, &done, counts, &mut row.floor)?;
            for (job, cost) in [(&mut trace, &mut row.trace), (&mut recorded, &mut row.recorded)] {
                // A job whose changes are kept ends when they are on the disk, and so is all else then.
                if kind.mode == Mode::Kept {
                    Job::new("sync").arg("-f").arg(self.work).limit(LIMIT).run()?;
                }
                if let Some(this) = job
                    && let Err(error) =
                        this.run().and_then(|done| keep(kind, expected, &done, counts, cost))
                {
                    problems.push(format!("{}: {error}", row.label));
                    *job = None;
                }
            }
        }
        Ok(())
    }

    /// Runs a job on the real tree, as it is to be found.
    fn real(&self, kind: &Kind, job: &Job) -> Result<Done, Failure> {
        if kind.program == "git" && kind.mode == Mode::Overlay {
            let index = self.root(kind.tree).join(".git/index");
            fs::copy(self.unrefreshed(), &index)
                .map_err(Failure::io(format!("cannot write {}", index.display())))?;
        }
        job.run()
    }

    /// The job over the stored tree, with more `options`; `which` tells its changes from others'.
    fn trace(&self, kind: &Kind, which: &str, options: impl Fn(Job) -> Job) -> Option<Job> {
        let at = mount_point(&self.root(kind.tree));
        let mut mount = at.clone().into_os_string();
        mount.push("=");
        mount.push(name(kind.tree));
        match kind.mode {
            Mode::ReadOnly => {}
            Mode::Overlay => mount.push(",mode=overlay"),
            Mode::Kept => {
                mount.push(",mode=overlay,upper=");
                mount.push(self.work.join(format!("upper-{which}")));
            }
        }
        let trace = options(self.tools.trace()?.arg("-m").arg(mount));
        Some(job(kind, &at).under(trace))
    }
}

/// The ref of a stored tree.
fn name(tree: Tree) -> String {
    format!("jobs/{tree:?}").to_lowercase()
}

/// The job in the tree at `at`.
fn job(kind: &Kind, at: &Path) -> Job {
    let enter = format!("cd \"$2\" || exit; {}", kind.script);
    let job = Job::new("sh").args(["-c", &enter, "sh"]).arg(path_of(kind.program)).arg(at);
    let job = job.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    job.limit(LIMIT).watched()
}

/// Counts a run that printed what it should.
fn keep(
    kind: &Kind,
    expected: &[u8],
    done: &Done,
    counts: bool,
    cost: &mut Cost,
) -> Result<(), Failure> {
    if kind.same && !same_lines(expected, &done.stdout) {
        let (some, other) = (lines(expected).len(), lines(&done.stdout).len());
        return Err(Failure::Differs {
            what: format!("what it prints, {other} lines instead of {some}"),
        });
    }
    if counts {
        cost.add(done);
    }
    Ok(())
}

/// Directories are listed in an order of each file system's own.
fn same_lines(one: &[u8], other: &[u8]) -> bool {
    let sorted = |text| {
        let mut lines = lines(text);
        lines.sort_unstable();
        lines
    };
    one == other || sorted(one) == sorted(other)
}

fn lines(text: &[u8]) -> Vec<&[u8]> {
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_may_come_in_another_order_but_not_otherwise() {
        assert!(same_lines(b"a\nb\nc\n", b"c\na\nb\n"));
        assert!(!same_lines(b"a\nb\n", b"a\nb\nb\n"));
        assert!(!same_lines(b"1\n", b""));
    }
}
