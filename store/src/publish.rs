//! How a file comes into the store: written without a name, then named in one step.
//!
//! A [`Draft`] is an O_TMPFILE where the file system has it: a killed process leaves nothing.
//! Elsewhere it is a named file in `tmp/` that its owner holds a lock on; [`sweep`] removes those
//! whose owner is gone. What must never happen here: a file under its final name that isn't
//! complete, or a complete one that is replaced by different content.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use rustix::fs::{self, AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::error::StoreError;
use crate::platform;
use crate::store::Store;

/// Was the name free?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Published {
    /// The draft has the name now.
    New,
    /// Another file has it.
    Existed,
}

/// A file on its way into the store. Dropped without being published, it never was.
pub(crate) struct Draft<'s> {
    store: &'s Store,
    file: File,
    /// Its name below the root, `tmp/…`, when it needed one.
    name: Option<String>,
}

impl<'s> Draft<'s> {
    /// A draft without a name, if the file system can.
    pub fn new(store: &'s Store) -> Result<Draft<'s>, StoreError> {
        while store.tmpfile.load(Ordering::Relaxed) {
            match platform::unnamed(store.root_fd(), Mode::from_raw_mode(0o600)) {
                Ok(fd) => return Ok(Draft { store, file: fd.into(), name: None }),
                // EISDIR: a kernel that doesn't know the flag sees a directory opened for writing.
                Err(platform::UNSUPPORTED | Errno::ISDIR | Errno::INVAL | Errno::NOSYS) => {
                    store.tmpfile.store(false, Ordering::Relaxed);
                }
                Err(Errno::NOENT) => store.make_dir("tmp")?,
                Err(errno) => {
                    return Err(StoreError::io("write to", store.root().join("tmp"))(errno));
                }
            }
        }
        Self::named(store)
    }

    /// A draft with a name in `tmp/`, locked for as long as this process lives.
    pub fn named(store: &'s Store) -> Result<Draft<'s>, StoreError> {
        loop {
            let name = unique_name();
            let failed = |what| StoreError::io::<Errno>(what, store.root().join(&name));
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
            let fd = match fs::openat(store.root_fd(), &name, flags, Mode::from_raw_mode(0o600)) {
                Ok(fd) => fd,
                Err(Errno::EXIST) => continue,
                Err(Errno::NOENT) => {
                    store.make_dir("tmp")?;
                    continue;
                }
                Err(errno) => return Err(failed("create")(errno)),
            };
            match fs::flock(&fd, FlockOperation::LockExclusive) {
                // Without locks no sweep can lock it either, so it is left alone.
                Ok(()) | Err(Errno::NOLCK | platform::UNSUPPORTED | Errno::NOSYS) => {}
                Err(errno) => return Err(failed("lock")(errno)),
            }
            // A sweep may have come between the two calls.
            if fs::fstat(&fd).map_err(failed("look at"))?.st_nlink > 0 {
                return Ok(Draft { store, file: fd.into(), name: Some(name) });
            }
        }
    }

    /// The file, for whoever fills it.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Appends `bytes`.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.write_all(bytes).map_err(StoreError::io("write to", self.store.root()))
    }

    /// Waits until the content is on the disk.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.file.sync_all().map_err(StoreError::io("write to the disk", self.store.root()))
    }

    /// Makes the file read-only and gives it its name, unless another has it. The directory is
    /// made when it is missing.
    pub fn publish(&self, name: &str) -> Result<Published, StoreError> {
        let failed = |errno: Errno| StoreError::io("create", self.store.root().join(name))(errno);
        fs::fchmod(&self.file, Mode::from_raw_mode(0o444)).map_err(failed)?;
        let mut result = self.link(name);
        if let (Err(Errno::NOENT), Some((dir, _))) = (&result, name.rsplit_once('/')) {
            self.store.make_dir(dir)?;
            result = self.link(name);
        }
        result.map_err(failed)
    }

    /// As [`Draft::publish`], for a name that stands for its content: a file that has the name but
    /// not the size was cut short by a power failure, and is replaced.
    pub fn publish_or_repair(self, name: &str, size: u64) -> Result<Published, StoreError> {
        match self.publish(name)? {
            Published::Existed if !self.store.has_file(name, size)? => {
                self.replace(name)?;
                Ok(Published::New)
            }
            published => Ok(published),
        }
    }

    /// Gives the file the name whoever has it.
    pub fn replace(mut self, name: &str) -> Result<(), StoreError> {
        let failed = |errno: Errno| StoreError::io("replace", self.store.root().join(name))(errno);
        fs::fchmod(&self.file, Mode::from_raw_mode(0o444)).map_err(failed)?;
        let from = loop {
            if let Some(name) = &self.name {
                break name.clone();
            }
            let spare = unique_name();
            match self.link(&spare).map_err(failed)? {
                Published::New => break spare,
                Published::Existed => {}
            }
        };
        fs::renameat(self.store.root_fd(), &from, self.store.root_fd(), name).map_err(failed)?;
        self.name = None;
        Ok(())
    }

