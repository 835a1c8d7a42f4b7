//! Contents and manifests that clients hand over: written without a name, checked as what comes from
//! a remote is, and named only then.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use vrift_client::{RefIs, Reply};
use vrift_store::{Hash, Hold, Incoming, IncomingError, Store, StoreError, check_ref_name};

use super::session::Session;
use super::talk::Gone;
use crate::remote::{LONGEST_MANIFEST, absent, blobs_of};

/// A content has to come within this time, and a second more for each so many bytes of it.
const PATIENCE: Duration = Duration::from_secs(60);
const SLOWEST: u64 = 64 << 10;
/// Collections are held off for so long while a client brings again what one took from it.
const HELD: Duration = Duration::from_secs(10);
/// Parts of a content in memory that aren't written yet.
const PARTS: usize = 2;

/// The ref that a manifest is to have.
pub(super) struct Named {
    pub name: String,
    /// Only if it is this.
    pub only_if: Option<RefIs>,
    /// What the tree was made from.
    pub base: Option<Hash>,
}

/// What became of what came.
enum Came {
    /// It has its name, and the ref is another's.
    Moved { why: String },
    /// It has its name.
    Here { new: bool, blobs: u64 },
    /// A manifest, of which so many blobs aren't here. As long as `hold` lives none goes.
    Missing { blobs: u64, hold: Hold },
}

impl Session<'_> {
    /// Takes a content.
    pub async fn blob(&mut self, hash: Hash, size: u64) -> Result<Vec<Reply>, Gone> {
        let came = self.take(size, None, move |_, incoming| {
            let new = incoming.into_blob(&hash)?;
            Ok(Came::Here { new, blobs: 0 })
        });
        let reply = match came.await? {
            Ok(Came::Here { new, .. }) => {
                if new {
                    self.shared.counters.new_blobs.fetch_add(1, Relaxed);
                    self.shared.counters.new_bytes.fetch_add(size, Relaxed);
                }
                Reply::Stored { new }
            }
            Ok(Came::Missing { blobs, .. }) => Reply::Missing { blobs },
            Ok(Came::Moved { why }) => Reply::Moved { why },
            Err(IncomingError::Length { .. } | IncomingError::Hash { .. }) => Reply::Other,
            Err(error) => return self.give_up(&error).await,
        };
        Ok(vec![reply])
    }

    /// Takes a manifest, and gives it to a ref.
    pub async fn tree(&mut self, id: Hash, size: u64, named: Named) -> Result<Vec<Reply>, Gone> {
        if let Err(error) = check_ref_name(&named.name) {
            return Ok(vec![self.failed(&error)]);
        }
        if size > LONGEST_MANIFEST {
            let why = format!("a manifest of {size} bytes is too long");
            return Ok(vec![Reply::Failed { why }]);
        }
        let held = self.held.take();
        let limit = held.as_ref().map(|(_, end)| *end + HELD);
        let hold = held.map(|(hold, _)| hold);
        let came = self
            .take(size, limit, move |store, incoming| publish(store, incoming, hold, &id, &named));
        let reply = match came.await? {
            Ok(Came::Here { blobs, .. }) => {
                self.shared.counters.needed_blobs.fetch_add(blobs, Relaxed);
                Reply::Done
            }
            Ok(Came::Missing { blobs, hold }) => {
                self.held = Some((hold, Instant::now() + HELD));
                Reply::Missing { blobs }
            }
            Ok(Came::Moved { why }) => Reply::Moved { why },
            Err(error) => return self.give_up(&error).await,
        };
        Ok(vec![reply])
    }

    /// The client may not have sent everything: what comes yet isn't a request.
    async fn give_up(&mut self, error: &IncomingError) -> Result<Vec<Reply>, Gone> {
        self.shared.counters.failed.fetch_add(1, Relaxed);
        let reply = self.failed(error);
        self.talk.say(&reply).await?;
        Err(Gone::Left)
    }

    /// Has the client send, until `limit` at the latest, and a thread write; `finish` then names what
    /// was written.
    async fn take(
        &mut self,
        size: u64,
        limit: Option<Instant>,
        finish: impl FnOnce(&Store, Incoming<'_>) -> Result<Came, IncomingError> + Send + 'static,
    ) -> Result<Result<Came, IncomingError>, Gone> {
        self.talk.say(&Reply::Go).await?;
        let (give, mut parts) = mpsc::channel::<Vec<u8>>(PARTS);
        let store = Arc::clone(&self.shared.store);
        let job = spawn_blocking(move || {
            let mut incoming = store.incoming(size)?;
            while let Some(part) = parts.blocking_recv() {
                incoming.write(&part)?;
            }
            // By now it may be whole; if it isn't, its length says so.
            finish(&store, incoming)
        });
        let end = Instant::now() + PATIENCE + Duration::from_secs(size / SLOWEST);
        let fed = self.feed(give, size, limit.map_or(end, |limit| limit.min(end))).await;
        let came = self.attend(job, || (0, 0)).await;
        fed?;
        came
    }

    async fn feed(
        &mut self,
        give: mpsc::Sender<Vec<u8>>,
        size: u64,
        end: Instant,
    ) -> Result<(), Gone> {
        let mut left = size;
        while left > 0 {
            let part = self.talk.part(end).await?;
            if part.is_empty() {
                break; // the client itself has no more
            }
            left = left.checked_sub(part.len() as u64).ok_or(Gone::Away)?;
            if give.send(part).await.is_err() {
                break; // it couldn't be written, which the thread tells
            }
        }
        Ok(())
    }
}

/// Everything that a manifest names is here, on the disk, and stays while collections are held off:
/// then it gets its name, and the ref.
fn publish(
    store: &Store,
    incoming: Incoming<'_>,
    held: Option<Hold>,
    id: &Hash,
    named: &Named,
) -> Result<Came, IncomingError> {
    let tree = incoming.into_manifest(id)?;
    let blobs = blobs_of(tree.manifest()).map_err(|why| StoreError::Outlet { why })?;
    store.sync()?;
    // Who has one never asks for another.
    let hold = match held {
        Some(hold) => hold,
        None => store.hold()?,
    };
    let mut missing = absent(store, &blobs)?;
    if !missing.is_empty()
        && let Some(base) = &named.base
        && let Some(origin) = store.origin(base)?
    {
        let base = store.manifest(base)?;
        let left = blobs_of(&base).map_err(|why| StoreError::Outlet { why })?;
        missing.retain(|blob| left.binary_search(blob).is_err());
        // First, so that no manifest is ever there of which blobs are missing and nobody knows where
        // from.
        store.set_origin(id, &origin)?;
    }
    if !missing.is_empty() {
        return Ok(Came::Missing { blobs: missing.len() as u64, hold });
    }
    // Open until a ref names it.
    let open = tree.publish(&hold)?;
    drop(hold);
    let (name, id) = (&named.name, open.id());
    let set = match &named.only_if {
        Some(was) => store.move_ref(name, was.manifest.as_ref(), &id),
        None => store.set_ref(name, &id),
    };
    match set {
        Err(moved @ StoreError::RefMoved { .. }) => Ok(Came::Moved { why: moved.to_string() }),
        set => {
            set?;
            Ok(Came::Here { new: true, blobs: blobs.len() as u64 })
        }
    }
}
