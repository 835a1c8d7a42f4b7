//! The upper directory on disk: where the content of changed files is, and the journal of a tree
//! that is kept.
//!
//! ```text
//! upper     "vrift upper 1", the manifest's hash; locked while a job uses the directory
//! f/NUMBER  a node that is no directory and no link, by its number
//! x/        programs under the names that they are run by; not kept
//! w/        what is watched (see `mirror`); not kept
//! journal   what was done to names, directories and links, record by record
//! ```
//! A file is there before the journal speaks of it, and is removed after the journal has. So what
//! is in `f/` without a word of the journal is left over, and removed at the next start.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, openat, statat, unlinkat};
use vrift_store::{Hash, uppers};

use super::platform::PATH;
use super::record;
use super::state::Update;

/// The head, while the rest is made or removed.
const UNFINISHED: &str = ".upper";

/// Why an upper directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum UpperError {
    /// The file system said no.
    #[error("the upper directory {path:?}: {what}: {source}")]
    Io {
        /// The directory.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What it said.
        source: io::Error,
    },
    /// There is something in it that no job made.
    #[error(
        "{path:?} can't be an upper directory: it is not empty and was not made as one; name an \
         empty or a new directory"
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
    },
    /// Another job has it.
    #[error(
        "the upper directory {path:?} is in use by another job; wait for its end, or name another \
         directory"
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// It was made over another manifest.
    #[error(
        "the upper directory {path:?} has changes to the manifest {made}, and not to {wanted}; \
         mount that manifest, or name another directory"
    )]
    OtherManifest {
        /// The directory.
        path: PathBuf,
        /// The manifest it belongs to.
        made: String,
        /// The one that is mounted.
        wanted: String,
    },
    /// Its parts don't fit together.
    #[error("the upper directory {path:?} is damaged: {what}")]
    Damaged {
        /// The directory.
        path: PathBuf,
        /// How.
        what: String,
    },
}

/// An upper directory that this process alone uses.
#[derive(Debug)]
pub struct Upper {
    path: PathBuf,
    files: OwnedFd,
    /// `None`: what is done here is gone with the job.
    journal: Option<Mutex<File>>,
    lease: File,
}

