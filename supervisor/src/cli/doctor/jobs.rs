//! Real jobs over a small store of their own: an open, a listing, a chdir, programs, a refused
//! write. Each is this program executed again, and held to the exact outcome.

use super::guests::{STATUS, static_program};
use super::machine::{is_noexec, is_writable, store_directory};
use super::{Check, program};
use crate::cli::demo::child::{Ran, Surroundings};
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;
use vrift_store::{IngestOptions, Progress, Store};

const LIMIT: Duration = Duration::from_secs(30);
const MOUNT: &str = "/vrift/doctor";
const TEXT: &str = "read from the store\n";
/// What is done about a job that went wrong for no reason that another check tells.
const REPORT: &str = "run it with VRIFT_DEBUG=1 and report what it says";

/// A job and what it should do.
struct Trial {
    name: &'static str,
    meaning: &'static str,
    command: Vec<String>,
    status: i32,
    /// All that it prints, or with `…` at the end, what it prints somewhere.
    output: &'static str,
}

/// The checks; `before` says whether a job can be tried at all.
pub fn checks(before: &[Check]) -> Vec<Check> {
    if let Some(reason) = before.iter().find(|c| c.needed) {
        let meaning = format!("not tried, for want of {}", reason.name);
        return trials().into_iter().map(|t| Check::skipped(t.name, &meaning)).collect();
    }
    match prepare() {
        Ok(bench) => {
            let mut out: Vec<_> = trials().into_iter().map(|t| bench.run(&t)).collect();
            out.push(bench.verify());
            out
        }
        Err(reason) => {
            let fix = "set TMPDIR to a directory that can be written to";
            vec![Check::needed("job: store", reason, fix)]
        }
    }
}

fn trials() -> Vec<Trial> {
    let trial = |name, meaning, command: &[&str], status, output| Trial {
        name,
        meaning,
        command: command.iter().map(|w| w.replace('@', MOUNT)).collect(),
        status,
        output,
    };
    vec![
        trial("job: open", "a projected file is read", &["cat", "@/text"], 0, TEXT),
        trial(
            "job: list",
            "a projected directory is listed",
            &["ls", "@"],
            0,
            "cat\nscript\nstatic\nsub\ntext\n",
        ),
        trial(
            "job: chdir",
            "a projected directory is the current one",
            &["sh", "-c", "cd @/sub && cat ../text && exec pwd -P"],
            0,
            "read from the store\n/vrift/doctor/sub\n",
        ),
        trial(
            "job: exec, dynamic",
            "a projected program with shared libraries runs",
            &["@/cat", "@/text"],
            0,
            TEXT,
        ),
        trial("job: exec, static", "a projected static program runs", &["@/static"], STATUS, ""),
        trial(
            "job: exec, script",
            "a projected script runs, and knows its name",
            &["@/script", "one", "two words"],
            0,
            "/vrift/doctor/script: one, two words\n",
        ),
        trial(
            "job: refused write",
            "a write to a projected file is EROFS",
            &["sh", "-c", "echo changed >@/text"],
            2,
            "Read-only file system…",
        ),
        trial(
            "job: refused touch",
            "so is a change of its times",
            &["touch", "@/text"],
            1,
            "Read-only file system…",
        ),
    ]
}

/// A store with the tree that the jobs see, and a place for them to start in.
struct Bench {
    jobs: Surroundings,
    store: Store,
    /// Removed when dropped.
    _dir: tempfile::TempDir,
}

