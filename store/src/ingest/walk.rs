//! Going through the source, directory by directory, in parallel.
//!
//! Every entry is reached from its directory's descriptor, so a rename meanwhile can't lead out of
//! the tree. A descriptor stays open until all entries of its directory were opened, no longer.
//! Results are collected without order; the manifest's builder makes the order.

use std::collections::{HashMap, HashSet};
use std::ffi::{CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::Scope;
use rustix::fs::{self, AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::exclude::Exclude;
use super::file::{self, Read};
use super::put::{self, Failed, Stored, Target};
use super::{FileError, IngestError, Progress, Reason};
use crate::error::StoreError;
use crate::manifest::{Entry, LinkKey};
use crate::platform;
use crate::store::FileId;

/// Files that one task reads: enough to pay for its start, few enough to share a large directory.
const BATCH: usize = 64;
/// How often a changing directory is listed before it is given up.
const TRIES: u32 = 5;

/// One entry of the tree.
pub(super) struct Item {
    /// Number of its directory; the root has its own.
    pub parent: u32,
    pub name: Box<[u8]>,
    pub what: What,
}

/// What an entry is.
pub(super) enum What {
    /// A directory and the number its entries know it by.
    Directory { number: u32, entry: Entry },
    /// A file or symbolic link with one name.
    Leaf(Entry),
    /// One name of an inode that has several.
    Linked(LinkKey),
}

/// All that was found.
#[derive(Default)]
pub(super) struct Found {
    pub entries: Vec<Item>,
    /// What the inodes with several names are.
    pub links: HashMap<LinkKey, Entry>,
    pub skipped: Vec<(PathBuf, &'static str)>,
    pub new_blobs: u64,
    pub new_bytes: u64,
    pub deduplicated: u64,
}

/// An open directory of the source.
struct Dir {
    fd: OwnedFd,
    number: u32,
    /// From the top of the tree; empty for the top itself.
    path: PathBuf,
}

/// Names and kinds, as the directory gave them.
type Listing = Vec<(CString, FileType)>;

/// A directory that waits for its turn.
struct Ahead {
    parent: Arc<Dir>,
    name: CString,
    number: u32,
}

/// The state that all tasks share.
pub(super) struct Walk<'a> {
    to: Target<'a>,
    store_id: FileId,
    top: PathBuf,
    root: Mutex<Option<OwnedFd>>,
    exclude: Exclude,
    progress: &'a Progress,
    numbers: AtomicU32,
    stop: AtomicBool,
    found: Mutex<Found>,
    claimed: Mutex<HashSet<LinkKey>>,
    errors: Mutex<(Vec<FileError>, Option<StoreError>)>,
    new_blobs: AtomicU64,
    new_bytes: AtomicU64,
    deduplicated: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // The data is only ever pushed to; a panic elsewhere doesn't spoil it, and ends the run anyway.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Walk<'a> {
    pub fn new(
        to: Target<'a>,
        top: &Path,
        exclude: Exclude,
        progress: &'a Progress,
    ) -> Result<Walk<'a>, IngestError> {
        // The user may well name the tree by a symbolic link.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::DIRECTORY;
        let root = fs::openat(CWD, top, flags, Mode::empty())
            .map_err(|errno| IngestError::Source { path: top.to_owned(), source: errno.into() })?;
        Ok(Walk {
            store_id: to.store.file_id()?,
            to,
            top: top.to_owned(),
            root: Mutex::new(Some(root)),
            exclude,
            progress,
            numbers: AtomicU32::new(1),
            stop: AtomicBool::new(false),
            found: Mutex::default(),
            claimed: Mutex::default(),
            errors: Mutex::default(),
            new_blobs: AtomicU64::new(0),
            new_bytes: AtomicU64::new(0),
            deduplicated: AtomicU64::new(0),
        })
    }

    /// Goes through the whole tree.
    pub fn run(self, pool: &rayon::ThreadPool) -> Result<Found, IngestError> {
        let root = lock(&self.root).take();
        pool.scope(|scope| {
            if let Some(fd) = root {
                self.directory(
                    scope,
                    Dir { fd, number: 0, path: PathBuf::new() },
                    0,
                    Box::default(),
                );
            }
        });
        let (mut files, fatal) = self.errors.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = fatal {
            return Err(error.into());
        }
        if !files.is_empty() {
            files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
            return Err(IngestError::Files { files });
        }
        let mut found = self.found.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.skipped.sort_unstable();
        found.new_blobs = self.new_blobs.into_inner();
        found.new_bytes = self.new_bytes.into_inner();
        found.deduplicated = self.deduplicated.into_inner();
        Ok(found)
    }

    fn failed(&self, path: &Path, failed: Failed) {
        let mut errors = lock(&self.errors);
        match failed {
            Failed::File(what, reason) => {
                errors.0.push(FileError { path: self.top.join(path), what, reason });
            }
            Failed::Store(error) => {
                self.stop.store(true, Ordering::Relaxed);
                errors.1.get_or_insert(error);
            }
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn enter<'s>(&'s self, scope: &Scope<'s>, ahead: Ahead) {
        if self.stopped() {
            return;
        }
        let path = ahead.parent.path.join(OsStr::from_bytes(ahead.name.to_bytes()));
        let opened = file::open_entry(&ahead.parent.fd, &ahead.name, OFlags::DIRECTORY);
        let parent = ahead.parent.number;
        // Let go of the parent before going deeper: else a deep tree needs as many descriptors.
        drop(ahead.parent);
        match opened {
            Ok(fd) => {
                let dir = Dir { fd, number: ahead.number, path };
                self.directory(scope, dir, parent, ahead.name.to_bytes().into());
            }
            // It became something else since its directory was read.
            Err(Errno::LOOP | Errno::NOTDIR) => {
                self.failed(&path, Failed::File("open", Reason::Changing));
            }
            Err(errno) => self.failed(&path, Failed::io("open")(errno)),
        }
    }

    fn directory<'s>(&'s self, scope: &Scope<'s>, dir: Dir, parent: u32, name: Box<[u8]>) {
        match self.list(&dir) {
            Ok(None) => {} // the store itself
            Ok(Some((entry, entries))) => {
                let what = What::Directory { number: dir.number, entry };
                lock(&self.found).entries.push(Item { parent, name, what });
                self.progress.add(0);
                self.spread(scope, dir, entries);
            }
            Err(failed) => self.failed(&dir.path, failed),
        }
    }

    /// The directory and its entries as they were at one moment; None for the store's own root.
    fn list(&self, dir: &Dir) -> Result<Option<(Entry, Listing)>, Failed> {
        for _ in 0..TRIES {
            let before = fs::fstat(&dir.fd).map_err(Failed::io("look at"))?;
            if platform::id_of(&before) == self.store_id {
                return Ok(None);
            }
            let mut entry = Entry::directory(platform::mode_of(&before), put::mtime(&before));
            entry.xattrs =
                put::user_xattrs(&dir.fd).map_err(Failed::io("read the attributes of"))?;
            let entries = platform::entries(&dir.fd).map_err(Failed::io("list"))?;
            let after = fs::fstat(&dir.fd).map_err(Failed::io("look at"))?;
            if put::unchanged(&before, &after) {
                return Ok(Some((entry, entries)));
            }
        }
        Err(Failed::File("list", Reason::Changing))
    }

    /// Hands out the entries: links are stored at once, files in batches, directories each alone.
    fn spread<'s>(&'s self, scope: &Scope<'s>, dir: Dir, entries: Listing) {
        let dir = Arc::new(dir);
        let (mut files, mut links, mut skipped) = (Vec::new(), Vec::new(), Vec::new());
        for (name, kind) in entries {
            let path = || dir.path.join(OsStr::from_bytes(name.to_bytes()));
            if !self.exclude.is_empty()
                && self.exclude.fits(OsStr::from_bytes(name.to_bytes()), &path())
            {
                continue;
            }
            let kind = match kind {
                FileType::Unknown => match fs::statat(&dir.fd, &name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                    Err(errno) => {
                        self.failed(&path(), Failed::io("look at")(errno));
                        continue;
                    }
                },
                kind => kind,
            };
            match kind {
                FileType::Directory => {
                    let number = self.numbers.fetch_add(1, Ordering::Relaxed);
                    let ahead = Ahead { parent: Arc::clone(&dir), name, number };
                    scope.spawn(move |scope| self.enter(scope, ahead));
                }
                FileType::RegularFile => files.push(name),
                FileType::Symlink => links.push(name),
                FileType::Socket => skipped.push((self.top.join(path()), "socket")),
                FileType::Fifo => skipped.push((self.top.join(path()), "fifo")),
                FileType::BlockDevice => skipped.push((self.top.join(path()), "block device")),
                FileType::CharacterDevice => {
                    skipped.push((self.top.join(path()), "character device"));
                }
                FileType::Unknown => skipped.push((self.top.join(path()), "unknown kind of file")),
            }
        }
        if !skipped.is_empty() {
            lock(&self.found).skipped.append(&mut skipped);
        }
        let mut files = files.into_iter();
        loop {
            let batch: Vec<CString> = files.by_ref().take(BATCH).collect();
            if batch.is_empty() {
                break;
            }
            let dir = Arc::clone(&dir);
            scope.spawn(move |_| self.batch(&dir, batch, |dir, name| self.file(dir, name)));
        }
        self.batch(&dir, links, |dir, name| self.symlink(dir, name));
    }

    fn batch(
        &self,
        dir: &Dir,
        names: Vec<CString>,
        store: impl Fn(&Dir, &CString) -> Result<What, Failed>,
    ) {
        let mut items = Vec::with_capacity(names.len());
        for name in names {
            if self.stopped() {
                return;
            }
            match store(dir, &name) {
                Ok(what) => {
                    items.push(Item { parent: dir.number, name: name.to_bytes().into(), what });
                }
                Err(failed) => {
                    self.failed(&dir.path.join(OsStr::from_bytes(name.to_bytes())), failed);
                }
            }
        }
        lock(&self.found).entries.append(&mut items);
    }

    fn file(&self, dir: &Dir, name: &CString) -> Result<What, Failed> {
        // The content of an inode that has other names is read once.
        let claim = |key| lock(&self.claimed).insert(key);
        match file::store(&self.to, &dir.fd, name, claim)? {
            Read::Linked(key) => {
                self.progress.add(0);
                Ok(What::Linked(key))
            }
            Read::Stored { stored, claimed } => {
                self.count(&stored);
                Ok(match claimed {
                    true => self.linked(stored.id, stored.entry),
                    false => What::Leaf(stored.entry),
                })
            }
        }
    }

    fn linked(&self, key: LinkKey, mut entry: Entry) -> What {
        entry.link = Some(key);
        lock(&self.found).links.insert(key, entry);
        What::Linked(key)
    }

    fn count(&self, stored: &Stored) {
        self.progress.add(stored.entry.size);
        if stored.new {
            self.new_blobs.fetch_add(1, Ordering::Relaxed);
            self.new_bytes.fetch_add(stored.entry.size, Ordering::Relaxed);
        } else {
            self.deduplicated.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn symlink(&self, dir: &Dir, name: &CString) -> Result<What, Failed> {
        let link = platform::link(&dir.fd, name);
        let Some((stat, target)) = link.map_err(|(what, errno)| Failed::io(what)(errno))? else {
            return Err(Failed::File("read", Reason::Changing));
        };
        let mut entry = Entry::symlink(target.into_bytes(), put::mtime(&stat));
        self.progress.add(0);
        if stat.st_nlink > 1 {
            let key = LinkKey::new(platform::device_of(&stat), stat.st_ino);
            lock(&self.claimed).insert(key);
            entry.link = Some(key);
        }
        Ok(What::Leaf(entry))
    }
}
