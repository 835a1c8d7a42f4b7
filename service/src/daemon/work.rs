//! What is done in the store, on threads that may wait for the disk, while the client is told how far
//! it is. What reads or changes much is done one after the other.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::geteuid;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep;
use vrift_client::message::Counts;
use vrift_client::{Bytes, PROTOCOL, Reply, Request, Status, VERSION};
use vrift_store::collect::CollectOptions;
use vrift_store::protect::blobs_below;
use vrift_store::text::Shown;
use vrift_store::{Hash, Progress, Stats, Store, StoreError, Verified};

use super::counters::Counted;
use super::server::{self, Shared};
use super::session::Session;
use super::talk::Gone;

/// How often a client hears that it is not forgotten.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);
/// A count of the store is as good as a new one for so long.
const FRESH: Duration = Duration::from_secs(5);

/// Where requests wait for their turn.
#[derive(Debug, Default)]
pub(super) struct Lane {
    turn: Arc<Mutex<()>>,
    waiting: AtomicUsize,
}

/// One more that waits, until it is dropped.
struct Queued<'a>(&'a AtomicUsize);

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

type Done = Result<Vec<Reply>, StoreError>;

impl Session<'_> {
    /// Does what is done without more from the client.
    pub async fn work(&mut self, request: Request) -> Result<Vec<Reply>, Gone> {
        let long = !matches!(request, Request::SetRef { .. } | Request::RemoveRef { .. });
        let turn = if long { Some(self.turn().await?) } else { None };
        let (store, progress) = (Arc::clone(&self.shared.store), Arc::new(Progress::default()));
        let counted = Arc::clone(&progress);
        let job = spawn_blocking(move || {
            let done = perform(&store, &request, &counted);
            drop(turn);
            done
        });
        let done = self.attend(job, || far(&progress)).await?;
        Ok(done.unwrap_or_else(|error| vec![self.failed(&error)]))
    }

    /// Waits until no other long request is being done.
    pub async fn turn(&mut self) -> Result<OwnedMutexGuard<()>, Gone> {
        let shared = Arc::clone(self.shared);
        let _counted = Counted::one(&shared.counters.queue);
        let lane = &shared.lane;
        let ahead = lane.waiting.fetch_add(1, Relaxed) + 1;
        let _queued = Queued(&lane.waiting);
        let turn = Arc::clone(&lane.turn).lock_owned();
        tokio::pin!(turn);
        loop {
            tokio::select! {
                turn = &mut turn => return Ok(turn),
                // Who has gone meanwhile leaves the queue.
                () = sleep(SIGN_OF_LIFE) => self.talk.say(&Reply::Waiting { ahead }).await?,
            }
        }
    }

    /// Waits for a thread, also when the client doesn't any more: what was begun is ended.
    pub async fn attend<T>(
        &mut self,
        mut job: JoinHandle<T>,
        far: impl Fn() -> (u64, u64),
    ) -> Result<T, Gone> {
        let mut client = Ok(());
        loop {
            tokio::select! {
                done = &mut job => {
                    client?;
                    // A thread that panicked told its reason to the log.
                    return done.map_err(|_| Gone::Away);
                }
                () = sleep(SIGN_OF_LIFE) => if client.is_ok() {
                    let (entries, bytes) = far();
                    client = self.talk.say(&Reply::Working { entries, bytes }).await;
                },
            }
        }
    }

    /// A failure, for the client and for the log.
    pub fn failed(&self, error: &dyn std::error::Error) -> Reply {
        let why = error.to_string();
        server::tell(self.shared.store.root(), &why);
        Reply::Failed { why }
    }

    /// How the daemon is.
    pub async fn status(&mut self) -> Result<Reply, Gone> {
        let shared = Arc::clone(self.shared);
        let job = spawn_blocking(move || stats(&shared));
        let stats = match self.attend(job, || (0, 0)).await? {
            Ok(stats) => stats,
            Err(error) => return Ok(self.failed(&error)),
        };
        let shared = self.shared;
        let count = |counter: &AtomicU64| counter.load(Relaxed);
        let counters = &shared.counters;
        Ok(Reply::Status(Box::new(Status {
            version: VERSION.to_owned(),
            protocol: PROTOCOL,
            pid: std::process::id(),
            uid: geteuid().as_raw(),
            uptime_seconds: shared.started.elapsed().as_secs(),
            idle_seconds: shared.idle.map(|idle| idle.as_secs()),
            blobs: stats.blobs,
            bytes: stats.blob_bytes,
            manifests: stats.manifests,
            refs: stats.refs,
            clients: shared.clients.count() as u64,
            queue: count(&counters.queue),
            working: count(&counters.running),
            done: count(&counters.done),
            failed: count(&counters.failed),
            refused: count(&counters.refused),
            turned_away: count(&counters.turned_away),
            needed_blobs: count(&counters.needed_blobs),
            new_blobs: count(&counters.new_blobs),
            new_bytes: count(&counters.new_bytes),
            hit_rate: counters.hit_rate(),
        })))
    }
}

