//! Removing what isn't wanted, a batch at a time. Between two batches whoever waits to publish a
//! manifest does so, and the next batch knows of it.

use std::os::fd::OwnedFd;
use std::time::SystemTime;

use rustix::fs::{self, AtFlags, FileType};
use rustix::io::Errno;

use super::mark::{Group, Marks};
use super::roots::{Wanted, time};
use super::{CollectOptions, Collected, is_old};
use crate::error::StoreError;
use crate::hash::Hash;
use crate::hold;
use crate::ingest::Progress;
use crate::platform;
use crate::store::{Store, manifest_name};

/// So many blobs are removed before others get their turn: some tens of milliseconds.
const BATCH: usize = 4096;

/// Removes the manifests that may go. When it returns, this is on the disk, and every manifest that
/// is there stays.
pub(super) fn manifests(
    store: &Store,
    options: &CollectOptions,
    marks: &mut Marks<'_>,
    group: &mut Group,
    done: &mut Collected,
) -> Result<(), StoreError> {
    let _alone = store.hold_alone()?;
    // Who doesn't publish, but only names what is there, holds this.
    let refs = store.lock_refs()?;
    let wanted = Wanted::now(store, options, done)?;
    for manifest in wanted.stay {
        marks.add(manifest, group)?;
    }
    if !wanted.go.is_empty() {
        // What was removed of names must not come back by a power failure when what they named is gone.
        store.sync_names()?;
        for manifest in wanted.go {
            let name = manifest_name(&manifest);
            match store.lock_manifest(&name)? {
                Some(_locked) => {
                    unlink(store, &name)?;
                    done.manifests += 1;
                }
                // Opened since.
                None => {
                    marks.add(manifest, group)?;
                    done.in_use += 1;
                    done.kept_manifests += 1;
                }
            }
        }
        store.sync_dir("manifests")?;
    }
    drop(refs);
    origins(store, done)
}

/// Removes the notes of where the blobs of manifests come from that aren't there. Who makes one does
/// so under a hold, together with its manifest.
fn origins(store: &Store, done: &mut Collected) -> Result<(), StoreError> {
    for (name, _) in store.list("origins")? {
        let Some(hash) = std::str::from_utf8(&name).ok().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if store.open_file(&manifest_name(&hash))?.is_none() {
            store.forget_origin(&hash)?;
            done.leftovers += 1;
        }
    }
    Ok(())
}

/// Removes the blobs of a group that nothing names.
pub(super) fn blobs(
    store: &Store,
    options: &CollectOptions,
    marks: &mut Marks<'_>,
    group: &mut Group,
    progress: &Progress,
    done: &mut Collected,
) -> Result<(), StoreError> {
    let mut sweep = Sweep { store, options, now: SystemTime::now(), dir: None, progress, done };
    for batch in group.unnamed().chunks(BATCH) {
        let _alone = if options.dry_run {
            None
        } else {
            let alone = store.hold_alone()?;
            marks.catch_up(group)?;
            Some(alone)
        };
        for &at in batch {
            if !group.is_named(at) {
                sweep.one(group, at)?;
            }
        }
    }
    done.kept_blobs += group.named();
    Ok(())
}

struct Sweep<'a> {
    store: &'a Store,
    options: &'a CollectOptions,
    now: SystemTime,
    /// The directory of the last blob, by the first byte of its hash.
    dir: Option<(u8, OwnedFd)>,
    progress: &'a Progress,
    done: &'a mut Collected,
}

impl Sweep<'_> {
    fn one(&mut self, group: &Group, at: usize) -> Result<(), StoreError> {
        let hash = group.hash(at);
        if group.is_blob(at) && !self.blob(&hash)? {
            return Ok(());
        }
        for name in group.leftovers(&hash) {
            if !self.options.dry_run {
                unlink(self.store, name)?;
            }
            self.done.leftovers += 1;
        }
        Ok(())
    }

    /// Removes one blob; says whether it is gone.
    fn blob(&mut self, hash: &Hash) -> Result<bool, StoreError> {
        let name = hash.to_hex();
        let path = || self.store.root().join(Store::blob_path(hash));
        let dir = match &self.dir {
            Some((first, dir)) if *first == hash.as_bytes()[0] => dir,
            _ => {
                let opened = self.store.open_dir("blobs")?;
                let opened = hold::dir_at(opened, &name.as_str()[..2]);
                let opened = opened.map_err(StoreError::io("open the directory of", path()))?;
                &self.dir.insert((hash.as_bytes()[0], opened)).1
            }
        };
        let blob = match platform::look(dir, name.as_str().as_bytes()) {
            Err(Errno::NOENT) => return Ok(true),
            blob => blob.map_err(StoreError::io("look at", path()))?,
        };
        if FileType::from_raw_mode(blob.mode) != FileType::RegularFile {
            return Ok(false);
        }
        if blob.immutable {
            self.done.protected_blobs += 1;
            return Ok(false);
        }
        let changed = time(blob.mtime.0, blob.mtime.1);
        if !is_old(changed, self.now, self.options.grace) {
            self.done.young_blobs += 1;
            return Ok(false);
        }
        if !self.options.dry_run {
            fs::unlinkat(dir, name.as_str(), AtFlags::empty())
                .map_err(StoreError::io("remove", path()))?;
        }
        self.done.blobs += 1;
        self.done.bytes += blob.size;
        self.progress.add(blob.size);
        Ok(true)
    }
}

/// Removes a file of the store; that it is gone already does no harm.
fn unlink(store: &Store, name: &str) -> Result<(), StoreError> {
    match fs::unlinkat(store.root_fd(), name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(StoreError::io("remove", store.root().join(name))(errno)),
    }
}
