//! A writable mount: a manifest, and what a job has changed of it.
//!
//! Names, directories and links are kept in memory (see `state`), and written to a journal where the
//! upper directory is kept. A file's content and attributes are those of a real file in the upper
//! directory from its first change on (its copy-up): descriptors of it, locks, mappings, its times
//! and its space are the kernel's business. A node keeps its number whatever becomes of its names.

mod changes;
mod copy_up;
mod meta;
mod mirror;
mod names;
mod platform;
mod read;
mod record;
mod state;
mod upper;
mod watch;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{
    Arc, Condvar, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};

use vrift_policy::Errno;
use vrift_store::{Manifest, ManifestError};

pub use changes::{CommitError, Put, Storing, Tree};
pub use copy_up::For;
pub use meta::{Meta, Time, now};
pub use names::{Flags, Name};
pub use read::Content;
pub use upper::{Upper, UpperError, name as file_name};

use crate::kind::Kind;
use state::{Body, ROOT, State, Update};

/// The changed tree of one mount.
#[derive(Debug)]
pub struct Overlay {
    state: RwLock<State>,
    /// The next number.
    next: AtomicU32,
    upper: Upper,
    /// Whose everything in the manifest is.
    owner: (u32, u32),
    /// Files that are being copied up, and who waits for them.
    copying: (Mutex<HashSet<u32>>, Condvar),
    /// Contents that were sent to the store already.
    stored: Mutex<changes::StoredFiles>,
    /// Read: the job opens a changed file; written: it must not for the moment.
    opening: RwLock<()>,
    /// Something is watched, or was.
    watching: AtomicBool,
    /// What is watched; taken after the tree.
    mirror: Mutex<Option<mirror::Mirror>>,
    /// What was opened in the mirror, by inode.
    inodes: Mutex<HashMap<u64, u32>>,
    /// What who watches may have missed.
    missed: OnceLock<String>,
}

/// Turns what a call in the upper directory said into the job's errno.
fn errno(e: rustix::io::Errno) -> Errno {
    Errno::from_raw(e.raw_os_error()).unwrap_or(Errno::EIO)
}

fn io_errno(e: &std::io::Error) -> Errno {
    e.raw_os_error().and_then(Errno::from_raw).unwrap_or(Errno::EIO)
}

/// A manifest that can't be read: the job is told EIO.
fn damaged(e: ManifestError) -> Errno {
    drop(e);
    Errno::EIO
}

impl Overlay {
    /// Nothing is changed yet.
    #[must_use]
    pub fn new(base: Arc<Manifest>, owner: (u32, u32), upper: Upper) -> Overlay {
        Overlay {
            next: AtomicU32::new(base.len()),
            state: RwLock::new(State::new(base)),
            upper,
            owner,
            copying: (Mutex::default(), Condvar::new()),
            stored: Mutex::default(),
            opening: RwLock::default(),
            watching: AtomicBool::new(false),
            mirror: Mutex::default(),
            inodes: Mutex::default(),
            missed: OnceLock::new(),
        }
    }

    /// With what earlier jobs changed, kept at `path`; an empty or missing directory is made one.
    ///
    /// # Errors
    /// The directory can't be used, see [`UpperError`].
    pub fn kept(
        base: Arc<Manifest>,
        owner: (u32, u32),
        path: &Path,
    ) -> Result<Overlay, UpperError> {
        let (upper, changes) = Upper::kept(path, &base.id())?;
        let overlay = Overlay::new(base, owner, upper);
        overlay.replay(&changes)?;
        Ok(overlay)
    }

