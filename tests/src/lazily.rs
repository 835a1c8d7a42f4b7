//! Trees that were pulled without their contents, and what fetches those for a job.

use crate::job::{Job, Outcome};
use crate::{World, binaries};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Stores the world's directory `src` as `t` in a store of its own, and gives the path of that: it
/// can be pulled from.
pub fn far(world: &World) -> PathBuf {
    let far = world.path("far");
    let args: [&OsStr; 6] = [
        OsStr::new("--store"),
        far.as_os_str(),
        OsStr::new("ingest"),
        &world.path("src").into_os_string(),
        OsStr::new("--name"),
        OsStr::new("t"),
    ];
    world.vrift(args).timeout(120).run().ok();
    far
}

/// `vrift pull --lazy` of the tree `t`, with more options.
pub fn pull(world: &World, place: impl AsRef<OsStr>, options: &[&OsStr]) -> Job {
    let pull = world.vrift(["pull", "--lazy"]).args(options);
    pull.arg(place).arg("t").timeout(120)
}

/// A job over the tree `t` at the world's `p`, with more options, running a shell script.
pub fn job(world: &World, options: &[&str], script: &str) -> Job {
    let mut mount = world.path("p").into_os_string();
    mount.push("=t");
    over(world, &mount, options, script)
}

/// The same with any mount.
pub fn over(world: &World, mount: &OsStr, options: &[&str], script: &str) -> Job {
    let program: OsString = binaries::vrift_trace().into();
    let job = world.native([program]).args(options).arg("-m").arg(mount);
    job.args(["--", "/bin/sh", "-c", script])
}

/// How many blobs the world's store has.
pub fn blobs(world: &World) -> usize {
    let dirs = fs::read_dir(world.store().join("blobs")).expect("blobs").flatten();
    dirs.map(|dir| fs::read_dir(dir.path()).expect("blobs").count()).sum()
}

/// The closing summary of a job with `--summary=json`.
///
/// # Panics
/// When it printed none.
pub fn summary(outcome: &Outcome) -> serde_json::Value {
    let said = outcome.err();
    let line = said.lines().rfind(|line| line.starts_with('{'));
    let line = line.unwrap_or_else(|| panic!("no summary: {outcome}"));
    serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {outcome}"))
}

/// The processes that fetch for jobs over the world's store.
pub fn fetchers(world: &World) -> Vec<i32> {
    let store = world.store();
    let fetches = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|&b| b == 0).collect();
        let has = |word: &[u8]| words.contains(&word);
        has(b"--serve") && has(store.as_os_str().as_encoded_bytes())
    };
    let proc = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = proc.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(fetches).collect()
}

/// Waits until something is so.
///
/// # Panics
/// When it isn't within a minute.
#[track_caller]
pub fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let patience = Duration::from_secs(60) * crate::job::patience();
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < patience, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Nobody fetches for the world's jobs any more.
///
/// # Panics
/// When somebody still does.
#[track_caller]
pub fn expect_no_fetchers(world: &World) {
    wait_for("what fetched for a job is still there", || fetchers(world).is_empty());
}

/// Bytes without a pattern, others for each number.
pub fn noise(number: usize, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// The file of a store that holds this content.
pub fn blob(store: &Path, content: &[u8]) -> PathBuf {
    let hash = blake3::hash(content).to_hex();
    store.join("blobs").join(&hash[..2]).join(hash.as_str())
}
