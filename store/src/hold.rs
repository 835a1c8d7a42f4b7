//! Who adds to the store and who takes away from it, kept apart.
//!
//! A collection removes what no manifest names, so the moment in which a manifest gets its name must
//! not fall between its look at the manifests and its removing. Two locks (flock(2)) see to that:
//!
//! - on the directory `blobs`: who publishes a manifest holds it together with others ([`Hold`]),
//!   who removes blobs or manifests holds it alone, for a batch at a time;
//! - on a manifest's own file: every open [`Manifest`](crate::Manifest) holds it together with others
//!   for as long as it lives, whoever its user is, and the kernel lets go of it when the process dies.
//!   A manifest that isn't named any more is removed by who gets that lock alone.
//!
//! What must never happen here: a thread that has a [`Hold`] asks for another. A collection that waits
//! lets nobody new in, so both would wait for ever.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{self, AtFlags, FlockOperation, OFlags};
use rustix::io::Errno;

use crate::error::StoreError;
use crate::hash::Hash;
use crate::manifest::{self, Manifest};
use crate::platform;
use crate::store::{Store, blob_name};

/// While it lives nothing is removed from the store.
#[derive(Debug)]
pub struct Hold {
    _blobs: OwnedFd,
}

/// While it lives nobody has a [`Hold`].
pub(crate) struct Alone {
    _blobs: OwnedFd,
}

/// flock(2), again when a signal comes.
pub(crate) fn lock(fd: impl AsFd, how: FlockOperation) -> Result<(), Errno> {
    loop {
        match fs::flock(&fd, how) {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

impl Store {
    /// Keeps collections from removing anything, and waits for the batch of one that is at it just
    /// now. Held for moments: a collection that waits lets nobody else in. Never asked for by a
    /// thread that has one.
    ///
    /// # Errors
    /// A directory of the store is missing, or its file system has no locks.
    pub fn hold(&self) -> Result<Hold, StoreError> {
        // Through the gate, so that those who come and go don't keep a collection out for ever.
        let _gate = self.lock_dir("manifests", FlockOperation::LockShared)?;
        Ok(Hold { _blobs: self.lock_dir("blobs", FlockOperation::LockShared)? })
    }

    /// Waits until nobody has a [`Hold`], and keeps others from getting one.
    pub(crate) fn hold_alone(&self) -> Result<Alone, StoreError> {
        let _gate = self.lock_dir("manifests", FlockOperation::LockExclusive)?;
        Ok(Alone { _blobs: self.lock_dir("blobs", FlockOperation::LockExclusive)? })
    }

    pub(crate) fn lock_dir(&self, name: &str, how: FlockOperation) -> Result<OwnedFd, StoreError> {
        let dir = self.open_dir(name)?;
        lock(&dir, how).map_err(StoreError::io("lock", self.root().join(name)))?;
        Ok(dir)
    }

    /// Publishes a manifest that was built from `bytes`, all of whose blobs were stored before, and
    /// opens it: as long as it is open no collection removes it, though no ref names it yet. What it
    /// shares with `base` is there, for that is open.
    ///
    /// None: a collection took one of the blobs meanwhile, and nothing was published. They are to be
    /// stored again with the same `hold`; then nothing is missing.
    ///
    /// # Errors
    /// It can't be written, or read back; or `base` is damaged.
    pub fn put_tree(
        &self,
        _hold: &Hold,
        bytes: &[u8],
        id: &Hash,
        base: Option<&Manifest>,
    ) -> Result<Option<Manifest>, StoreError> {
        let mut i = 0;
        for blob in manifest::blobs_in(bytes) {
            if let Some(base) = base {
                while i < base.blobs() && base.blob(i)? < blob {
                    i += 1;
                }
                if i < base.blobs() && base.blob(i)? == blob {
                    continue;
                }
            }
            let name = blob_name(&blob);
            match fs::statat(self.root_fd(), &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => {}
                Err(Errno::NOENT) => return Ok(None),
                Err(errno) => {
                    return Err(StoreError::io("look at", self.root().join(name))(errno));
                }
            }
        }
        // What it shares with a tree that came without its blobs comes from the same place.
        if let Some(base) = base
            && let Some(place) = self.origin(&base.id())?
        {
            self.set_origin(id, &place)?;
        }
        self.put_manifest(bytes, id)?;
        self.manifest(id).map(Some)
    }

    /// The lock of a manifest's file, alone and without waiting; None when somebody has it open, or
    /// it is gone.
    pub(crate) fn lock_manifest(&self, name: &str) -> Result<Option<OwnedFd>, StoreError> {
        let Some(file) = self.open_file(name)? else { return Ok(None) };
        match lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file.into())),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(StoreError::io("lock", self.root().join(name))(errno)),
        }
    }
}

/// Takes the lock of an opened manifest together with others, and says whether the file still has its
/// name: a collection may have removed it between the two.
pub(crate) fn keep(file: &std::fs::File) -> Result<bool, Errno> {
    match lock(file, FlockOperation::LockShared) {
        // No collection gets it here either, and without it none removes a manifest.
        Ok(()) | Err(Errno::NOLCK | platform::UNSUPPORTED | Errno::NOSYS) => {}
        Err(errno) => return Err(errno),
    }
    Ok(fs::fstat(file)?.st_nlink > 0)
}

/// Opens a directory below an open one, never following a link.
pub(crate) fn dir_at(dir: impl AsFd, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    fs::openat(dir, name, flags, fs::Mode::empty())
}