    /// Does again what the journal says, and sweeps what it doesn't speak of.
    fn replay(&self, changes: &[Vec<Update>]) -> Result<(), UpperError> {
        /// A journal longer than this is written anew.
        const LONG: u64 = 1 << 20;
        let damaged = |what: String| UpperError::Damaged { path: self.upper.path().into(), what };
        let os = |what, source| UpperError::Io { path: self.upper.path().into(), what, source };
        let mut state = self.write();
        let mut next = state.base.len();
        for updates in changes {
            for update in updates {
                if let Update::Node { node, .. } | Update::Name { node: Some(node), .. } = update {
                    next = next.max(node.saturating_add(1));
                }
            }
            state.apply(updates, self.owner).map_err(|e| damaged(e.to_string()))?;
        }
        self.next.store(next, Relaxed);
        let there: HashSet<u32> =
            self.upper.numbers().map_err(|e| os("reading it", e))?.into_iter().collect();
        let wanted = |node: u32| {
            let known = state.get(node);
            known.is_some_and(|known| known.body == Body::Upper && !known.names.is_empty())
        };
        for node in there.iter().filter(|node| !wanted(**node)) {
            self.upper.remove(*node);
        }
        let mut all = state.known_nodes().map(|(node, _)| node);
        if let Some(lost) = all.find(|node| wanted(*node) && !there.contains(node)) {
            return Err(damaged(format!("the content of node {lost} is gone")));
        }
        if self.upper.journal_length() > LONG {
            self.upper.rewrite(&[state.snapshot()]).map_err(|e| os("writing its journal", e))?;
        }
        Ok(())
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a change down and does it.
    fn change(&self, state: &mut State, updates: &[Update]) -> Result<(), Errno> {
        self.upper.note(updates).map_err(|e| io_errno(&e))?;
        state.apply(updates, self.owner).map_err(damaged)
    }

    /// A number that no node has had.
    fn new_number(&self) -> Result<u32, Errno> {
        let number = self.next.fetch_add(1, Relaxed);
        if number == u32::MAX { Err(Errno::ENOSPC) } else { Ok(number) }
    }

    /// The manifest underneath.
    pub fn base(&self) -> Arc<Manifest> {
        Arc::clone(&self.read().base)
    }

    /// The upper directory.
    pub fn upper(&self) -> &Upper {
        &self.upper
    }

    /// The owner of everything in the manifest: user and group.
    #[must_use]
    pub fn owner(&self) -> (u32, u32) {
        self.owner
    }

    /// The attributes of a directory or a symbolic link; `None` for anything else.
    ///
    /// # Errors
    /// EIO: the manifest is damaged.
    pub fn meta(&self, node: u32) -> Result<Option<Meta>, Errno> {
        let state = self.read();
        match state.get(node).map(|known| &known.body) {
            Some(Body::Directory(meta) | Body::Symlink { meta, .. }) => Ok(Some(meta.clone())),
            Some(Body::Upper | Body::Clean) => Ok(None),
            Some(Body::Base) | None => {
                let found = state.base.node(node).map_err(damaged)?;
                let is_file = Kind::from(found.kind) == Kind::File;
                Ok((!is_file).then(|| Meta::of_base(&found, self.owner)))
            }
        }
    }

    /// Changes the attributes of a directory or a symbolic link; its ctime becomes now.
    ///
    /// # Errors
    /// What `change` says, then nothing was changed; EINVAL for anything else; ENOSPC and the like
    /// from the journal.
    pub fn change_meta(
        &self,
        node: u32,
        change: impl FnOnce(&mut Meta) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let mut state = self.write();
        let kind = state.kind(node).map_err(damaged)?;
        let body = match state.get(node).map(|known| known.body.clone()) {
            Some(body @ (Body::Directory(_) | Body::Symlink { .. })) => body,
            Some(Body::Upper | Body::Clean) => return Err(Errno::EINVAL),
            Some(Body::Base) | None => {
                let found = state.base.node(node).map_err(damaged)?;
                let meta = Meta::of_base(&found, self.owner);
                match kind {
                    Kind::Directory => Body::Directory(meta),
                    Kind::Symlink => Body::Symlink { target: found.target.into(), meta },
                    _ => return Err(Errno::EINVAL),
                }
            }
        };
        let mut body = body;
        let (mut before, mut after) = (None, None);
        if let Body::Directory(meta) | Body::Symlink { meta, .. } = &mut body {
            before = self.is_watched().then(|| meta.clone());
            change(meta)?;
            meta.ctime = now();
            after = before.is_some().then(|| meta.clone());
        }
        self.change(&mut state, &[Update::Node { node, kind, body }])?;
        if let (Some(before), Some(after)) = (&before, &after) {
            self.tell_changed(&state, node, before, after);
        }
        Ok(())
    }

    /// Whether the node is the mount's root.
    #[must_use]
    pub fn is_root(node: u32) -> bool {
        node == ROOT
    }
}
