//! Blobs that a tree was pulled without (`vrift pull --lazy`): a process of our own, `vrift fetch
//! --serve`, gets them from the remote when a task needs them.
//!
//! It is started before the job, as a child of the supervisor's and in a process group of its own, so
//! that the terminal's keys don't reach it; it ends with the supervisor. One that ends early isn't
//! started again: what needs a blob after that gets EIO, with the reason.
//!
//! What must never happen here: a task waits without an end, or goes on as if a blob were there that
//! isn't.

mod process;

use crate::job::Job;
use process::{Process, has_ended};
use std::collections::HashMap;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ChildStdin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use vrift_events::printable;
use vrift_projection::NodeRef;
use vrift_store::asking::{Answer, Asked};
use vrift_store::{Hash, Store};

/// How long one fetch may take where nothing else is said.
pub const USUAL_LIMIT: Duration = Duration::from_secs(120);
/// How much longer an answer is waited for: who fetches keeps to the limit, unless it is stopped.
const GRACE: Duration = Duration::from_secs(5);
/// How often a thread that waits looks whether its task is still there.
const LOOK: Duration = Duration::from_millis(20);

/// A mounted tree whose blobs are left at a remote.
#[derive(Debug)]
pub struct Tree {
    /// Its mount.
    pub mount: u16,
    /// Its manifest.
    pub manifest: Hash,
    /// The remote, as it was named.
    pub place: Vec<u8>,
}

impl Tree {
    /// The tree of a mount, if it is such a one.
    ///
    /// # Errors
    /// The store's note of it can't be read.
    pub fn of(store: &Store, mount: u16, manifest: Hash) -> Result<Option<Tree>, String> {
        let origin = store.origin(&manifest).map_err(|e| e.to_string())?;
        Ok(origin.map(|origin| Tree { mount, manifest, place: origin.place }))
    }
}

/// What has to be fetched before the content of `node` can be read, and from which tree's remote; None:
/// nothing.
pub fn left_elsewhere<'j>(
    job: &'j Job,
    node: NodeRef,
    (hash, size): (&Hash, u64),
) -> Option<(&'j Tree, Asked)> {
    let tree = job.lazy.iter().find(|tree| tree.mount == node.mount)?;
    let view = job.store.as_ref()?;
    // Where that can't be told, opening it tells why.
    let here = || view.known_whole(hash) || view.store.has_blob(hash, size).unwrap_or(true);
    (!here()).then_some((tree, Asked { manifest: tree.manifest, blob: *hash, size }))
}

/// Tells in the summary why the content of `node` can't be had.
pub fn tell(job: &Job, node: NodeRef, hash: &Hash, reason: &str) {
    let path = printable(&job.path(node));
    job.counters.fail(format!("{path}: blob {hash} can't be fetched: {reason}"));
}

/// Who fetches.
pub struct Fetcher {
    process: u32,
    limit: Duration,
    /// Does not block: one that reads nothing any more is as good as gone.
    requests: Mutex<ChildStdin>,
    state: Mutex<State>,
    /// Blobs that came.
    pub blobs: AtomicU64,
    /// Their bytes.
    pub bytes: AtomicU64,
}

#[derive(Default)]
struct State {
    /// Asked for, and not answered yet.
    under_way: HashMap<Hash, Arc<Fetch>>,
    /// Why there will be no answer any more.
    ended: Option<String>,
}

/// One blob that is on its way, however many wait for it.
struct Fetch {
    size: u64,
    outcome: Mutex<Option<Result<(), String>>>,
    known: Condvar,
}

impl Fetch {
    fn end(&self, outcome: Result<(), String>) {
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        self.known.notify_all();
    }
}

/// How waiting for a blob ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Waited<A> {
    /// It is in the store.
    Here,
    /// It can't be had, for this reason.
    Failed(String),
    /// The task was called away before.
    Away(A),
}

/// A fetcher that was started, and nobody listens to yet.
pub struct Started {
    process: Process,
    limit: Duration,
}