    fn link(&self, name: &str) -> Result<Published, Errno> {
        let root = self.store.root_fd();
        let result = match &self.name {
            Some(from) => fs::linkat(root, from, root, name, AtFlags::empty()),
            None => platform::name_unnamed(&self.file, root, name),
        };
        match (result, &self.name) {
            (Ok(()), _) => Ok(Published::New),
            (Err(Errno::EXIST), _) => Ok(Published::Existed),
            // A file system without hard links.
            (
                Err(Errno::PERM | platform::UNSUPPORTED | Errno::NOSYS | Errno::MLINK),
                Some(from),
            ) => match fs::renameat_with(root, from, root, name, RenameFlags::NOREPLACE) {
                Ok(()) => Ok(Published::New),
                Err(Errno::EXIST) => Ok(Published::Existed),
                Err(errno) => Err(errno),
            },
            (Err(errno), _) => Err(errno),
        }
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // Gone already when it was renamed into place; else a later sweep finds it unlocked.
            let _ = fs::unlinkat(self.store.root_fd(), name, AtFlags::empty());
        }
    }
}

fn unique_name() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    // Uniqueness comes from O_EXCL; this only makes collisions between pid namespaces rare.
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let nanos = time.map_or(0, |time| time.subsec_nanos());
    format!("tmp/{}-{count}-{nanos}", std::process::id())
}

/// Removes what killed processes left in `tmp/`, and says how many files that were.
pub(crate) fn sweep(store: &Store) -> Result<usize, StoreError> {
    let mut removed = 0;
    for (name, kind) in store.list("tmp")? {
        let Ok(name) = String::from_utf8(name) else { continue };
        if kind == FileType::RegularFile && sweep_one(store, &format!("tmp/{name}")) {
            removed += 1;
        }
    }
    Ok(removed)
}

/// Removes one file if nobody holds its lock. Another user's files may well stay: they are in
/// nobody's way.
fn sweep_one(store: &Store, name: &str) -> bool {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let Ok(fd) = fs::openat(store.root_fd(), name, flags, Mode::empty()) else { return false };
    let fd: OwnedFd = fd;
    fs::flock(&fd, FlockOperation::NonBlockingLockExclusive).is_ok()
        && fs::unlinkat(store.root_fd(), name, AtFlags::empty()).is_ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::hash::Hash;

    fn store(tmpfile: bool) -> (tempfile::TempDir, Store) {
        let temp = tempfile::tempdir().expect("tempdir");
        let store = Store::open_or_create(&temp.path().join("s")).expect("store");
        store.tmpfile.store(tmpfile, Ordering::Relaxed);
        (temp, store)
    }

    fn entries(store: &Store, dir: &str) -> usize {
        store.list(dir).expect("list").len()
    }

    #[test]
    fn blobs_come_out_the_same_with_and_without_tmpfile() {
        for tmpfile in [true, false] {
            let (_temp, store) = store(tmpfile);
            let (hash, new) = store.put_blob(b"hello").expect("put");
            assert!(new);
            assert!(!store.put_blob(b"hello").expect("put again").1);
            let path = store.root().join(Store::blob_path(&hash));
            let meta = std::fs::metadata(&path).expect("metadata");
            assert_eq!((meta.mode() & 0o7777, meta.nlink(), meta.len()), (0o444, 1, 5));
            assert_eq!(std::fs::read(&path).expect("read"), b"hello");
            assert_eq!(entries(&store, "tmp"), 0);
        }
    }

    #[test]
    fn a_blob_cut_short_is_written_again() {
        for tmpfile in [true, false] {
            let (_temp, store) = store(tmpfile);
            let (hash, _) = store.put_blob(b"hello").expect("put");
            let path = store.root().join(Store::blob_path(&hash));
            std::fs::remove_file(&path).expect("remove");
            std::fs::write(&path, b"he").expect("cut short");
            assert!(store.put_blob(b"hello").expect("put again").1);
            assert_eq!(std::fs::read(&path).expect("read"), b"hello");
            assert_eq!(std::fs::metadata(&path).expect("metadata").nlink(), 1);
            assert_eq!(entries(&store, "tmp"), 0);
        }
    }

    #[test]
    fn a_dropped_draft_leaves_nothing() {
        let (_temp, store) = store(false);
        let mut draft = Draft::new(&store).expect("draft");
        draft.write(b"half").expect("write");
        assert_eq!(entries(&store, "tmp"), 1);
        drop(draft);
        assert_eq!(entries(&store, "tmp"), 0);
    }

    #[test]
    fn a_sweep_takes_what_nobody_holds() {
        let (_temp, store) = store(false);
        let held = Draft::new(&store).expect("draft");
        std::fs::write(store.root().join("tmp/1-0-0"), b"left by a killed process").expect("write");
        assert_eq!(sweep(&store).expect("sweep"), 1);
        assert_eq!(entries(&store, "tmp"), 1);
        let name = format!("manifests/{}", Hash::of(b""));
        assert_eq!(held.publish(&name).expect("publish"), Published::New);
    }
}
