//! What must hold of a store after any test: blobs are what their names say, read-only, and
//! not touched since they were made.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The part of an inode that reading must not change.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Inode {
    ino: u64,
    nlink: u64,
    uid: u32,
    size: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

/// The state of a store's blobs and manifests at one moment.
#[derive(Debug, Default, Clone)]
pub struct Snapshot(BTreeMap<PathBuf, Inode>);

fn files_below(dir: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            files_below(&path, found);
        } else {
            found.push(path);
        }
    }
}

fn stored_files(store: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    files_below(&store.join("blobs"), &mut found);
    files_below(&store.join("manifests"), &mut found);
    found
}

impl Snapshot {
    /// The store as it is now.
    pub fn of(store: &Path) -> Self {
        let inode = |path: PathBuf| {
            let m = fs::symlink_metadata(&path).ok()?;
            let inode = Inode {
                ino: m.ino(),
                nlink: m.nlink(),
                uid: m.uid(),
                size: m.size(),
                mtime: (m.mtime(), m.mtime_nsec()),
                ctime: (m.ctime(), m.ctime_nsec()),
            };
            Some((path, inode))
        };
        Self(stored_files(store).into_iter().filter_map(inode).collect())
    }

    /// The number of blobs and manifests.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Everything that is wrong with the store: one line each, none when all is well.
pub fn damage(store: &Path, before: &Snapshot) -> Vec<String> {
    let mut wrong = Vec::new();
    let now = Snapshot::of(store);
    for (path, was) in &before.0 {
        match now.0.get(path) {
            Some(is) if is == was => {}
            Some(is) => wrong.push(format!("{} changed: {was:?} -> {is:?}", path.display())),
            None => wrong.push(format!("{} is gone", path.display())),
        }
    }
    let mut blobs = Vec::new();
    files_below(&store.join("blobs"), &mut blobs);
    for blob in blobs {
        match fs::symlink_metadata(&blob).map(|m| m.permissions().mode() & 0o7777) {
            Ok(0o444) => {}
            Ok(mode) => wrong.push(format!("{} has mode {mode:04o}, not 0444", blob.display())),
            Err(e) => wrong.push(format!("{} can't be looked at: {e}", blob.display())),
        }
        let name = blob.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        match fs::read(&blob) {
            Ok(content) => {
                let hash = blake3::hash(&content).to_hex();
                if hash.as_str() != name {
                    wrong.push(format!("{} hashes to {hash}", blob.display()));
                }
            }
            Err(e) => wrong.push(format!("{} can't be read: {e}", blob.display())),
        }
    }
    if let Ok(jobs) = fs::read_dir(store.join("jobs")) {
        for left in jobs.flatten() {
            wrong.push(format!("left behind: {}", left.path().display()));
        }
    }
    wrong
}
