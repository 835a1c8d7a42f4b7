//! Where writable mounts are asked: a tree exported to a plain directory on the store's disk, and
//! the same tree as an overlay, both at the same path.
//!
//! ```text
//! at/s/s/.../      deep, so that no handful of `..` leaves it; $B in scripts
//!     mnt          $P: the tree
//!     w            $R: real, and the script's to change
//!     beside       $S: real
//! ```
//! For the plain side another copy of `at` is bound over it in a mount namespace, and its `mnt` on
//! itself: an overlay is a mount, which names and links don't leave. Each question starts with the
//! tree as it was ingested. A script whose last sequence is `end` alone has the job's result
//! committed, exported and compared with the plain tree.

use super::place::{Who, become_who, contained};
use super::script::{Answers, Sequence, parse, write};
use super::whole::{self, Without};
use crate::job::{Job, Outcome};
use crate::world::World;
use crate::{binaries, tree};
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// How far below the top the place is. (A socket's address has room for 108 bytes.)
const DEPTH: usize = 8;

/// Binds `$1` over `$2`, and `$3` on itself, then goes on without the powers that the namespace lent.
const PLAIN_SIDE: &str = r#"
copy=$1 at=$2 mnt=$3; shift 3
mount --bind "$copy" "$at" && mount --bind "$mnt" "$mnt" || exit 120
if [ "$(id -u)" = 0 ]; then exec "$@"; fi
exec setpriv --inh-caps=-all --ambient-caps=-all "$@"
"#;

/// What the tree is asked as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A plain directory, once more: the oracle beside itself.
    Plain,
    /// `mode=overlay`.
    Overlay,
    /// `mode=copy-on-write`.
    CopyOnWrite,
    /// `mode=overlay` with `--view mount`.
    Mounted,
}

/// The place, and the store with its tree.
#[derive(Debug)]
pub struct Writable {
    world: World,
    base: PathBuf,
    mode: Mode,
    runs: AtomicUsize,
}

impl Writable {
    /// Lays out the tree and ingests it.
    ///
    /// # Panics
    /// When the file system refuses.
    pub fn new(mode: Mode) -> Self {
        let world = World::new();
        let mut base = world.path("at");
        for _ in 0..DEPTH {
            base.push("s");
        }
        fs::set_permissions(world.path(""), Permissions::from_mode(0o755)).expect("let others in");
        plant(&world.path("src"));
        world.ingest(world.path("src"), "tree");
        Self { world, base, mode, runs: AtomicUsize::new(0) }
    }

    fn copy_of_base(&self, name: &str) -> PathBuf {
        self.world.path(name).join(self.base.strip_prefix(self.world.path("at")).expect("below at"))
    }

    /// The real directories anew, for both sides; the tree on those that are plain.
    fn refresh(&self) {
        for name in ["at", "native"] {
            let top = self.world.path(name);
            remove(&top);
            let base = self.copy_of_base(name);
            for dir in ["w/dir", "beside"] {
                fs::create_dir_all(base.join(dir)).expect("mkdir");
            }
            fs::write(base.join("w/file"), "real file\n").expect("write");
            for dir in ["w", "w/dir", "beside"] {
                fs::set_permissions(base.join(dir), Permissions::from_mode(0o777))
                    .expect("let others in");
            }
            if name == "native" || self.mode == Mode::Plain {
                let to = base.join("mnt");
                self.world.vrift(["export", "tree"]).arg(to).run().ok();
            } else {
                fs::create_dir(base.join("mnt")).expect("mkdir");
            }
        }
    }

    /// Runs the sequences on both sides, and gives what each said.
    ///
    /// # Errors
    /// Why this machine can't be its own oracle: a sentence for [`skip!`](crate::skip!).
    ///
    /// # Panics
    /// When a side ends badly.
    pub fn ask(&self, guest: (&Path, Who), sequences: &[Sequence]) -> Result<[Answers; 2], String> {
        super::possible()?;
        self.refresh();
        let text = write(sequences, &self.base);
        let argv = become_who(guest, &self.base);
        let after = format!("after-{}", self.runs.fetch_add(1, Ordering::Relaxed));
        let wants_end = sequences.last().is_some_and(|s| s.len() == 1 && s[0] == "end");
        let (kernel, projected) = std::thread::scope(|scope| {
            let kernel = scope.spawn(|| self.plain("native", &argv).stdin(&text).run());
            let projected = match self.mode {
                Mode::Plain => self.plain("at", &argv),
                _ => self.projected(&argv, wants_end.then_some(&after)),
            };
            let projected = projected.stdin(&text).run();
            (kernel.join().expect("the plain side"), projected)
        });
        let mut answers = [answers(&kernel, sequences), answers(&projected, sequences)];
        if wants_end && let Some(last) = answers[1].0.last_mut() {
            let wrong = self.at_the_end(&after);
            if !wrong.is_empty() {
                *last = vec![format!("differs: {}", wrong.join("; "))];
            }
        }
        Ok(answers)
    }