/// Entries and bytes done so far.
pub(super) fn far(progress: &Progress) -> (u64, u64) {
    (progress.entries.load(Relaxed), progress.bytes.load(Relaxed))
}

/// Counts the store, once for all who ask at the same time.
fn stats(shared: &Shared) -> Result<Stats, StoreError> {
    let mut known = shared.stats.lock().unwrap_or_else(PoisonError::into_inner);
    match &*known {
        Some((at, stats)) if at.elapsed() < FRESH => Ok(stats.clone()),
        _ => {
            let stats = shared.store.stats()?;
            *known = Some((Instant::now(), stats.clone()));
            Ok(stats)
        }
    }
}

fn perform(store: &Store, request: &Request, progress: &Progress) -> Done {
    Ok(vec![match request {
        Request::SetRef { name, manifest } => {
            // Open until then, so that a ref never names what isn't there.
            let open = store.manifest(manifest)?;
            store.set_ref(name, &open.id())?;
            Reply::Done
        }
        Request::RemoveRef { name } => {
            store.remove_ref(name)?;
            Reply::Done
        }
        Request::Protect { manifest, path, how } => {
            Reply::Protected(store.protect(&contents(store, manifest, path)?, *how)?)
        }
        Request::Unprotect { tree } => {
            let blobs = match tree {
                Some((manifest, path)) => contents(store, manifest, path)?,
                None => store.blobs()?,
            };
            Reply::Protected(store.unprotect(&blobs)?)
        }
        Request::Collect { grace_seconds } => {
            let grace = Duration::from_secs(*grace_seconds);
            let collected = store.collect(&CollectOptions { grace, dry_run: false }, progress);
            Reply::Collected(
                collected.map_err(|error| StoreError::Outlet { why: error.to_string() })?,
            )
        }
        Request::Quarantine { tree } => return quarantine(store, tree.as_ref(), progress),
        // Done where the client is listened to.
        Request::Status
        | Request::MayIngest
        | Request::Blob { .. }
        | Request::Tree { .. }
        | Request::Pull { .. }
        | Request::Prefetch { .. }
        | Request::Repair { .. } => Reply::Other,
    }])
}

fn contents(store: &Store, manifest: &Hash, path: &Bytes) -> Result<Vec<Hash>, StoreError> {
    let manifest = store.manifest(manifest)?;
    let top = manifest.find(&path.0)?.ok_or_else(|| StoreError::Outlet {
        why: format!("no {} in manifest {}", Shown(&path.0), manifest.id()),
    })?;
    Ok(blobs_below(&manifest, top)?)
}

fn quarantine(store: &Store, tree: Option<&Hash>, progress: &Progress) -> Done {
    let mut report = verify(store, tree, progress)?;
    let moving = store.quarantine(&mut report);
    let mut replies: Vec<Reply> = report.damage.iter().map(Reply::from).collect();
    replies.push(match moving {
        Ok(()) => Reply::Verified(Counts::from(&report)),
        Err(error) => Reply::Failed { why: error.to_string() },
    });
    Ok(replies)
}

/// Reads one tree, or everything.
pub(super) fn verify(
    store: &Store,
    tree: Option<&Hash>,
    progress: &Progress,
) -> Result<Verified, StoreError> {
    match tree {
        Some(hash) => store.verify_manifest(hash, progress),
        None => store.verify(progress),
    }
}
