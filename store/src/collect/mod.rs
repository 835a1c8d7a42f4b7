//! Collection: what nothing names any more is removed from the store.
//!
//! Wanted is every manifest that a ref names, that has changes kept to it ([`uppers`](crate::uppers)),
//! that somebody has open, be it a job or a reader (`hold`), or that is younger than the time of grace;
//! and every blob that such a manifest names, or that is younger than that. `roots` finds the manifests,
//! `mark` their blobs among those that are there, `sweep` removes the rest. Jobs and ingests go on
//! meanwhile: nobody waits longer than a batch of removals takes.
//!
//! What must never happen here: a manifest is there and a blob that it names is removed. So manifests
//! go first, durably; a collection that is killed leaves blobs too many, never too few. And what can't
//! be read decides nothing: a damaged ref, manifest or upper directory ends it before anything is
//! removed.

mod mark;
mod roots;
mod sweep;

use std::time::{Duration, SystemTime};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::ingest::Progress;
use crate::store::Store;

/// How to collect.
#[derive(Debug, Clone, Copy)]
pub struct CollectOptions {
    /// What was written or wanted within this time stays, whether anything names it or not.
    pub grace: Duration,
    /// Only count what would go.
    pub dry_run: bool,
}

impl Default for CollectOptions {
    /// A day of grace.
    fn default() -> Self {
        CollectOptions { grace: Duration::from_secs(24 * 3600), dry_run: false }
    }
}

/// What a collection did, or would do. Sizes are lengths of files, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collected {
    /// Manifests removed.
    pub manifests: u64,
    /// Blobs removed.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Runnable copies and notes of checks removed, of blobs that are gone.
    pub leftovers: u64,
    /// Refs that were followed.
    pub refs: u64,
    /// Upper directories that keep a manifest.
    pub uppers: u64,
    /// Manifests that stay.
    pub kept_manifests: u64,
    /// Of these, manifests that only stay because somebody has them open.
    pub in_use: u64,
    /// Of these, manifests that only stay because they are young.
    pub young_manifests: u64,
    /// Blobs that manifests name.
    pub kept_blobs: u64,
    /// Blobs that only stay because they are young.
    pub young_blobs: u64,
    /// Blobs that only stay because they are protected.
    pub protected_blobs: u64,
}

/// Why a collection ended early, and what it had removed by then.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", so_far(*.manifests, *.blobs))]
pub struct CollectError {
    /// Manifests removed; what is left of their blobs goes with the next collection.
    pub manifests: u64,
    /// Blobs removed.
    pub blobs: u64,
    /// What went wrong.
    pub source: StoreError,
}

fn so_far(manifests: u64, blobs: u64) -> String {
    match (manifests, blobs) {
        (0, 0) => "nothing was collected".to_owned(),
        (manifests, blobs) => {
            format!("ended after {manifests} manifests and {blobs} blobs, nothing is half-done")
        }
    }
}

/// Is something of this time of change older than the time of grace? What is from the future isn't.
fn is_old(changed: SystemTime, now: SystemTime, grace: Duration) -> bool {
    now.duration_since(changed).unwrap_or(Duration::ZERO) >= grace
}

impl Store {
    /// Removes what nothing names; see the [module](self). Any number of jobs and ingests may run
    /// meanwhile, here and in other processes, but one collection only.
    ///
    /// # Errors
    /// Something that decides what is wanted can't be read (then nothing was removed), or something
    /// can't be removed. Nothing is half-done: another collection goes on from there.
    pub fn collect(
        &self,
        options: &CollectOptions,
        progress: &Progress,
    ) -> Result<Collected, CollectError> {
        let mut done = Collected::default();
        match self.collect_into(options, progress, &mut done) {
            Ok(()) => Ok(done),
            Err(source) => {
                Err(CollectError { manifests: done.manifests, blobs: done.blobs, source })
            }
        }
    }

    fn collect_into(
        &self,
        options: &CollectOptions,
        progress: &Progress,
        done: &mut Collected,
    ) -> Result<(), StoreError> {
        let _only = if options.dry_run { None } else { Some(self.only_collection()?) };
        let wanted = roots::Wanted::now(self, options, done)?;
        let mut marks = mark::Marks::new(self, wanted.stay);
        let mut first = true;
        // All manifests are read before the first one goes: a damaged one shows here.
        while let Some(mut group) = marks.group()? {
            match (std::mem::take(&mut first), options.dry_run) {
                (true, false) => sweep::manifests(self, options, &mut marks, &mut group, done)?,
                (true, true) => done.manifests = wanted.go.len() as u64,
                (false, _) => {}
            }
            sweep::blobs(self, options, &mut marks, &mut group, progress, done)?;
        }
        Ok(())
    }

    /// Collections take turns; the second one is told.
    fn only_collection(&self) -> Result<std::os::fd::OwnedFd, StoreError> {
        self.make_dir("tmp")?;
        match self.lock_dir("tmp", FlockOperation::NonBlockingLockExclusive) {
            Err(StoreError::Io { source, .. })
                if source.kind() == std::io::ErrorKind::WouldBlock =>
            {
                Err(StoreError::Collecting { root: self.root().to_owned() })
            }
            result => result,
        }
    }
}
