//! The steps of the tour, each shown as it is typed and checked for what it did.

use super::child::{Ran, Surroundings, as_typed, in_path};
use super::{Place, Stop, sample};
use crate::cli::Complaint;
use crate::summary::bytes;
use crate::sys::caught;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Display;
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use vrift_store::{IngestOptions, Progress, Store};

/// More than a slow, busy machine takes for the longest step, the build.
const LIMIT: Duration = Duration::from_secs(120);
/// Where the sample is projected.
const MOUNT: &str = "/vrift/demo";
/// What the program that is built says about the text.
const ANSWER: &str = "   6 the\n   4 build\n   4 tree\n";

/// Makes the tour.
pub fn run(place: &Place) -> Result<(), Stop> {
    let dir = place.path();
    let kept = matches!(place, Place::Kept(_));
    say(format_args!(
        "A tour of vrift-trace {}, in {} ({} at the end).\n",
        env!("CARGO_PKG_VERSION"),
        dir.display(),
        if kept { "which stays" } else { "removed" }
    ))?;
    let store = ingest(dir)?;
    let tour = Tour { jobs: Surroundings::new(store.root(), &dir.join("build"))? };
    let before = fingerprint(store.root())?;

    look(&tour)?;
    let built = match missing_tools() {
        Some(missing) => {
            say(format_args!("{missing}"))?;
            tour.job(&[&format!("{MOUNT}/tools/version")], "1.0\n")?;
            false
        }
        None => {
            build(&tour)?;
            true
        }
    };
    refusals(&tour)?;
    untouched(&store, &before)?;
    say(format_args!(
        "\n# All of it went as it should{}.",
        if built { "" } else { ", as far as it could be shown here" }
    ))?;
    if kept {
        say(format_args!(
            "# Go on from here:\n$ cd {}/build\n$ VR_THE_SOURCE={} vrift-trace -m {MOUNT}=demo -- sh",
            dir.display(),
            store.root().display()
        ))?;
    }
    Ok(())
}

/// The sample goes into a store, and from there on exists nowhere else.
fn ingest(dir: &Path) -> Result<Store, Stop> {
    let source = dir.join("tally-1.0");
    let root = dir.join("store");
    sample::write(&source).map_err(|e| format!("{} can't be written: {e}", source.display()))?;
    say(format_args!(
        "# tally-1.0 is a small C project. It goes into a store, here one of the tour's own.\n\
         $ cd {}\n$ export VR_THE_SOURCE={}\n$ vrift ingest tally-1.0 --name demo",
        dir.display(),
        root.display()
    ))?;
    let store = Store::open_or_create(&root).map_err(text)?;
    let done = store
        .ingest_as(Some("demo"), &source, &IngestOptions::default(), &Progress::default())
        .map_err(text)?;
    say(format_args!(
        "{} files, {} -> {} blobs, {} new\ndemo -> {}\n\n\
         # From now on it is nowhere else on disk.\n$ rm -r tally-1.0\n$ mkdir build && cd build",
        done.files,
        bytes(done.bytes),
        done.blobs,
        bytes(done.new_bytes),
        done.manifest
    ))?;
    fs::remove_dir_all(&source).map_err(text)?;
    fs::create_dir(dir.join("build")).map_err(text)?;
    Ok(store)
}

/// The tree is there for a job, and for nobody else.
fn look(tour: &Tour) -> Result<(), Stop> {
    if !Path::new(MOUNT).exists() {
        tour.native(&["ls", MOUNT], false, "No such file or directory")?;
    }
    say(format_args!("\n# A job sees it at {MOUNT}, whatever program looks."))?;
    tour.job(&["ls", "-l", MOUNT], "configure")?;
    tour.job(&["grep", "-rn", "main(", MOUNT], "/vrift/demo/src/main.c:10:")?;
    Ok(())
}

/// What the build needs and is not here, said as a line of the tour.
fn missing_tools() -> Option<String> {
    let missing: Vec<_> = ["cc", "make"].into_iter().filter(|t| in_path(t).is_none()).collect();
    (!missing.is_empty()).then(|| {
        format!(
            "\n# There is no {} here, so the build is left out: install {} and run it again.\n\
             # A script of the tree runs all the same.",
            missing.join(" and no "),
            if missing.contains(&"cc") { "gcc and make" } else { "make" }
        )
    })
}

fn build(tour: &Tour) -> Result<(), Stop> {
    say(format_args!(
        "\n# A build out of the tree: configure is run from the projection, the sources are read\n\
         # from it, the objects are ordinary files in the current directory."
    ))?;
    let script = format!("{MOUNT}/configure && make -j2");
    let ran = tour.job_with(&["--summary"], &["sh", "-c", &script], true, "tally main.o")?;
    expect_text(&ran, "refused:  nothing", "the build")?;
    say(format_args!(
        "\n# The result, with a projected file to read; and without any projection."
    ))?;
    let text = format!("{MOUNT}/text/words.txt");
    tour.job(&["./tally", &text, "3"], ANSWER)?;
    tour.native(&["./tally", "--version"], true, "tally 1.0\n")?;
    Ok(())
}

