//! What the store does, beside what people would use instead: ingest and export beside `cp -a`, and
//! checking beside `b3sum`. And what a manifest costs a job that starts, by its number of entries.

mod manifests;

use std::borrow::Cow;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Failure;

pub use manifests::Manifests;

use super::build::Cost;
use super::fixture::{make_big, make_small, put_aside};
use super::process::{Done, Job};
use super::tools::Tools;

/// Copying hundreds of thousands of files is no hang.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// More rounds say nothing new: what is slow here is the disk.
const MOST_ROUNDS: usize = 3;

/// How much is stored.
#[derive(Clone, Debug)]
pub struct Amounts {
    /// Small files.
    pub small: usize,
    /// Bytes of the big files, all of them together.
    pub big: usize,
    /// Entries of the manifests that jobs are started with.
    pub manifests: Vec<usize>,
    /// Starts with each of them.
    pub starts: usize,
}

/// Big files.
const BIG: usize = 10;

/// One thing that is done with a tree.
#[derive(Debug, Deserialize, Serialize)]
pub struct Step {
    /// What it is, for people.
    pub label: Cow<'static, str>,
    /// The step of the same tree that it is divided by.
    pub by: Option<usize>,
    /// Files in a second that are aimed at.
    pub aim: Option<f64>,
    /// What it took.
    pub cost: Cost,
}

/// One tree, and what was done with it.
#[derive(Debug, Deserialize, Serialize)]
pub struct Group {
    /// Files in the tree.
    pub files: usize,
    /// Bytes of their contents.
    pub bytes: u64,
    /// What was done, in this order.
    pub steps: Vec<Step>,
}

/// All of it.
#[derive(Debug, Deserialize, Serialize)]
pub struct Store {
    /// Many small files, few big ones.
    pub groups: Vec<Group>,
    /// Starting jobs.
    pub manifests: Option<Manifests>,
    /// Programs that are not installed, beside which nothing was measured.
    pub absent: Vec<Cow<'static, str>>,
}

/// What can be done with a tree.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum What {
    Copy,
    CopyAndSync,
    IngestNoSync,
    Ingest,
    IngestAgain,
    Export,
    B3sum,
    Verify,
}

/// Each with what it is divided by. What follows an ingest finds its store.
const STEPS: [(What, &str, Option<What>); 8] = [
    (What::Copy, "`cp -a`", None),
    (What::IngestNoSync, "`vrift ingest --no-sync` into an empty store", Some(What::Copy)),
    (What::CopyAndSync, "`cp -a`, then `sync -f`", None),
    (What::Ingest, "`vrift ingest` into an empty store", Some(What::CopyAndSync)),
    (What::IngestAgain, "`vrift ingest` again, unchanged", Some(What::Copy)),
    (What::Export, "`vrift export`", Some(What::Copy)),
    (What::B3sum, "`b3sum`", None),
    (What::Verify, "`vrift verify` of the tree", Some(What::B3sum)),
];

/// Files in a second that an ingest which finds nothing new should get through.
const AGAIN_AIM: f64 = 200_000.0;

/// Measures in turn. What keeps a step from being measured goes to `problems`.
///
/// # Errors
/// When the trees cannot be made.
pub fn measure(
    tools: &Tools,
    work: &Path,
    rounds: usize,
    amounts: &Amounts,
    problems: &mut Vec<String>,
) -> Result<Store, Failure> {
    let place = work.join("storing");
    fs::create_dir(&place).map_err(Failure::io(format!("cannot make {}", place.display())))?;
    let mut store = Store { groups: Vec::new(), manifests: None, absent: Vec::new() };
    if Job::new("b3sum").arg("--version").run().is_err() {
        store.absent.push("b3sum".into());
    }
    let rounds = rounds.min(MOST_ROUNDS);
    for small in [true, false] {
        let source = place.join("source");
        eprintln!("store: making {} files", if small { amounts.small } else { BIG });
        if small {
            make_small(&source, amounts.small)?;
        } else {
            make_big(&source, BIG, amounts.big / BIG)?;
        }
        let ground = Ground { tools, place: &place, source: &source };
        let files = if small { amounts.small } else { BIG };
        let mut group = Group { files, bytes: bytes(&source)?, steps: Vec::new() };
        let mut steps = Vec::new();
        for (what, label, by) in STEPS {
            let hashing = matches!(what, What::B3sum | What::Verify);
            // Of many small files it is the opening that b3sum takes its time for.
            if (hashing && small) || (what == What::B3sum && !store.absent.is_empty()) {
                continue;
            }
            let by = by.and_then(|by| steps.iter().position(|this| *this == Some(by)));
            let aim = (what == What::IngestAgain && small).then_some(AGAIN_AIM);
            group.steps.push(Step { label: label.into(), by, aim, cost: Cost::default() });
            steps.push(Some(what));
        }
        for round in 1..=rounds {
            eprintln!("store: {files} files, round {round} of {rounds}");
            ground.round(&mut steps, &mut group.steps, round == 1, problems);
        }
        store.groups.push(group);
        for tree in ["source", "store", "aside"] {
            remove(&place.join(tree))?;
        }
    }
    store.manifests = manifests::measure(tools, work, amounts, problems)
        .map_err(|error| problems.push(error.to_string()))
        .ok();
    Ok(store)
}

