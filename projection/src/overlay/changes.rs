//! What a job made of a tree, as a manifest of its own, and the journal in short.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::{PoisonError, RwLockReadGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{Mode, OFlags, Stat};
use vrift_store::manifest::{BuildError, Entry, LinkKey, ManifestBuilder};
use vrift_store::{Hash, ManifestError, PutError, StoreError};

use super::Overlay;
use super::meta::Xattr;
use super::platform::nanos;
use super::state::{Body, Known, ROOT, Slot, State, Update};
use crate::kind::Kind;

/// Why a changed tree can't be made a manifest.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The manifest underneath is damaged.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The tree can't be a manifest.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The store said no.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A changed file can't be stored.
    #[error("a changed file can't be stored: {0}")]
    Put(#[from] PutError),
    /// A changed file can't be read.
    #[error("a changed file can't be read: {0}")]
    File(#[from] std::io::Error),
}

/// A changed tree as a manifest.
#[derive(Debug)]
pub struct Tree {
    /// The manifest's file.
    pub bytes: Vec<u8>,
    /// Its name.
    pub id: Hash,
    /// Paths of what a manifest can't hold: fifos, sockets, devices.
    pub left_out: Vec<Vec<u8>>,
}

/// What a file was when its content was sent to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    size: i64,
    mtime: (i64, u64),
    ctime: (i64, u64),
}

/// Contents that are in the store, by node.
pub(super) type StoredFiles = HashMap<u32, (Stamp, Entry)>;

fn stamp(stat: &Stat) -> Stamp {
    Stamp {
        size: stat.st_size,
        mtime: (stat.st_mtime, nanos(stat.st_mtime_nsec)),
        ctime: (stat.st_ctime, nanos(stat.st_ctime_nsec)),
    }
}

/// Sends an open file's content to the store, and gives what a manifest says of the file.
pub type Put<'p> = &'p dyn Fn(&File) -> Result<Entry, PutError>;

/// What became of a file that was to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storing {
    /// It is in the store, as this entry says.
    Stored(Entry),
    /// It is no changed file (any more).
    Unchanged,
    /// Somebody could write to it, and will close it.
    InUse,
    /// It changed just now, or is being opened.
    Later,
}

/// A change of a file that is younger may be followed by one that leaves no trace in its times: they
/// are those of the last clock tick.
const TICK: Duration = Duration::from_millis(20);

impl Overlay {
    /// Sends a changed file's content to the store, unless it is there already. `None`: the node is
    /// no changed file (any more). Nobody may write to it any more, for then its times need not tell
    /// whether it is still what was stored; see [`Overlay::store_closed`].
    ///
    /// # Errors
    /// The file can't be read, or the store said no.
    pub fn store_file(&self, node: u32, put: Put<'_>) -> Result<Option<Entry>, CommitError> {
        let Some(file) = self.open_changed(node)? else { return Ok(None) };
        self.store_open(node, &file, put).map(Some)
    }

    /// Sends a changed file's content to the store if nobody could write to it, by a descriptor or a
    /// mapping, which `in_use` says of an open file. (A page that was written to once is written to
    /// again without a trace in the file's times.)
    ///
    /// # Errors
    /// As [`Overlay::store_file`].
    pub fn store_closed(
        &self,
        node: u32,
        put: Put<'_>,
        in_use: &dyn Fn(&File) -> bool,
    ) -> Result<Storing, CommitError> {
        let Some(file) = self.open_changed(node)? else { return Ok(Storing::Unchanged) };
        match self.opening.try_write() {
            Ok(_held) if in_use(&file) => return Ok(Storing::InUse),
            Ok(_held) => {}
            Err(_) => return Ok(Storing::Later),
        }
        let changed = file.metadata()?;
        let changed = UNIX_EPOCH
            + Duration::new(
                u64::try_from(changed.ctime()).unwrap_or(0),
                u32::try_from(changed.ctime_nsec()).unwrap_or(0),
            );
        if SystemTime::now().duration_since(changed).is_ok_and(|age| age < TICK) {
            return Ok(Storing::Later);
        }
        self.store_open(node, &file, put).map(Storing::Stored)
    }

