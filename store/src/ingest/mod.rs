//! Ingest: a directory of the user becomes blobs and a manifest.
//!
//! In: a directory. Out: the manifest's hash and what was met on the way. `walk` goes through the
//! directories in parallel, `file` opens one file, `put` stores an open one (also for others than
//! ingest), `exclude` decides what is left out; this module starts them and puts the result together.
//!
//! What must never happen here: the source changes (not even a link count or, where the kernel
//! lets us, an access time), a path leads out of the tree because someone renamed or linked while
//! we looked, or a tree is stored that holds half a file.

mod exclude;
mod file;
mod outlet;
mod put;
mod walk;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::StoreError;
use crate::hash::Hash;
use crate::manifest::{BuildError, Manifest, ManifestBuilder};
use crate::publish;
use crate::refs::check_ref_name;
use crate::store::{Store, manifest_name};
use crate::text::shown;

pub use outlet::Outlet;
pub use put::{PutError, PutFile, Xattrs, user_xattrs};

/// How to ingest.
#[derive(Debug, Default, Clone)]
pub struct IngestOptions {
    /// Globs of what is left out; see docs/STORE.md.
    pub exclude: Vec<String>,
    /// Threads; as many as there are CPUs when None.
    pub jobs: Option<NonZeroUsize>,
    /// Don't wait until the blobs are on the disk. After a power failure the manifest may then
    /// name blobs that aren't whole.
    pub no_sync: bool,
}

/// Counters that grow while an ingest, export or verify runs, for a progress bar.
#[derive(Debug, Default)]
pub struct Progress {
    /// Entries done.
    pub entries: AtomicU64,
    /// Bytes read.
    pub bytes: AtomicU64,
}

impl Progress {
    pub(crate) fn add(&self, bytes: u64) {
        self.entries.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// What an ingest did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingested {
    /// The tree's manifest.
    pub manifest: Hash,
    /// Names of regular files.
    pub files: u64,
    /// Directories, the top one included.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Bytes in files, hard links counted once.
    pub bytes: u64,
    /// Different contents among the files.
    pub blobs: u64,
    /// Blobs that the store didn't have.
    pub new_blobs: u64,
    /// Their bytes.
    pub new_bytes: u64,
    /// Files whose content the store had, from earlier or from another file of this tree.
    pub deduplicated: u64,
    /// What was left out though no `exclude` said so, as (path, what it is), in order of paths.
    pub skipped: Vec<(PathBuf, &'static str)>,
}

/// Something in the source that couldn't be stored.
#[derive(Debug)]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// What was tried.
    pub what: &'static str,
    /// Why it failed.
    pub reason: Reason,
}

/// Why a file couldn't be stored.
#[derive(Debug)]
pub enum Reason {
    /// A system call failed.
    Io(io::Error),
    /// It kept changing while it was read.
    Changing,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "can't {} {}: ", self.what, shown(&self.path))?;
        match &self.reason {
            Reason::Io(error) => write!(f, "{error}"),
            Reason::Changing => f.write_str(
                "it keeps changing while it is read; stop what writes it, or exclude it",
            ),
        }
    }
}

/// Why a directory wasn't ingested.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The directory itself can't be opened.
    #[error("can't ingest {}: {source}", shown(path))]
    Source {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The directory lies in the store, or is it.
    #[error("can't ingest {}: it belongs to the store itself", shown(path))]
    InsideStore {
        /// The directory.
        path: PathBuf,
    },
    /// A glob isn't one.
    #[error("--exclude {glob:?} is not a glob: {why}")]
    Glob {
        /// As it was given.
        glob: String,
        /// What is wrong with it.
        why: String,
    },
    /// Some files couldn't be read; all others were. In order of paths.
    #[error("{} of the source can't be stored", count(files.len()))]
    Files {
        /// Each of them.
        files: Vec<FileError>,
    },
    /// The threads couldn't be started.
    #[error("can't start {jobs} threads: {why}; try a smaller --jobs")]
    Threads {
        /// How many were asked for.
        jobs: usize,
        /// What the system said.
        why: String,
    },
}

fn count(files: usize) -> String {
    if files == 1 { "1 entry".to_owned() } else { format!("{files} entries") }
}

impl Store {
    /// Stores the tree below `dir`. No ref is moved here, so that the manifest stays for a
    /// collection's time of grace only; on an error some blobs may be stored already, which does no
    /// harm.
    ///
    /// # Errors
    /// The source or the store can't be read or written; [`IngestError::Files`] names every file
    /// that couldn't be read.
    pub fn ingest(
        &self,
        dir: &Path,
        options: &IngestOptions,
        progress: &Progress,
    ) -> Result<Ingested, IngestError> {
        self.ingest_as(None, dir, options, progress)
    }

