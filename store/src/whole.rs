//! Is a blob what its name says, asked by who is about to hand it out?
//!
//! Hashing a large blob costs more than the rest of its first use, so that it was whole is
//! remembered in the store, in `checked/HASH`: the file's inode, size and change time then. The
//! change time can't be set, so whatever wrote to the blob since shows in it.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Mode, OFlags};

use crate::content;
use crate::hash::Hash;
use crate::store::Store;

/// Smaller blobs are hashed again by each process: that is quicker than another file.
const REMEMBERED: u64 = 256 << 10;
/// A change within the clock's last tick may have left the change time as it was.
const SETTLED: Duration = Duration::from_secs(2);

impl Store {
    /// Whether the opened blob's content is `hash`'s. Reads `file` from its beginning.
    ///
    /// # Errors
    /// It can't be read.
    pub fn is_whole(&self, hash: &Hash, file: &mut File) -> io::Result<bool> {
        let before = file.metadata()?;
        let stamp = stamp(&before);
        let name = format!("checked/{hash}");
        if before.len() >= REMEMBERED && self.stamped(&name).is_some_and(|found| found == stamp) {
            return Ok(true);
        }
        let (found, len) = content::hash_rest(file, before.len())?;
        let whole = found == *hash && len == before.len();
        if whole && before.len() >= REMEMBERED && is_settled(&before) {
            // Only a shortcut for later, and not everybody may write here.
            let _ = self.set_stamp(&name, &stamp);
        }
        Ok(whole)
    }

    fn stamped(&self, name: &str) -> Option<String> {
        io::read_to_string(self.open_file(name).ok()??).ok()
    }

    fn set_stamp(&self, name: &str, stamp: &str) -> io::Result<()> {
        match rustix::fs::mkdirat(self.root_fd(), "checked", Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
        // A killed writer leaves less than a stamp, which fits nothing.
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        match rustix::fs::unlinkat(self.root_fd(), name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(e) => return Err(e.into()),
        }
        let fd =
            rustix::fs::openat(self.root_fd(), Path::new(name), flags, Mode::from_raw_mode(0o444))?;
        io::Write::write_all(&mut File::from(fd), stamp.as_bytes())
    }
}

fn stamp(meta: &Metadata) -> String {
    format!("{} {} {}.{:09}\n", meta.ino(), meta.len(), meta.ctime(), meta.ctime_nsec())
}

fn is_settled(meta: &Metadata) -> bool {
    let changed = Duration::new(
        u64::try_from(meta.ctime()).unwrap_or(0),
        u32::try_from(meta.ctime_nsec()).unwrap_or(0),
    );
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    changed + SETTLED < now
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileExt, PermissionsExt};

    /// A store with one blob that was changed long ago.
    fn store_with(content: &[u8]) -> (tempfile::TempDir, Store, Hash, std::path::PathBuf) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open_or_create(&dir.path().join("s")).expect("a store");
        let (hash, _) = store.put_blob(content).expect("a blob");
        let path = store.root().join(Store::blob_path(&hash));
        (dir, store, hash, path)
    }

    fn ask(store: &Store, hash: &Hash) -> bool {
        store.is_whole(hash, &mut store.open_blob(hash).expect("opens")).expect("readable")
    }

    fn damage(path: &Path) {
        let writable = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(path, writable).expect("chmod");
        let file = File::options().write(true).open(path).expect("opens");
        let before = file.metadata().expect("there").modified().expect("a time");
        file.write_all_at(b"!", 1000).expect("writes");
        file.set_modified(before).expect("a time");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o444)).expect("chmod");
    }

    #[test]
    fn a_damaged_blob_is_found_also_after_it_was_whole() {
        for size in [2_000usize, 1 << 20] {
            let (_dir, store, hash, path) = store_with(&vec![7; size]);
            assert!(ask(&store, &hash));
            if size > 100_000 {
                assert!(!store.root().join("checked").exists(), "too fresh to be remembered");
                std::thread::sleep(SETTLED + Duration::from_millis(100));
                assert!(ask(&store, &hash));
                let noted = store.root().join(format!("checked/{hash}"));
                assert!(noted.exists());
                assert!(ask(&store, &hash));
                // A stamp cut short is no stamp.
                std::fs::remove_file(&noted).expect("ours");
                std::fs::write(&noted, "12").expect("ours");
                assert!(ask(&store, &hash));
            }
            damage(&path);
            assert!(!ask(&store, &hash), "{size} bytes, the time of change put back");
            assert_eq!(
                store.verify(&crate::Progress::default()).expect("readable").damage.len(),
                1
            );
        }
    }

    #[test]
    fn a_blob_cut_short_is_not_whole() {
        let (_dir, store, hash, path) = store_with(&[1; 5000]);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("chmod");
        File::options().write(true).open(&path).expect("opens").set_len(4999).expect("cuts");
        assert!(!ask(&store, &hash));
    }
}