/// What would change the tree gets the answer of a read-only disk.
fn refusals(tour: &Tour) -> Result<(), Stop> {
    say(format_args!(
        "\n# Nothing changes the tree: each tool gets what the kernel says of a read-only disk."
    ))?;
    let script = format!(
        "touch {MOUNT}/VERSION; mv {MOUNT}/src {MOUNT}/old; ln {MOUNT}/VERSION .; \
         echo 2.0 >{MOUNT}/VERSION"
    );
    let ran =
        tour.job_with(&["--summary"], &["sh", "-c", &script], false, "Read-only file system")?;
    let refused = ran.output.lines().filter(|l| {
        !l.starts_with(' ') && (l.contains("Read-only file system") || l.contains("ross-device"))
    });
    if refused.count() != 4 {
        return Err(Stop::Failed("not all four changes were refused as they should be".into()));
    }
    expect_text(&ran, "linkat /vrift/demo/VERSION: EXDEV", "the summary")
}

/// The store is whole, and no file of it was touched.
fn untouched(store: &Store, before: &BTreeMap<PathBuf, Inode>) -> Result<(), Stop> {
    say(format_args!("\n# The store was not touched.\n$ vrift verify"))?;
    let report = store.verify(&Progress::default()).map_err(text)?;
    if let Some(damage) = report.damage.first() {
        return Err(Stop::Failed(format!(
            "the store was damaged: {}: {}",
            damage.path.display(),
            damage.what
        )));
    }
    say(format_args!(
        "{} blobs, {} manifest, {} ref: all whole",
        report.blobs, report.manifests, report.refs
    ))?;
    let after = fingerprint(store.root())?;
    if after != *before {
        let path = before
            .iter()
            .find(|(path, inode)| after.get(*path) != Some(inode))
            .map(|(path, _)| path)
            .or_else(|| after.keys().find(|path| !before.contains_key(*path)));
        return Err(Stop::Failed(format!(
            "the store was touched: {}",
            path.map_or("?".into(), |p| p.display().to_string())
        )));
    }
    say(format_args!(
        "# All {} files of it have the mode, owner, times and links that they had before.",
        after.len()
    ))
}

/// The jobs and commands of the tour.
struct Tour {
    jobs: Surroundings,
}

impl Tour {
    /// A job without a summary that succeeds.
    fn job(&self, command: &[&str], expected: &str) -> Result<Ran, Stop> {
        self.job_with(&["-q"], command, true, expected)
    }

    fn job_with(
        &self,
        options: &[&str],
        command: &[&str],
        succeeds: bool,
        expected: &str,
    ) -> Result<Ran, Stop> {
        let mount = format!("{MOUNT}=demo");
        let argv = [&["vrift-trace"], options, &["-m", &mount, "--"], command].concat();
        self.native(&argv, succeeds, expected)
    }

    /// Runs a command, shows it, and holds it to what it should do.
    fn native(&self, command: &[&str], succeeds: bool, expected: &str) -> Result<Ran, Stop> {
        let argv: Vec<&OsStr> = command.iter().map(|a| OsStr::new(*a)).collect();
        let typed = as_typed(&argv);
        say(format_args!("$ {typed}"))?;
        let ran = self.jobs.run(&argv, LIMIT, true)?;
        go_on()?;
        if ran.timed_out {
            return Err(Stop::Failed(format!(
                "`{typed}` did not end within {} s",
                LIMIT.as_secs()
            )));
        }
        if ran.status.success() != succeeds {
            return Err(Stop::Failed(format!(
                "`{typed}` ended with {}; see its messages above, and `vrift-trace doctor`",
                ran.status
            )));
        }
        expect_text(&ran, expected, &format!("`{typed}`"))?;
        Ok(ran)
    }
}

fn expect_text(ran: &Ran, expected: &str, what: &str) -> Result<(), Stop> {
    if ran.output.contains(expected) {
        return Ok(());
    }
    Err(Stop::Failed(format!("{what} should have said {:?}", expected.trim())))
}

/// A line of the tour.
fn say(line: std::fmt::Arguments<'_>) -> Result<(), Stop> {
    go_on()?;
    let mut out = std::io::stdout().lock();
    let written = writeln!(out, "{line}").and_then(|()| out.flush());
    match written {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Err(Stop::Signal(libc::SIGPIPE)),
        Err(e) => Err(Stop::Failed(format!("stdout can't be written to: {e}"))),
    }
}

/// Stops the tour when a signal came.
fn go_on() -> Result<(), Stop> {
    caught::caught().map_or(Ok(()), |signal| Err(Stop::Signal(signal)))
}

fn text(error: impl Display) -> Complaint {
    error.to_string()
}

/// What must not change about a file of the store; ctime, in the end, tells everything.
type Inode = [i64; 8];

/// Every file of the store's content, as it is now.
fn fingerprint(root: &Path) -> Result<BTreeMap<PathBuf, Inode>, Complaint> {
    let failed = |path: &Path, e: std::io::Error| format!("{}: {e}", path.display());
    let mut found = BTreeMap::new();
    let mut open: Vec<_> = ["blobs", "manifests", "refs", "format"].map(|n| root.join(n)).into();
    while let Some(path) = open.pop() {
        let m = fs::symlink_metadata(&path).map_err(|e| failed(&path, e))?;
        if m.is_dir() {
            for entry in fs::read_dir(&path).map_err(|e| failed(&path, e))? {
                open.push(entry.map_err(|e| failed(&path, e))?.path());
            }
            continue;
        }
        let unsigned = [u64::from(m.mode()), m.ino(), m.nlink(), m.size()];
        let [mode, ino, nlink, size] = unsigned.map(u64::cast_signed);
        let owner = (i64::from(m.uid()) << 32) | i64::from(m.gid());
        let mtime = [m.mtime(), m.mtime_nsec()];
        let ctime = m.ctime() * 1_000_000_000 + m.ctime_nsec();
        found.insert(path, [mode, ino, nlink, size, owner, mtime[0], mtime[1], ctime]);
    }
    Ok(found)
}