fn os(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> UpperError {
    move |source| UpperError::Io { path: path.to_owned(), what, source }
}

impl Upper {
    /// A new one, in an empty directory; without a journal, it can't be opened again.
    ///
    /// # Errors
    /// The file system said no.
    pub fn private(path: &Path, manifest: &Hash) -> Result<Upper, UpperError> {
        fs::DirBuilder::new().mode(0o711).create(path).map_err(os(path, "mkdir"))?;
        Self::make(path, manifest, false)
    }

    /// One that is kept: made if the directory is not there or empty. Gives what its journal says.
    ///
    /// # Errors
    /// It is in use, belongs to another manifest, is something else, or is damaged.
    pub(crate) fn kept(
        path: &Path,
        manifest: &Hash,
    ) -> Result<(Upper, Vec<Vec<Update>>), UpperError> {
        match fs::DirBuilder::new().recursive(true).mode(0o711).create(path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(os(path, "mkdir")(e)),
            _ => {}
        }
        let path = &path.canonicalize().map_err(os(path, "realpath"))?;
        match Self::owner(path)? {
            None => Ok((Self::make(path, manifest, true)?, Vec::new())),
            Some((made, lease)) if made == *manifest => Self::reopen(path, lease),
            // Without a change it is nobody's.
            Some((_, lease)) if Self::is_unchanged(path) => {
                Self::reset(path, manifest, &lease)?;
                Ok((Self::reopen(path, Self::relock(path)?)?.0, Vec::new()))
            }
            Some((made, _)) => Err(UpperError::OtherManifest {
                path: path.clone(),
                made: made.to_string(),
                wanted: manifest.to_string(),
            }),
        }
    }

    /// The manifest that the upper directory belongs to, and its lock; `None`: it is empty.
    ///
    /// # Errors
    /// It is in use, or something else.
    pub fn owner(path: &Path) -> Result<Option<(Hash, File)>, UpperError> {
        let mut head = match File::options().read(true).write(true).open(path.join("upper")) {
            Ok(head) => head,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                Self::sweep_unfinished(path)?;
                let mut entries = fs::read_dir(path).map_err(os(path, "reading it"))?;
                return match entries.next() {
                    None => Ok(None),
                    Some(_) => Err(UpperError::Foreign { path: path.to_owned() }),
                };
            }
            Err(e) => return Err(os(path, "opening its head")(e)),
        };
        lock(path, &head)?;
        let mut text = String::new();
        head.read_to_string(&mut text).map_err(os(path, "reading its head"))?;
        match uppers::manifest_of_head(&text) {
            Some(hash) => Ok(Some((hash, head))),
            None => Err(UpperError::Foreign { path: path.to_owned() }),
        }
    }

    /// Removes what an ended process left of making or emptying one.
    fn sweep_unfinished(path: &Path) -> Result<(), UpperError> {
        let head = path.join(UNFINISHED);
        match fs::read_to_string(&head) {
            Ok(text) if uppers::is_head(&text) => {}
            // Before its head was written nothing else was made.
            Ok(text) if text.is_empty() && fs::read_dir(path).is_ok_and(|all| all.count() == 1) => {
            }
            _ => return Ok(()),
        }
        let lease = File::open(&head).map_err(os(path, "opening its head"))?;
        lock(path, &lease)?;
        Self::empty(path)?;
        fs::remove_file(&head).map_err(os(path, "emptying it"))
    }

    /// Removes all but the head.
    fn empty(path: &Path) -> Result<(), UpperError> {
        let removed = ["f", "x", "w"].map(|name| fs::remove_dir_all(path.join(name)));
        let journals = ["journal", ".journal"].map(|name| fs::remove_file(path.join(name)));
        for removed in removed.into_iter().chain(journals) {
            match removed {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(os(path, "emptying it")(e));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn make(path: &Path, manifest: &Hash, keep: bool) -> Result<Upper, UpperError> {
        // The head gets its name last: without it, the rest is unfinished.
        let new = path.join(UNFINISHED);
        let mut head = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)
            .map_err(os(path, "making its head"))?;
        lock(path, &head)?;
        head.write_all(uppers::head(manifest).as_bytes()).map_err(os(path, "writing its head"))?;
        if keep {
            head.sync_all().map_err(os(path, "writing its head"))?;
        }
        for name in ["f", "x"] {
            fs::DirBuilder::new().mode(0o711).create(path.join(name)).map_err(os(path, "mkdir"))?;
        }
        let journal = if keep { Some(Mutex::new(Self::open_journal(path)?)) } else { None };
        fs::rename(&new, path.join("upper")).map_err(os(path, "making its head"))?;
        Self::with(path, journal, head)
    }

    fn with(path: &Path, journal: Option<Mutex<File>>, lease: File) -> Result<Upper, UpperError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let files = rustix::fs::open(path.join("f"), flags, Mode::empty())
            .map_err(|e| os(path, "opening it")(e.into()))?;
        Ok(Upper { path: path.to_owned(), files, journal, lease })
    }

    fn open_journal(path: &Path) -> Result<File, UpperError> {
        File::options()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path.join("journal"))
            .map_err(os(path, "opening its journal"))
    }

    /// Whether no job changed anything.
    fn is_unchanged(path: &Path) -> bool {
        fs::metadata(path.join("journal")).is_ok_and(|journal| journal.len() == 0)
    }

    fn relock(path: &Path) -> Result<File, UpperError> {
        let head = File::open(path.join("upper")).map_err(os(path, "opening its head"))?;
        lock(path, &head).map(|()| head)
    }

    fn reopen(path: &Path, lease: File) -> Result<(Upper, Vec<Vec<Update>>), UpperError> {
        let mut journal = Self::open_journal(path)?;
        let mut bytes = Vec::new();
        journal.read_to_end(&mut bytes).map_err(os(path, "reading its journal"))?;
        let (mut changes, mut at) = (Vec::new(), 0);
        while let Some((updates, length)) = record::decode(&bytes[at..]) {
            changes.push(updates);
            at += length;
        }
        if at < bytes.len() {
            // A record that was being written when the job was ended: it was never answered for.
            journal.set_len(at as u64).map_err(os(path, "mending its journal"))?;
        }
        for name in ["x", "w"] {
            let _ = fs::remove_dir_all(path.join(name));
        }
        fs::DirBuilder::new().mode(0o711).create(path.join("x")).map_err(os(path, "mkdir"))?;
        Ok((Self::with(path, Some(Mutex::new(journal)), lease)?, changes))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory of the files.
    pub fn files(&self) -> BorrowedFd<'_> {
        self.files.as_fd()
    }

    /// Whether it can be opened again.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.journal.is_some()
    }

    /// Writes a change down, if it is to be kept. After an error nothing of it was.
    pub(crate) fn note(&self, updates: &[Update]) -> io::Result<()> {
        let Some(journal) = &self.journal else { return Ok(()) };
        let mut journal = journal.lock().unwrap_or_else(PoisonError::into_inner);
        let record = record::encode(updates);
        let start = journal.seek(SeekFrom::End(0))?;
        journal.write_all(&record).inspect_err(|_| {
            // Half a record would hide all that come after it.
            let _ = journal.set_len(start);
        })
    }

    /// Takes these changes in the place of all that were written down.
    pub(crate) fn rewrite(&self, changes: &[Vec<Update>]) -> io::Result<()> {
        let Some(journal) = &self.journal else { return Ok(()) };
        let new = self.path.join(".journal");
        let mut file = File::create(&new)?;
        for updates in changes {
            file.write_all(&record::encode(updates))?;
        }
        file.sync_all()?;
        fs::rename(&new, self.path.join("journal"))?;
        let reopened = File::options().read(true).append(true).open(self.path.join("journal"))?;
        *journal.lock().unwrap_or_else(PoisonError::into_inner) = reopened;
        Ok(())
    }

    /// Bytes in the journal.
    pub(crate) fn journal_length(&self) -> u64 {
        let length = |journal: &Mutex<File>| {
            let journal = journal.lock().unwrap_or_else(PoisonError::into_inner);
            journal.metadata().map_or(0, |m| m.len())
        };
        self.journal.as_ref().map_or(0, length)
    }

    /// Everything is on disk when this returns.
    ///
    /// # Errors
    /// The file system said no.
    pub fn sync(&self) -> io::Result<()> {
        super::platform::sync_file_system(&self.files)
    }

    /// Opens a node's file.
    ///
    /// # Errors
    /// As openat(2).
    pub fn open(&self, node: u32, flags: OFlags, mode: Mode) -> rustix::io::Result<OwnedFd> {
        openat(&self.files, name(node).as_str(), flags | OFlags::CLOEXEC, mode)
    }

    /// lstat(2) of a node's file.
    ///
    /// # Errors
    /// As fstatat(2).
    pub fn stat(&self, node: u32) -> rustix::io::Result<rustix::fs::Stat> {
        statat(&self.files, name(node).as_str(), AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Removes a node's file, and the names it was run by.
    pub(crate) fn remove(&self, node: u32) {
        let name = name(node);
        match unlinkat(&self.files, name.as_str(), AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            // It is swept at the next start.
            Err(_) => return,
        }
        let run = self.path.join("x").join(&name);
        if let Err(e) = fs::remove_dir_all(run)
            && e.kind() != io::ErrorKind::NotFound
        {
            // It goes with the job.
        }
    }

    /// A name for a node's file under which it can be run: the program then knows itself by it.
    ///
    /// # Errors
    /// As link(2).
    pub fn run_as(&self, node: u32, called: &OsStr) -> io::Result<PathBuf> {
        let dir = self.path.join("x").join(name(node));
        match fs::DirBuilder::new().mode(0o711).create(&dir) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        let path = dir.join(called);
        match fs::hard_link(self.path.join("f").join(name(node)), &path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
            _ => Ok(path),
        }
    }

    /// The directory of what is watched, made at its first use.
    pub(super) fn mirror(&self) -> rustix::io::Result<OwnedFd> {
        let path = self.path.join("w");
        match rustix::fs::mkdir(&path, Mode::from_raw_mode(0o711)) {
            Err(e) if e != rustix::io::Errno::EXIST => return Err(e),
            _ => {}
        }
        let flags = PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::open(&path, flags, Mode::empty())
    }

    /// The numbers of all files that are there.
    pub(crate) fn numbers(&self) -> io::Result<Vec<u32>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(self.path.join("f"))? {
            let name = entry?.file_name();
            numbers.extend(name.to_str().and_then(|name| name.parse::<u32>().ok()));
        }
        Ok(numbers)
    }

    /// Forgets everything: an empty upper directory over another manifest. `lease` is its lock.
    ///
    /// # Errors
    /// The file system said no; the next job goes on with it.
    pub fn reset(path: &Path, manifest: &Hash, lease: &File) -> Result<(), UpperError> {
        lock(path, lease)?;
        fs::rename(path.join("upper"), path.join(UNFINISHED)).map_err(os(path, "emptying it"))?;
        Self::empty(path)?;
        fs::remove_file(path.join(UNFINISHED)).map_err(os(path, "emptying it"))?;
        Self::make(path, manifest, true).map(drop)
    }

    /// Removes it with all that is in it, also when it is empty. Who is killed in between leaves what the
    /// next one takes for empty.
    ///
    /// # Errors
    /// It is in use or something else, the file system said no, or there is more in it than a job makes.
    pub fn remove_directory(path: &Path) -> Result<(), UpperError> {
        if let Some((_, _lease)) = Self::owner(path)? {
            fs::rename(path.join("upper"), path.join(UNFINISHED))
                .map_err(os(path, "emptying it"))?;
            Self::empty(path)?;
            fs::remove_file(path.join(UNFINISHED)).map_err(os(path, "emptying it"))?;
        }
        fs::remove_dir(path).map_err(os(path, "removing it"))
    }

    /// Its lock.
    #[must_use]
    pub fn lease(&self) -> &File {
        &self.lease
    }
}

/// The name of a node's file.
#[must_use]
pub fn name(node: u32) -> String {
    node.to_string()
}

fn lock(path: &Path, head: &File) -> Result<(), UpperError> {
    match flock(head, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(UpperError::InUse { path: path.to_owned() }),
        Err(e) => Err(os(path, "locking it")(e.into())),
    }
}
