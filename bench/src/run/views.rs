//! The two ways in which a job sees its mounts, beside the real tree: what walks over many files
//! costs when the same job has walked over them before.
//!
//! Each round runs one job each way, which makes every walk once, untimed by the aim, and then a few
//! times more: the first is told apart as the cold one.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Failure;

use super::fixture::make_large;
use super::process::Job;
use super::stats::Samples;
use super::tools::Tools;

/// How often a walk is repeated after the first one.
const AGAIN: usize = 4;
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// Each walk in the current directory, as a shell runs it.
const WALKS: [(&str, &str); 4] = [
    ("find -size", "find . -type f -size +100k"),
    ("du -s", "du -s ."),
    ("git status", "GIT_OPTIONAL_LOCKS=0 git status --porcelain"),
    ("tar, all contents", "tar -cf - --exclude=.git . | cat"),
];

/// One walk, each way, in seconds: the first of a job, and those after it.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Walk {
    /// What is run.
    pub name: String,
    /// The first, on the real tree.
    pub native_first: Samples,
    /// The later ones there.
    pub native: Samples,
    /// The first, answered by notifications.
    pub notify_first: Samples,
    /// The later ones.
    pub notify: Samples,
    /// The first, in the mounted tree.
    pub mount_first: Samples,
    /// The later ones there.
    pub mount: Samples,
}

/// All of them.
#[derive(Debug, Deserialize, Serialize)]
pub struct Views {
    /// Files of the tree.
    pub files: usize,
    /// The walks.
    pub walks: Vec<Walk>,
}

/// Measures in turn. What keeps a view from being measured goes to `problems`.
///
/// # Errors
/// When the tree can't be made, or a native walk fails.
pub fn measure(
    tools: &Tools,
    work: &Path,
    rounds: usize,
    files: usize,
    problems: &mut Vec<String>,
) -> Result<Views, Failure> {
    let (tree, at) = (work.join("views-tree"), work.join("views-seen"));
    eprintln!("views: making and ingesting {files} files");
    make_large(&tree, files)?;
    version(&tree)?;
    tools.ingest(&tree, "views/tree")?;
    fs::create_dir_all(&at).map_err(Failure::io(format!("cannot make {}", at.display())))?;
    let mut ways = vec![Some(script(&tree))];
    for view in ["notify", "mount"] {
        ways.push(tools.trace().map(|trace| {
            let mut mount = at.clone().into_os_string();
            mount.push("=views/tree");
            script(&at).under(trace.args(["--view", view, "-m"]).arg(mount))
        }));
    }
    let walks = WALKS.map(|(name, _)| Walk { name: name.into(), ..Walk::default() });
    let mut views = Views { files, walks: walks.into() };
    for round in 1..=rounds {
        eprintln!("views: round {round} of {rounds}");
        for (way, job) in ways.iter_mut().enumerate() {
            let Some(this) = job else { continue };
            match this.run() {
                Ok(done) => take(&String::from_utf8_lossy(&done.stdout), way, &mut views.walks),
                Err(error) if way == 0 => return Err(error),
                Err(error) => {
                    problems.push(error.to_string());
                    *job = None;
                }
            }
        }
    }
    Ok(views)
}

/// Puts the tree under version control, so that what git remembers of its files holds for any copy
/// with the same times.
fn version(tree: &Path) -> Result<(), Failure> {
    let git = |args: &[&str]| {
        let git =
            Job::new("git").args(["-c", "user.name=bench", "-c", "user.email=bench@localhost"]);
        git.args(args).cwd(tree).limit(LIMIT).run().map(drop)
    };
    git(&["init", "--quiet"])?;
    git(&["config", "core.checkStat", "minimal"])?;
    git(&["config", "core.trustctime", "false"])?;
    // What was changed within the second of the index's own time would be read each time.
    std::thread::sleep(Duration::from_millis(2_100));
    git(&["add", "."])?;
    git(&["commit", "--quiet", "-m", "all"])
}

/// Makes each walk in `dir`, and says `WALK NUMBER NANOSECONDS` after each.
fn script(dir: &Path) -> Job {
    let mut text = String::from("cd \"$1\" || exit 1\n");
    for (number, (_, walk)) in WALKS.iter().enumerate() {
        text += &format!(
            "for i in $(seq 0 {AGAIN}); do\nfrom=$(date +%s%N)\n{{ {walk}; }} >/dev/null || exit 1\n\
             echo {number} $i $(($(date +%s%N) - from))\ndone\n"
        );
    }
    Job::new("sh").args(["-c", &text, "sh"]).arg(dir).limit(LIMIT)
}

/// Reads what a script said.
fn take(said: &str, way: usize, walks: &mut [Walk]) {
    for line in said.lines() {
        let mut words = line.split(' ');
        let mut number = || words.next().and_then(|word| word.parse::<u32>().ok());
        let (Some(walk), Some(again)) = (number(), number()) else { continue };
        let nanoseconds = words.next().and_then(|word| word.parse::<f64>().ok());
        let Some((walk, nanoseconds)) = walks.get_mut(walk as usize).zip(nanoseconds) else {
            continue;
        };
        let samples = match (way, again) {
            (0, 0) => &mut walk.native_first,
            (0, _) => &mut walk.native,
            (1, 0) => &mut walk.notify_first,
            (1, _) => &mut walk.notify,
            (_, 0) => &mut walk.mount_first,
            (_, _) => &mut walk.mount,
        };
        samples.push(nanoseconds / 1e9);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_walk_of_a_job_is_told_apart() {
        let mut walks = vec![Walk::default(), Walk::default()];
        for way in 0..3 {
            take(
                "0 0 2000000000\n0 1 1000000000\n1 2 500000000\nnonsense\n9 0 1\n",
                way,
                &mut walks,
            );
        }
        assert_eq!(walks[0].native_first.all, [2.0]);
        assert_eq!((&walks[0].notify.all, &walks[0].mount.all), (&vec![1.0], &vec![1.0]));
        assert_eq!(walks[1].mount.all, [0.5]);
        assert!(walks[1].mount_first.all.is_empty());
    }
}
