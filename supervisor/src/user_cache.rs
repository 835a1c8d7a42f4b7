//! Where a job has what else would go into the store, when its user may only read that: a directory
//! in the user's own cache, one for each store, with the job's private tree and the runnable copies.
//!
//! It is as invisible and untouchable for the job as the store is. What must never happen here: a
//! directory is taken that others can write to, for programs are run from it.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::geteuid;
use vrift_store::{Hash, Store, StoreError};

/// Copies of contents that the store no longer has are removed so often.
const SWEPT: Duration = Duration::from_secs(24 * 3600);
/// The file that says when that was.
const STAMP: &str = "swept";

/// The user's directory for one store.
pub struct UserCache {
    root: PathBuf,
}

impl UserCache {
    /// For the store at `store`, which is a path without links; None where there is no good place.
    pub fn of(store: &Path) -> Option<UserCache> {
        // A task of root's job may be somebody else, who can't get into root's home.
        if geteuid().is_root() {
            return None;
        }
        let var = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
        let caches = var("XDG_CACHE_HOME").or_else(|| Some(var("HOME")?.join(".cache")))?;
        match make(&caches, store) {
            Ok(root) => Some(UserCache { root }),
            Err(e) => {
                tracing::debug!("no runnable copies are kept in {}: {e}", caches.display());
                None
            }
        }
    }

    /// The directory without links, of which the job sees nothing.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where private trees are made.
    pub fn jobs(&self) -> PathBuf {
        self.root.join("jobs")
    }

    /// Where runnable copies are.
    pub fn exec(&self) -> PathBuf {
        self.root.join("exec")
    }

    /// Removes copies of what a collection took, now and then. What a running job needs is in the
    /// store, and so stays.
    pub fn sweep(&self, store: &Store) {
        let stamp = self.root.join(STAMP);
        let swept = stamp.metadata().and_then(|m| m.modified());
        let fresh = |at| SystemTime::now().duration_since(at).is_ok_and(|age| age < SWEPT);
        if swept.is_ok_and(fresh) || File::create(&stamp).is_err() {
            return;
        }
        for entry in fs::read_dir(self.exec()).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let digits = name.as_bytes().get(..64).and_then(|hex| std::str::from_utf8(hex).ok());
            let Some(hash) = digits.and_then(|hex| hex.parse::<Hash>().ok()) else { continue };
            if matches!(store.open_blob(&hash), Err(StoreError::MissingBlob { .. })) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

fn make(caches: &Path, store: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(caches)?;
    let mut dir = caches.canonicalize()?;
    let name = Hash::of(store.as_os_str().as_bytes()).to_hex();
    for part in ["vrift", &name.as_str()[..32], "exec"] {
        dir.push(part);
        match DirBuilder::new().mode(0o700).create(&dir) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => must_be_ours(&dir)?,
        }
    }
    if statvfs(&dir)?.flags().contains(FsFlags::ST_NOEXEC) {
        return Err(io::Error::other("its file system is mounted noexec"));
    }
    dir.pop();
    Ok(dir)
}

fn must_be_ours(dir: &Path) -> io::Result<()> {
    const OTHERS_WRITE: u32 = 0o022;
    let found = fs::symlink_metadata(dir)?;
    if found.is_dir() && found.uid() == geteuid().as_raw() && found.mode() & OTHERS_WRITE == 0 {
        return Ok(());
    }
    let reason = format!("{} is somebody else's, or others can write to it", dir.display());
    Err(io::Error::new(io::ErrorKind::PermissionDenied, reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_place_that_others_can_write_to_is_not_taken() {
        let caches = tempfile::tempdir().expect("a temporary directory");
        let store = Path::new("/some/store");
        let made = make(caches.path(), store).expect("a place");
        assert_eq!(make(caches.path(), store).expect("the same"), made);
        assert_ne!(make(caches.path(), Path::new("/other")).expect("another"), made);
        fs::set_permissions(&made, fs::Permissions::from_mode(0o777)).expect("chmod");
        make(caches.path(), store).expect_err("not a good place");
        fs::remove_dir_all(&made).expect("ours");
        std::os::unix::fs::symlink("/tmp", &made).expect("a link");
        make(caches.path(), store).expect_err("not a good place");
    }

    #[test]
    fn copies_of_what_is_gone_go_too() {
        let temp = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open_or_create(&temp.path().join("s")).expect("a store");
        let (there, _) = store.put_blob(b"there").expect("a blob");
        let cache = UserCache { root: make(temp.path(), store.root()).expect("a place") };
        let names = [there.to_string(), format!("{}-0123", Hash::of(b"gone")), "real-x".into()];
        let left = |names: &[String]| {
            names.iter().map(|name| cache.exec().join(name).exists()).collect::<Vec<_>>()
        };
        let fill =
            || names.iter().for_each(|name| fs::write(cache.exec().join(name), "").expect("w"));
        fill();
        cache.sweep(&store);
        assert_eq!(left(&names), [true, false, true]);
        fill();
        cache.sweep(&store);
        assert_eq!(left(&names), [true, true, true], "not again at once");
    }
}