fn prepare() -> Result<Bench, String> {
    let base = base();
    let text = |e: std::io::Error| format!("no store can be made in {}: {e}", base.display());
    let dir = tempfile::Builder::new().prefix("vrift-doctor-").tempdir_in(&base).map_err(text)?;
    let tree = dir.path().join("tree");
    let start = dir.path().join("start");
    fs::create_dir_all(tree.join("sub")).map_err(text)?;
    fs::create_dir(&start).map_err(text)?;
    fs::write(tree.join("text"), TEXT).map_err(text)?;
    let cat = program("cat")?;
    let content = fs::read(&cat).map_err(|e| format!("{}: {e}", cat.display()))?;
    let script = "#!/bin/sh\necho \"$0: $1, $2\"\n";
    // Some systems have one program for all commands, which goes by the name it is called by.
    for (name, content) in
        [("cat", content.as_slice()), ("static", &static_program()), ("script", script.as_bytes())]
    {
        let path = tree.join(name);
        fs::write(&path, content).map_err(text)?;
        fs::set_permissions(&path, Permissions::from_mode(0o755)).map_err(text)?;
    }
    let store = Store::open_or_create(&dir.path().join("store")).map_err(|e| e.to_string())?;
    store
        .ingest_as(Some("doctor"), &tree, &IngestOptions::default(), &Progress::default())
        .map_err(|e| e.to_string())?;
    let jobs = Surroundings::new(store.root(), &start)?;
    Ok(Bench { jobs, store, _dir: dir })
}

/// The temporary directory; or, where nothing can be run from it, beside the user's store.
fn base() -> PathBuf {
    let temporary = std::env::temp_dir();
    let other = || store_directory().ok().filter(|dir| is_writable(dir) && !is_noexec(dir));
    if is_noexec(&temporary) { other().unwrap_or(temporary) } else { temporary }
}

impl Bench {
    fn run(&self, trial: &Trial) -> Check {
        let mount = format!("{MOUNT}=doctor");
        let mut argv = vec!["vrift-trace", "-q", "-m", &mount, "--"];
        argv.extend(trial.command.iter().map(String::as_str));
        let argv: Vec<&OsStr> = argv.into_iter().map(OsStr::new).collect();
        match self.jobs.run(&argv, LIMIT, false) {
            Ok(ran) if fits(trial, &ran) => Check::ok(trial.name, trial.meaning),
            Ok(ran) => Check::needed(trial.name, difference(trial, &ran), fix(&ran)),
            Err(reason) => Check::needed(trial.name, reason, "make that possible, then try again"),
        }
    }

    /// After the jobs, the store is whole.
    fn verify(&self) -> Check {
        const NAME: &str = "job: store";
        match self.store.verify(&Progress::default()) {
            Ok(report) => match report.damage.first() {
                None => Check::ok(NAME, "after all of this the store is whole"),
                Some(d) => Check::needed(NAME, format!("{}: {}", d.path.display(), d.what), REPORT),
            },
            Err(e) => Check::needed(NAME, e.to_string(), REPORT),
        }
    }
}

fn fits(trial: &Trial, ran: &Ran) -> bool {
    let said = match trial.output.strip_suffix('…') {
        Some(part) => ran.output.contains(part),
        None => ran.output == trial.output,
    };
    // Shells and tools differ in how they say that something failed, not in whether.
    let ended = match trial.status {
        0 | STATUS => ran.status.code() == Some(trial.status),
        _ => ran.status.code().is_some_and(|code| code != 0 && code < 125),
    };
    said && ended && !ran.timed_out
}

fn difference(trial: &Trial, ran: &Ran) -> String {
    let what = if ran.timed_out {
        format!("it did not end within {} s", LIMIT.as_secs())
    } else {
        ran.status.to_string()
    };
    let said = ran.output.lines().last().unwrap_or("nothing").trim();
    format!("{} does not hold: {what}, and it said: {said}", trial.meaning)
}

/// A complaint of vrift-trace's own tells what to do itself.
fn fix(ran: &Ran) -> &'static str {
    let ours = ran.status.code() == Some(125) && ran.output.contains("vrift-trace: ");
    if ours { "do what this message says" } else { REPORT }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_tried_without_what_it_needs() {
        let missing = [Check::needed("ptrace", "is refused", "allow it")];
        let checks = checks(&missing);
        assert_eq!(checks.len(), trials().len());
        assert!(checks.iter().all(|c| c.state == super::super::State::Skipped && !c.needed));
        assert!(checks[0].meaning.contains("ptrace"));
    }

    #[test]
    fn the_place_for_the_store_is_there() {
        assert!(base().is_dir());
    }
}
