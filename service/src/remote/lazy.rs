//! Blobs fetched when they are needed, for a tree that was pulled without them.
//!
//! Whoever needs a blob asks; who asks for one that is on its way already waits for the same fetch.
//! What must never happen here: a caller waits without an end, or is told that a blob is there that
//! isn't.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::{OnceCell, Semaphore};
use vrift_store::{Hash, Store, StoreError};

use super::blob::{blob_object, download};
use super::error::RemoteError;
use super::pack::{self, PackMap};
use super::place::{Options, Remote};
use super::pull::incoming_manifest;
use super::push::manifest_object;
use super::transfer::{Budget, Transfer, blobs_of};

type Fetch = Shared<BoxFuture<'static, Result<(), Arc<RemoteError>>>>;

/// Fetches blobs of one tree on demand. Methods work on `&self` from any task of a runtime with a
/// clock and I/O.
pub struct OnDemand {
    store: Arc<Store>,
    remote: Remote,
    /// How long one fetch may take, all of its retries together.
    limit: Duration,
    budget: Budget,
    /// As many as there may be requests at once.
    turns: Arc<Semaphore>,
    tree: Hash,
    /// Where its small blobs lie, asked for when the first is needed.
    packs: Arc<OnceCell<PackMap>>,
    under_way: Arc<Mutex<HashMap<Hash, Fetch>>>,
}

impl OnDemand {
    /// For the tree `manifest`; None when the store has no note of where its blobs are.
    ///
    /// # Errors
    /// The note can't be read, or means no remote.
    pub fn open(
        store: &Arc<Store>,
        manifest: &Hash,
        options: Options,
        limit: Duration,
    ) -> Result<Option<OnDemand>, RemoteError> {
        let Some(origin) = store.origin(manifest)? else { return Ok(None) };
        let turns = Arc::new(Semaphore::new(options.jobs));
        let remote = Remote::open(OsStr::from_bytes(&origin.place), options)?;
        Ok(Some(OnDemand {
            store: Arc::clone(store),
            remote,
            limit,
            budget: Budget::new(),
            turns,
            tree: origin.tree,
            packs: Arc::default(),
            under_way: Arc::default(),
        }))
    }

    /// Waits until the blob `hash` of `size` bytes is in the store. Callers that want the same one
    /// share a fetch, and one that gives up (drops the future) ends nothing for the others. A fetch
    /// that failed isn't remembered: the next caller tries again.
    ///
    /// # Errors
    /// The remote doesn't have it, failed, was too slow, or sent something else.
    pub async fn fetch(&self, hash: Hash, size: u64) -> Result<(), Arc<RemoteError>> {
        if self.store.has_blob(&hash, size).map_err(|error| Arc::new(error.into()))? {
            return Ok(());
        }
        let fetch = {
            let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            under_way.entry(hash).or_insert_with(|| self.begin(hash, size)).clone()
        };
        fetch.await
    }

    /// Runs by itself, so that it goes on whoever of those that wait for it goes away.
    fn begin(&self, hash: Hash, size: u64) -> Fetch {
        let (store, remote) = (Arc::clone(&self.store), self.remote.clone());
        let (budget, limit) = (self.budget.clone(), self.limit);
        let (packs, tree) = (Arc::clone(&self.packs), self.tree);
        let (turns, under_way) = (Arc::clone(&self.turns), Arc::clone(&self.under_way));
        let task = tokio::spawn(async move {
            let fetch = async {
                // An error only of a semaphore that was closed, which this one never is.
                let _turn = turns.acquire().await;
                let map = packs.get_or_try_init(|| map_of(&remote, &store, &tree)).await?;
                if store.has_blob(&hash, size)? {
                    // It came along with another meanwhile.
                    return Ok(());
                }
                match map.around(&hash) {
                    None => download(&remote, store, hash, size, false, &budget).await,
                    Some(stretch) => {
                        let progress = Transfer::default();
                        let taken = |stretch| {
                            let store = Arc::clone(&store);
                            pack::download(&remote, store, stretch, false, &budget, &progress)
                        };
                        match (taken(stretch).await, map.alone(&hash)) {
                            // What is damaged may be what only came along.
                            (Err(RemoteError::Junk { .. }), Some(alone)) => taken(alone).await,
                            (taken, _) => taken,
                        }
                    }
                }
            };
            let result = tokio::time::timeout(limit, fetch).await;
            under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&hash);
            result.unwrap_or_else(|_| {
                let (what, url) = (format!("read {}", blob_object(&hash)), remote.url().to_owned());
                Err(RemoteError::Late { what, url, limit })
            })
        });
        let joined = async move {
            match task.await {
                Ok(result) => result.map_err(Arc::new),
                Err(error) => Err(Arc::new(error.into())),
            }
        };
        joined.boxed().shared()
    }
}

/// Where the blobs of a tree lie in packs of a remote.
pub(super) async fn map_of(
    remote: &Remote,
    store: &Store,
    tree: &Hash,
) -> Result<PackMap, RemoteError> {
    let blobs = match store.manifest(tree) {
        // What was made on top of it stays when it goes.
        Err(StoreError::MissingManifest { .. }) => {
            blobs_of(incoming_manifest(store, remote, tree).await?.manifest())
        }
        here => blobs_of(&here?),
    };
    let blobs = blobs.map_err(|why| remote.junk(manifest_object(tree), why))?;
    pack::map_of(remote, tree, &blobs).await
}