struct Ground<'a> {
    tools: &'a Tools,
    place: &'a Path,
    source: &'a Path,
}

impl Ground<'_> {
    /// Takes every step once. One that fails is not taken again: it is `None` from then on.
    fn round(
        &self,
        whats: &mut [Option<What>],
        steps: &mut [Step],
        checks: bool,
        problems: &mut Vec<String>,
    ) {
        for (slot, step) in whats.iter_mut().zip(steps) {
            let Some(what) = *slot else { continue };
            match self.step(what, checks) {
                Ok(Some(done)) => step.cost.add(&done),
                // There is no vrift, which is among the problems already.
                Ok(None) => *slot = None,
                Err(error) => {
                    problems.push(format!("{}: {error}", step.label));
                    *slot = None;
                }
            }
        }
    }

    fn step(&self, what: What, checks: bool) -> Result<Option<Done>, Failure> {
        let (copy, store) = (self.place.join("copy"), self.place.join("store"));
        let Some(job) = self.job(what, &copy, &store) else { return Ok(None) };
        let aside = self.place.join("aside");
        put_aside(&copy, &aside)?;
        if matches!(what, What::Ingest | What::IngestNoSync) {
            put_aside(&store, &aside)?;
        }
        // What earlier steps left to be written is not this one's.
        Job::new("sync").arg("-f").arg(self.place).limit(LIMIT).run()?;
        let done = job.limit(LIMIT).watched().run()?;
        if what == What::Export && checks {
            // Ends otherwise than well when something differs.
            Job::new("diff").args(["-r", "-q"]).arg(self.source).arg(&copy).limit(LIMIT).run()?;
        }
        put_aside(&copy, &aside)?;
        Ok(Some(done))
    }

    fn job(&self, what: What, copy: &Path, store: &Path) -> Option<Job> {
        let ingest = |options: &[&str]| {
            let vrift = self.tools.vrift(store)?;
            Some(vrift.arg("ingest").arg(self.source).args(["--name", "tree"]).args(options))
        };
        match what {
            What::Copy => Some(Job::new("cp").arg("-a").arg(self.source).arg(copy)),
            What::CopyAndSync => {
                let script = "cp -a \"$1\" \"$2\" && sync -f \"$2\"";
                Some(Job::new("sh").args(["-c", script, "sh"]).arg(self.source).arg(copy))
            }
            What::IngestNoSync => ingest(&["--no-sync"]),
            What::Ingest | What::IngestAgain => ingest(&[]),
            What::Export => Some(self.tools.vrift(store)?.args(["export", "tree"]).arg(copy)),
            What::B3sum => {
                let script = "exec b3sum \"$1\"/*";
                Some(Job::new("sh").args(["-c", script, "sh"]).arg(self.source))
            }
            What::Verify => Some(self.tools.vrift(store)?.args(["verify", "tree"])),
        }
    }
}

fn remove(tree: &Path) -> Result<(), Failure> {
    match fs::remove_dir_all(tree) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Failure::io(format!("cannot remove {}", tree.display()))(error))
        }
        _ => Ok(()),
    }
}

/// Bytes of all files below `root`.
fn bytes(root: &Path) -> Result<u64, Failure> {
    let sum = || -> io::Result<u64> {
        let mut left: Vec<PathBuf> = vec![root.to_owned()];
        let mut sum = 0;
        while let Some(directory) = left.pop() {
            for entry in fs::read_dir(directory)? {
                let entry = entry?;
                let kind = entry.metadata()?;
                if kind.is_dir() {
                    left.push(entry.path());
                } else {
                    sum += kind.len();
                }
            }
        }
        Ok(sum)
    };
    sum().map_err(Failure::io(format!("cannot list {}", root.display())))
}