/// Starts what fetches for a job, if it has anything to fetch. This process must have one thread.
///
/// # Errors
/// There is no `vrift`, or it is another one; in words for the user.
pub fn start(job: &Job, limit: Duration) -> Result<Option<Started>, String> {
    let (Some(tree), Some(view)) = (job.lazy.first(), &job.store) else { return Ok(None) };
    let root = Path::new(std::ffi::OsStr::from_bytes(&view.root));
    let process = Process::start(root, limit).map_err(|reason| {
        let at = job.projection.mount(tree.mount).map(|mount| mount.at().display().to_string());
        let (at, place) = (at.unwrap_or_default(), printable(&tree.place));
        format!(
            "mount at {at}: contents of its tree are left at {place}, and what would fetch them \
             can't be started: {reason}; or get them beforehand: vrift pull {place} REF"
        )
    })?;
    Ok(Some(Started { process, limit }))
}

impl Started {
    /// Its process id.
    pub fn process(&self) -> u32 {
        self.process.id
    }

    /// Listens to it from now on, in a thread of its own.
    ///
    /// # Errors
    /// There can be none.
    pub fn listen(self) -> std::io::Result<Arc<Fetcher>> {
        let Started { process, limit } = self;
        let Process { id, requests, mut answers, mut complaints } = process;
        let fetcher = Arc::new(Fetcher {
            process: id,
            limit,
            requests: Mutex::new(requests),
            state: Mutex::default(),
            blobs: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        });
        let ours = Arc::clone(&fetcher);
        std::thread::Builder::new().name("fetches".into()).stack_size(128 * 1024).spawn(
            move || {
                let reason = loop {
                    match Answer::read(&mut answers) {
                        Ok(Some(answer)) => ours.answered(answer),
                        Ok(None) => break has_ended(&mut complaints),
                        Err(e) => break format!("what `vrift fetch` says can't be read: {e}"),
                    }
                };
                ours.ended(&reason);
            },
        )?;
        Ok(fetcher)
    }
}

impl Fetcher {
    /// Is this the number of its process, or of a thread of that?
    pub fn is_task(&self, number: i32) -> bool {
        number.unsigned_abs() == self.process
            || Path::new(&format!("/proc/{}/task/{number}", self.process)).exists()
    }

    /// Waits until a blob is in the store. Those that want the same one wait for the same fetch.
    /// `away` says from time to time whether the task that it is for still waits.
    pub fn fetch<A>(&self, asked: &Asked, away: impl Fn() -> Option<A>) -> Waited<A> {
        let fetch = match self.begin(asked) {
            Ok(fetch) => fetch,
            Err(reason) => return Waited::Failed(reason),
        };
        let patience = Instant::now() + self.limit + GRACE;
        let mut outcome = fetch.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(Ok(())) = &*outcome {
                return Waited::Here;
            }
            // Before a failure is told: at the job's end everything fails, and nobody waits.
            if let Some(away) = away() {
                return Waited::Away(away);
            }
            if let Some(Err(reason)) = &*outcome {
                return Waited::Failed(reason.clone());
            }
            if Instant::now() > patience {
                let seconds = self.limit.as_secs();
                return Waited::Failed(format!(
                    "no answer of `vrift fetch` (process {}) after {seconds} s",
                    self.process
                ));
            }
            let waited = fetch.known.wait_timeout(outcome, LOOK);
            outcome = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fetch of a blob, asked for if it isn't under way.
    fn begin(&self, asked: &Asked) -> Result<Arc<Fetch>, String> {
        let mut state = self.state();
        if let Some(reason) = &state.ended {
            return Err(reason.clone());
        }
        if let Some(fetch) = state.under_way.get(&asked.blob) {
            return Ok(Arc::clone(fetch));
        }
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests
            .write_all(&asked.to_bytes())
            .map_err(|e| format!("`vrift fetch` (process {}) can't be asked: {e}", self.process))?;
        let known = Condvar::new();
        let fetch = Arc::new(Fetch { size: asked.size, outcome: Mutex::default(), known });
        state.under_way.insert(asked.blob, Arc::clone(&fetch));
        Ok(fetch)
    }

    fn answered(&self, answer: Answer) {
        // One that nobody asked for is no answer.
        let Some(fetch) = self.state().under_way.remove(&answer.blob) else { return };
        if answer.failed.is_none() {
            self.blobs.fetch_add(1, Relaxed);
            self.bytes.fetch_add(fetch.size, Relaxed);
        }
        fetch.end(answer.failed.map_or(Ok(()), Err));
    }

    /// There will be no answer any more.
    fn ended(&self, reason: &str) {
        let mut state = self.state();
        state.ended = Some(reason.to_owned());
        for (_, fetch) in state.under_way.drain() {
            fetch.end(Err(reason.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests;