    /// What the job left, beside what the plain directory became.
    fn at_the_end(&self, after: &str) -> Vec<String> {
        let plain = self.copy_of_base("native").join("mnt");
        let left = match self.mode {
            Mode::Plain => self.copy_of_base("at").join("mnt"),
            _ => {
                let out = self.world.path("after");
                remove(&out);
                self.world.vrift(["export", after]).arg(&out).run().ok();
                self.world.vrift(["rm", after]).run().ok();
                out
            }
        };
        // A script reaches the directories above, too.
        for tree in [&self.world.path("native"), &self.world.path("at"), &left] {
            whole::make_readable(tree);
        }
        whole::differences(&plain, &left, Without::default())
    }

    fn plain(&self, copy: &str, command: &[OsString]) -> Job {
        let mut argv: Vec<OsString> = super::unshare().iter().map(OsString::from).collect();
        argv.extend(["sh", "-c", PLAIN_SIDE, "sh"].map(OsString::from));
        argv.extend([self.world.path(copy).into(), self.world.path("at").into()]);
        argv.push(self.base.join("mnt").into());
        argv.extend_from_slice(command);
        contained(&self.world, &self.base, argv)
    }

    fn projected(&self, command: &[OsString], commit: Option<&String>) -> Job {
        let (mode, view) = match self.mode {
            Mode::CopyOnWrite => ("copy-on-write", "notify"),
            Mode::Mounted => ("overlay", "mount"),
            Mode::Overlay | Mode::Plain => ("overlay", "notify"),
        };
        let mut mount = OsString::from(self.base.join("mnt"));
        mount.push(format!("=tree,mode={mode}"));
        if let Some(after) = commit {
            mount.push(format!(",commit={after}"));
        }
        let mut argv: Vec<OsString> = vec![binaries::vrift_trace().into(), "--quiet".into()];
        argv.extend(["--view".into(), view.into(), "-m".into(), mount, "--".into()]);
        argv.extend_from_slice(command);
        contained(&self.world, &self.base, argv)
    }
}

fn answers(outcome: &Outcome, sequences: &[Sequence]) -> Answers {
    assert!(outcome.status.success(), "a side ended badly: {outcome}");
    parse(&outcome.stdout, sequences)
}

fn remove(tree: &Path) {
    if tree.symlink_metadata().is_ok() {
        let _ = Job::new(["chmod", "-R", "u+rwX"]).arg(tree).run();
        fs::remove_dir_all(tree).unwrap_or_else(|e| panic!("remove {}: {e}", tree.display()));
    }
}

/// The sample of all tests without its chains, and what other users may change.
///
/// # Panics
/// When the file system refuses.
pub fn plant(dir: &Path) {
    tree::sample(dir);
    fs::remove_file(dir.join("out")).expect("the sample's link");
    for n in 1..=42 {
        fs::remove_file(dir.join(format!("chain-{n}"))).expect("the sample's link");
    }
    // What would be run isn't a shell's: its content is anything in the course of a script.
    fs::write(dir.join("exe"), "#!/bin/echo script\n").expect("write");
    fs::write(dir.join("all"), "content of all\n").expect("write");
    fs::set_permissions(dir.join("all"), Permissions::from_mode(0o666)).expect("chmod");
    fs::write(dir.join("setid"), "#!/bin/echo setid\n").expect("write");
    fs::set_permissions(dir.join("setid"), Permissions::from_mode(0o6755)).expect("chmod");
    fs::create_dir(dir.join("pub")).expect("mkdir");
    for name in ["f", "g", "h"] {
        fs::write(dir.join("pub").join(name), format!("public {name}\n")).expect("write");
    }
    tree::numbered(&dir.join("many"), 120);
    tree::stamp(dir);
    for name in ["", "pub", "d", "many"] {
        fs::set_permissions(dir.join(name), Permissions::from_mode(0o777)).expect("chmod");
    }
}