    /// To be held while a changed file is opened for the job.
    pub fn opening(&self) -> RwLockReadGuard<'_, ()> {
        self.opening.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None`: it is no changed file (any more).
    fn open_changed(&self, node: u32) -> Result<Option<File>, CommitError> {
        let changed = {
            let state = self.read();
            let file = |known: &Known| known.kind == Kind::File && known.body == Body::Upper;
            state.get(node).is_some_and(file) && !state.is_gone(node)
        };
        if !changed {
            return Ok(None);
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW;
        match self.open_by_owner(node, flags) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            other => Ok(Some(other?)),
        }
    }

    fn store_open(&self, node: u32, file: &File, put: Put<'_>) -> Result<Entry, CommitError> {
        let now = stamp(&rustix::fs::fstat(file).map_err(std::io::Error::from)?);
        let stored = || self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((then, entry)) = stored().get(&node)
            && *then == now
        {
            return Ok(entry.clone());
        }
        let entry = put(file)?;
        stored().insert(node, (now, entry.clone()));
        Ok(entry)
    }

    /// Files that were stored are stored anew the next time: their contents may have been collected,
    /// as no manifest names them yet.
    pub fn forget_stored(&self) {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The numbers of all changed files that have a name.
    #[must_use]
    pub fn changed_files(&self) -> Vec<u32> {
        let file = |known: &Known| {
            known.kind == Kind::File && known.body == Body::Upper && !known.names.is_empty()
        };
        let state = self.read();
        state.known_nodes().filter(|(_, known)| file(known)).map(|(node, _)| node).collect()
    }

    /// Opens a file of the upper directory. Its own bits may forbid even its owner to do so: then it
    /// has others for the moment.
    ///
    /// # Errors
    /// As openat(2) and fchmodat(2).
    pub fn open_by_owner(&self, node: u32, flags: OFlags) -> std::io::Result<File> {
        use rustix::fs::{AtFlags, chmodat};
        match self.upper().open(node, flags, Mode::empty()) {
            Err(rustix::io::Errno::ACCESS) => {}
            other => return Ok(File::from(other?)),
        }
        let mode = Mode::from_raw_mode(self.upper().stat(node)?.st_mode);
        let name = super::file_name(node);
        let files = self.upper().files();
        chmodat(files, name.as_str(), mode | Mode::RUSR | Mode::WUSR, AtFlags::empty())?;
        let opened = self.upper().open(node, flags, Mode::empty());
        chmodat(files, name.as_str(), mode, AtFlags::empty())?;
        Ok(File::from(opened?))
    }

    /// The tree as it is now, as a manifest: what did not change is taken over from the one
    /// underneath, the contents of changed files go to the store by `put`.
    ///
    /// # Errors
    /// See [`CommitError`].
    pub fn tree(&self, put: Put<'_>) -> Result<Tree, CommitError> {
        let state = self.read();
        let root = self.entry_of_directory(&state, ROOT)?;
        let mut commit = Commit {
            overlay: self,
            touched: state.touched()?,
            state: &state,
            builder: ManifestBuilder::new(root)?,
            left_out: Vec::new(),
            path: Vec::new(),
            put,
        };
        commit.fill(ROOT, 0)?;
        let left_out = commit.left_out;
        let (bytes, id) = commit.builder.finish()?;
        Ok(Tree { bytes, id, left_out })
    }

    fn entry_of_directory(&self, state: &State, dir: u32) -> Result<Entry, CommitError> {
        match state.get(dir).map(|known| &known.body) {
            Some(Body::Directory(meta)) => {
                let mut entry = Entry::directory(meta.mode, meta.mtime);
                entry.xattrs = pairs(&meta.xattrs);
                Ok(entry)
            }
            _ => Ok(Entry::of(&state.base, dir)?),
        }
    }
}

fn pairs(xattrs: &[Xattr]) -> Vec<(Vec<u8>, Vec<u8>)> {
    xattrs.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
}

/// One entry of a directory.
pub(super) struct Child {
    pub(super) name: Vec<u8>,
    pub(super) node: u32,
    /// The manifest's own number of it, if the manifest has it.
    base: Option<u32>,
}

/// The manifest on its way.
struct Commit<'a> {
    overlay: &'a Overlay,
    state: &'a State,
    /// What differs from the manifest, and the directories above it.
    touched: HashSet<u32>,
    builder: ManifestBuilder,
    left_out: Vec<Vec<u8>>,
    path: Vec<u8>,
    put: Put<'a>,
}

impl Commit<'_> {
    /// Adds what `dir` holds to the builder's directory `parent`.
    fn fill(&mut self, dir: u32, parent: u32) -> Result<(), CommitError> {
        for Child { name, node, base } in self.state.entries(dir)? {
            let length = self.path.len();
            self.path.push(b'/');
            self.path.extend_from_slice(&name);
            match base {
                Some(base) if !self.touched.contains(&node) => {
                    self.builder.graft(parent, &name, &self.state.base, base)?;
                }
                _ => self.add(parent, &name, node)?,
            }
            self.path.truncate(length);
        }
        Ok(())
    }

    fn add(&mut self, parent: u32, name: &[u8], node: u32) -> Result<(), CommitError> {
        let entry = match self.state.kind(node)? {
            Kind::Directory => {
                let entry = self.overlay.entry_of_directory(self.state, node)?;
                let dir = self.builder.add(parent, name, entry)?;
                return self.fill(node, dir);
            }
            Kind::Symlink => match self.state.get(node).map(|known| &known.body) {
                Some(Body::Symlink { target, meta }) => {
                    let mut entry = Entry::symlink(target.to_vec(), meta.mtime);
                    entry.xattrs = pairs(&meta.xattrs);
                    entry
                }
                _ => Entry::of(&self.state.base, node)?,
            },
            Kind::File => self.file(node)?,
            Kind::Fifo | Kind::Socket | Kind::CharDevice | Kind::BlockDevice => {
                self.left_out.push(self.path.clone());
                return Ok(());
            }
        };
        let mut entry = entry;
        let names = self.state.get(node).map_or(0, |known| known.names.len());
        if names > 1 && entry.link.is_none() {
            entry.link = Some(LinkKey::new(0, node.into()));
        }
        self.builder.add(parent, name, entry)?;
        Ok(())
    }

    fn file(&self, node: u32) -> Result<Entry, CommitError> {
        match self.overlay.store_file(node, self.put)? {
            Some(entry) => Ok(entry),
            None => Ok(Entry::of(&self.state.base, node)?),
        }
    }
}

impl State {
    /// A directory's entries.
    pub(super) fn entries(&self, dir: u32) -> Result<Vec<Child>, ManifestError> {
        let mut entries = Vec::new();
        let names = self.names(dir);
        if self.is_base(dir) {
            for child in self.base.children(dir)? {
                let found = self.base.node(child)?;
                let node = match names.and_then(|names| names.slots.get(found.name)) {
                    None if Kind::from(found.kind) == Kind::File => found.inode,
                    None => child,
                    Some(Slot::Node { node, at: None }) => *node,
                    Some(_) => continue,
                };
                entries.push(Child { name: found.name.to_vec(), node, base: Some(child) });
            }
        }
        for name in names.iter().flat_map(|names| names.added.values()) {
            if let Some(node) = self.lookup(dir, name)? {
                // A directory that was moved here whole.
                let base = self.is_base(node).then_some(node);
                entries.push(Child { name: name.to_vec(), node, base });
            }
        }
        Ok(entries)
    }

    /// Everything that differs from the manifest, and all directories above it.
    fn touched(&self) -> Result<HashSet<u32>, ManifestError> {
        let differs = |known: &Known| !matches!(known.body, Body::Base | Body::Clean);
        let mut touched = HashSet::new();
        let nodes = self.known_nodes().filter(|(_, known)| {
            differs(known) || known.kind == Kind::File && known.names.len() > 1
        });
        let all = nodes
            .flat_map(|(node, known)| {
                std::iter::once(node).chain(known.names.iter().map(|(dir, _)| *dir))
            })
            .chain(self.changed_directories().map(|(dir, _)| dir));
        for node in all {
            let mut here = node;
            while touched.insert(here) && here != ROOT {
                here = self.parent(here)?;
            }
        }
        Ok(touched)
    }

    /// All that differs from the manifest as one change: a journal in short.
    pub(super) fn snapshot(&self) -> Vec<Update> {
        let mut updates = Vec::new();
        for (node, known) in self.known_nodes() {
            let gone = known.names.is_empty() && node != ROOT;
            if !gone && !matches!(known.body, Body::Base | Body::Clean) {
                let (kind, body) = (known.kind, known.body.clone());
                updates.push(Update::Node { node, kind, body });
            }
        }
        for (dir, names) in self.changed_directories() {
            let meta = self.get(dir).map(|known| &known.body);
            let Some(Body::Directory(meta)) = meta.filter(|_| !self.is_gone(dir)) else { continue };
            for (name, slot) in &names.slots {
                let node = match slot {
                    Slot::Gone => None,
                    Slot::Node { node, .. } => Some(*node),
                };
                updates.push(Update::Name { dir, name: name.clone(), node, time: meta.mtime });
            }
            // Its ctime and mtime may differ; the names above have set both.
            let body = Body::Directory(meta.clone());
            updates.push(Update::Node { node: dir, kind: Kind::Directory, body });
        }
        updates
    }
}
