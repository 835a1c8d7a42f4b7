//! What the tests of the store share: a temporary place, and a look at every blob afterwards. The
//! tests of `vrift` add the program to it (`service/tests/common`).

#![allow(dead_code, reason = "no test program needs all of it")]

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use vrift_store::{Hash, Store};

/// A directory with a store in it, both removed at the end.
pub struct Place {
    pub temp: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Place {
        let temp = tempfile::tempdir().expect("tempdir");
        // Others have to reach it in tests that drop root's rights.
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(temp.path(), mode).expect("chmod");
        Place { temp }
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.temp.path().join(name)
    }

    /// A new directory.
    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(&path).expect("mkdir");
        path
    }

    pub fn store_root(&self) -> PathBuf {
        self.path("store")
    }

    pub fn store(&self) -> Store {
        Store::open(&self.store_root()).expect("open the store")
    }
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// All blobs of a store.
pub fn blobs(store: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for dir in std::fs::read_dir(store.join("blobs")).expect("blobs") {
        for blob in std::fs::read_dir(dir.expect("entry").path()).expect("fan-out") {
            found.push(blob.expect("entry").path());
        }
    }
    found.sort();
    found
}

/// Every blob hashes to its name, has mode 0444 and one link, and nothing is left in `tmp`.
#[track_caller]
pub fn assert_whole(store: &Path) {
    for blob in blobs(store) {
        let name = blob.file_name().expect("name").to_str().expect("hex").to_owned();
        assert_eq!(Hash::of(&std::fs::read(&blob).expect("read")).to_string(), name);
        let meta = std::fs::symlink_metadata(&blob).expect("metadata");
        assert_eq!((meta.mode() & 0o7777, meta.nlink()), (0o444, 1), "{name}");
        assert_eq!(blob.parent().and_then(Path::file_name), Some(OsStr::new(&name[..2])));
    }
    assert_eq!(std::fs::read_dir(store.join("tmp")).expect("tmp").count(), 0, "left in tmp");
}

/// Writes a file and all directories above it.
pub fn write(path: &Path, content: impl AsRef<[u8]>) {
    std::fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
    std::fs::write(path, content).expect("write");
}

/// Notes a test that this machine can't run, in the form the end-to-end tests use: the runner's
/// name of the test, a tab, and what is lacking.
pub fn skipped(name: &str, reason: &str) {
    // Past the test runner's capture.
    let _ = std::io::stderr().write_all(format!("skipped {name}: {reason}\n").as_bytes());
    let program = std::env::current_exe().unwrap_or_default();
    let thread = std::thread::current();
    let test = thread.name().unwrap_or(name);
    let line = format!("{}::{test}\t{name}: {reason}\n", program.display());
    if let Some(list) = std::env::var_os("VRIFT_SKIPPED") {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(list);
        file.and_then(|mut file| file.write_all(line.as_bytes()))
            .expect("the list of skipped tests");
    }
}
