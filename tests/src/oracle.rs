//! The kernel as the oracle. For `read-only` it is a read-only bind mount of the same tree at the
//! same path, in a mount namespace of its own (as root a real one, otherwise within a user
//! namespace); for `overlay`, a plain directory on the store's disk.
//!
//! [`bound`] runs any command on the former. The modules ask one guest (`fixtures/oracle`) to make
//! the same calls on both sides: at a [`place`] with a real directory beside the read-only mount,
//! [`rows`] by a table and [`generate`] at random; at a [`writable`] place, [`mutate`] at random,
//! with the [`whole`] trees compared at the end. [`compare`] knows the [`differences`] that are
//! meant, [`shrink`] finds the shortest sequence that shows one that isn't, and [`tally`] counts.

pub mod compare;
pub mod differences;
pub mod generate;
pub mod mutate;
pub mod place;
pub mod rows;
pub mod script;
pub mod shrink;
pub mod tally;
pub mod whole;
pub mod writable;

use crate::guests::{compile, fixtures};
use crate::job::Job;
use crate::world::World;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Binds read-only, then gives up what the namespace lent, so that the command has just the
/// powers the test's user has.
const BIND: &str = r#"
source=$1 at=$2; shift 2
mount --bind "$source" "$at" && mount -o remount,bind,ro "$at" || exit 120
if [ "$(id -u)" = 0 ]; then exec "$@"; fi
exec setpriv --inh-caps=-all --ambient-caps=-all "$@"
"#;

fn unshare() -> Vec<&'static str> {
    let mut argv = vec!["unshare", "--mount"];
    if !rustix::process::getuid().is_root() {
        argv.extend(["--map-current-user", "--keep-caps"]);
    }
    argv
}

/// `argv` as a job that sees `source` bound read-only at `at` (made if it isn't there).
///
/// # Errors
/// Why this machine can't do that: a sentence for [`skip!`](crate::skip!).
///
/// # Panics
/// When `at` can't be made.
pub fn bound<S: AsRef<OsStr>>(
    world: &World,
    source: &Path,
    at: &Path,
    argv: impl IntoIterator<Item = S>,
) -> Result<Job, String> {
    possible()?;
    fs::create_dir_all(at).expect("mount point");
    let mut all: Vec<OsString> = unshare().iter().map(OsString::from).collect();
    all.extend(["sh", "-c", BIND, "bind"].iter().map(OsString::from));
    all.extend([source.into(), at.into()]);
    all.extend(argv.into_iter().map(|a| a.as_ref().to_owned()));
    Ok(world.native(all))
}

/// Whether this machine can bind a tree read-only.
///
/// # Errors
/// Why not.
pub fn possible() -> Result<(), String> {
    static CAN: OnceLock<Result<(), String>> = OnceLock::new();
    CAN.get_or_init(|| {
        let mut probe = unshare();
        probe.extend(["sh", "-c", "mount --bind /tmp /tmp"]);
        let outcome = Job::new(probe).run();
        if outcome.code() == 0 {
            Ok(())
        } else {
            Err(format!("no mount namespace for the oracle: {}", outcome.err().trim()))
        }
    })
    .clone()
}

/// The guest of the scripts, dynamic or static.
///
/// # Errors
/// Why this machine can't build it: a sentence for [`skip!`](crate::skip!).
///
/// # Panics
/// When the sources can't be read, or the plain compiler refuses them.
pub fn guest(linked_statically: bool) -> Result<PathBuf, String> {
    let dir = fixtures().join("oracle");
    let mut args: Vec<String> = ["-O1", "-g", "-Wall", "-Wextra"].map(str::to_owned).into();
    if linked_statically {
        args.push("-static".into());
    }
    // The cache knows the other guests' sources by itself, these by this word.
    let mut key = blake3::Hasher::new();
    for name in ["oracle.c", "calls.h", "change.h", "show.h", "words.h"] {
        key.update(&fs::read(dir.join(name)).unwrap_or_else(|e| panic!("{name}: {e}")));
    }
    args.push(format!("-DSOURCES=x{}", &key.finalize().to_hex()[..16]));
    args.push(dir.join("oracle.c").display().to_string());
    compile("oracle", "cc", &args, !linked_statically)
}