    /// As [`Store::ingest`]; and `name`, if there is one, then names the manifest, before any
    /// collection could take it away.
    ///
    /// # Errors
    /// As [`Store::ingest`] and [`Store::set_ref`].
    pub fn ingest_as(
        &self,
        name: Option<&str>,
        dir: &Path,
        options: &IngestOptions,
        progress: &Progress,
    ) -> Result<Ingested, IngestError> {
        name.map_or(Ok(()), check_ref_name)?;
        self.refuse_own_parts(dir)?;
        publish::sweep(self)?;
        let pool = threads(options)?;
        let walk = || {
            let exclude = exclude::Exclude::new(&options.exclude)?;
            let to = put::Target { store: self, outlet: None };
            let found = walk::Walk::new(to, dir, exclude, progress)?.run(&pool)?;
            self.settle(found, options)
        };
        let mut tree = walk()?;
        let hold = self.hold()?;
        let manifest = match self.put_tree(&hold, &tree.bytes, &tree.id, None)? {
            Some(manifest) => manifest,
            None => {
                let again = walk()?;
                tree = Tree {
                    new_blobs: again.new_blobs + tree.new_blobs,
                    new_bytes: again.new_bytes + tree.new_bytes,
                    ..again
                };
                let stored = self.put_tree(&hold, &tree.bytes, &tree.id, None)?;
                stored.ok_or_else(|| StoreError::Vanishing { root: self.root().to_owned() })?
            }
        };
        drop(hold);
        // It may have been pulled without its blobs before: now all of them are here.
        if !options.no_sync && self.origin(&tree.id)?.is_some() {
            self.sync()?;
            self.forget_origin(&tree.id)?;
        }
        if let Some(name) = name {
            self.set_ref(name, &tree.id)?;
        }
        Ok(tree.ingested(&manifest))
    }

    fn refuse_own_parts(&self, dir: &Path) -> Result<(), IngestError> {
        let source = |source| IngestError::Source { path: dir.to_owned(), source };
        let real = dir.canonicalize().map_err(source)?;
        let root = self.root().canonicalize().map_err(StoreError::io("find", self.root()))?;
        if real.starts_with(&root) {
            return Err(IngestError::InsideStore { path: dir.to_owned() });
        }
        Ok(())
    }

    /// Builds the manifest, and waits until the blobs are on the disk.
    fn settle(&self, mut found: walk::Found, options: &IngestOptions) -> Result<Tree, IngestError> {
        let (bytes, id) = build(&mut found).map_err(StoreError::from)?;
        // A blob that was there already may come from an ingest that runs now and hasn't waited for
        // the disk yet; only a manifest that is there stands for blobs that are safe.
        let known = self.has_file(&manifest_name(&id), bytes.len() as u64)?;
        if !options.no_sync && (found.new_blobs > 0 || !known) {
            self.sync()?;
        }
        Ok(Tree::new(bytes, id, found))
    }
}

fn threads(options: &IngestOptions) -> Result<rayon::ThreadPool, IngestError> {
    let jobs = options.jobs.map_or(0, NonZeroUsize::get);
    rayon::ThreadPoolBuilder::new()
        .num_threads(jobs)
        .thread_name(|i| format!("ingest-{i}"))
        .build()
        .map_err(|error| IngestError::Threads { jobs, why: error.to_string() })
}

/// A tree whose blobs are in the store, and whose manifest isn't yet.
struct Tree {
    bytes: Vec<u8>,
    id: Hash,
    new_blobs: u64,
    new_bytes: u64,
    deduplicated: u64,
    skipped: Vec<(PathBuf, &'static str)>,
}

impl Tree {
    fn new(bytes: Vec<u8>, id: Hash, found: walk::Found) -> Tree {
        Tree {
            bytes,
            id,
            new_blobs: found.new_blobs,
            new_bytes: found.new_bytes,
            deduplicated: found.deduplicated,
            skipped: found.skipped,
        }
    }

    fn ingested(self, manifest: &Manifest) -> Ingested {
        Ingested {
            manifest: self.id,
            files: manifest.files().into(),
            directories: manifest.directories().into(),
            symlinks: manifest.symlinks().into(),
            bytes: manifest.total_bytes(),
            blobs: manifest.blobs().into(),
            new_blobs: self.new_blobs,
            new_bytes: self.new_bytes,
            deduplicated: self.deduplicated,
            skipped: self.skipped,
        }
    }
}

/// Puts the entries, which came in any order, into a builder, directories first.
fn build(found: &mut walk::Found) -> Result<(Vec<u8>, Hash), BuildError> {
    let (mut entries, links) = (std::mem::take(&mut found.entries), &found.links);
    // A directory's number is given out after its parent's.
    entries.sort_unstable_by_key(|item| match item.what {
        walk::What::Directory { number, .. } => (0, number),
        _ => (1, 0),
    });
    let mut entries = entries.into_iter();
    let mut numbers = HashMap::new();
    let mut builder = match entries.next() {
        Some(walk::Item { what: walk::What::Directory { number, entry }, .. }) => {
            numbers.insert(number, 0);
            ManifestBuilder::new(entry)?
        }
        _ => unreachable!("the walk begins with its root directory"),
    };
    for item in entries {
        let parent = numbers.get(&item.parent).copied().unwrap_or(u32::MAX);
        match item.what {
            walk::What::Directory { number, entry } => {
                numbers.insert(number, builder.add(parent, &item.name, entry)?);
            }
            walk::What::Leaf(entry) => {
                builder.add(parent, &item.name, entry)?;
            }
            walk::What::Linked(key) => {
                // Whoever claimed the inode either stored it or reported why not.
                let entry = links.get(&key).cloned();
                builder.add(parent, &item.name, entry.ok_or(BuildError::MissingLink)?)?;
            }
        }
    }
    builder.finish()
}
