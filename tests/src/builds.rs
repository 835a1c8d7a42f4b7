//! Real builds: Debian's sources, built natively and over a projection at the same path, and
//! every object and binary compared byte for byte.

use crate::guests::{cache, fixtures};
use crate::job::{Job, Outcome};
use crate::tree;
use crate::world::World;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

/// The unpacked source of a Debian source package, fetched once and kept in the cache.
///
/// # Errors
/// When it can't be fetched: a sentence for [`skip!`](crate::skip!).
///
/// # Panics
/// When the cache can't be used.
pub fn source(package: &str) -> Result<PathBuf, String> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let home = cache().join("sources");
    let unpacked = home.join(package);
    if !unpacked.exists() {
        fs::create_dir_all(&home).expect("source cache");
        let fetch = Job::new([fixtures().join("builds/fetch")])
            .arg(package)
            .arg(&unpacked)
            .env("HOME", &home)
            .timeout(300)
            .run();
        if fetch.code() != 0 {
            let said = fetch.err();
            let last = said
                .lines()
                .rfind(|l| !l.trim().is_empty())
                .unwrap_or("no reason given")
                .to_owned();
            return Err(format!("the source of {package} can't be fetched: {last}"));
        }
    }
    Ok(unpacked)
}

/// A path where a tree can be both real and projected, held for one test at a time.
#[derive(Debug)]
pub struct Site {
    /// Where the tree appears.
    pub at: PathBuf,
    remove: Option<PathBuf>,
    _alone: MutexGuard<'static, ()>,
}

impl Site {
    /// `/vrift/NAME` when this user may make it and nobody else has; else the same in `world`.
    pub fn new(world: &World, name: &str) -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let top = PathBuf::from("/vrift");
        if fs::create_dir(&top).is_ok() {
            return Self { at: top.join(name), remove: Some(top), _alone: alone };
        }
        Self { at: world.path("vrift").join(name), remove: None, _alone: alone }
    }

    /// Puts a real copy of `tree` there.
    ///
    /// # Panics
    /// When it can't be copied.
    pub fn make_real(&self, tree: &Path) {
        fs::create_dir_all(self.at.parent().expect("a parent")).expect("the site's parent");
        tree::copy(tree, &self.at);
    }

    /// Takes the real tree away, and its parent: where a tree is projected nothing exists.
    ///
    /// # Panics
    /// When it can't be removed.
    pub fn clear(&self) {
        fs::remove_dir_all(&self.at).expect("remove the real tree");
        let _ = fs::remove_dir(self.at.parent().expect("a parent"));
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(top) = &self.remove {
            let _ = fs::remove_dir_all(top);
        }
    }
}

/// Runs the build script `fixtures/builds/NAME SOURCE OUT` as a job of `world`; with mounts,
/// under `vrift-trace`.
pub fn build(
    world: &World,
    name: &str,
    source: &Path,
    out: &Path,
    mounts: &[(&Path, &str)],
) -> Outcome {
    let script = fixtures().join("builds").join(name);
    let argv = [script.as_os_str(), source.as_os_str(), out.as_os_str()];
    let job = if mounts.is_empty() { world.native(argv) } else { world.trace(mounts, argv) };
    // The source's own time stands in for today's in what a build prints into its output.
    job.env("SOURCE_DATE_EPOCH", "1700000000").timeout(900).run()
}

/// Every object, library and executable below `dir`, by relative path, with its content.
///
/// # Panics
/// When a file can't be read.
pub fn artefacts(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(next) = todo.pop() {
        for entry in
            fs::read_dir(&next).unwrap_or_else(|e| panic!("{}: {e}", next.display())).flatten()
        {
            let path = entry.path();
            let kind = entry.file_type().expect("file type");
            if kind.is_dir() {
                todo.push(path);
            } else if kind.is_file() {
                let content = fs::read(&path).expect("artefact");
                if content.starts_with(b"\x7fELF") || content.starts_with(b"!<arch>\n") {
                    found.insert(path.strip_prefix(dir).expect("below dir").to_owned(), content);
                }
            }
        }
    }
    found
}

/// Fails unless both directories hold the same objects and binaries, at least `least` of them.
///
/// # Panics
/// With the names of those that differ.
#[track_caller]
pub fn assert_same_artefacts(native: &Path, projected: &Path, least: usize) {
    let (left, right) = (artefacts(native), artefacts(projected));
    assert!(left.len() >= least, "only {} objects came of the native build", left.len());
    let mut wrong: Vec<String> = left
        .iter()
        .filter_map(|(path, bytes)| match right.get(path) {
            Some(other) if other == bytes => None,
            Some(other) => Some(format!(
                "{} differs ({} and {} bytes)",
                path.display(),
                bytes.len(),
                other.len()
            )),
            None => Some(format!("{} was not built", path.display())),
        })
        .collect();
    wrong.extend(
        right
            .keys()
            .filter(|p| !left.contains_key(*p))
            .map(|p| format!("{} is extra", p.display())),
    );
    assert!(wrong.is_empty(), "{} of {} artefacts:\n{}", wrong.len(), left.len(), wrong.join("\n"));
}
