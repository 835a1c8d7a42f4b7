//! Changed files go to the store while the job runs: when the last descriptor and the last mapping
//! that could write to one is gone, the kernel says so (inotify(7), `IN_CLOSE_WRITE`).
//!
//! Other descriptors and mappings may go on after the one that was closed; whether there are any,
//! a lease tells that can't be had. What is missed here, for whatever reason, is stored at the job's
//! end; this only makes that short.

use super::through::{self, Awake};
use crate::job::Job;
use crate::sys::lease;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use vrift_policy::OnExit;
use vrift_projection::NodeRef;
use vrift_projection::overlay::{CommitError, Overlay, Storing};
use vrift_store::manifest::Entry;
use vrift_store::{Outlet, PutError, Store};

/// A file that is written again within this time is stored once.
const QUIET: Duration = Duration::from_millis(200);
/// The most files that wait; more are left to the job's end.
const MOST: usize = 1 << 16;

/// A file, by mount and node.
type Key = (u16, u32);

/// Files that were closed, until they have been left alone for a while.
struct Queue {
    /// When each was closed last.
    closed: HashMap<Key, Instant>,
    most: usize,
}

impl Queue {
    fn new(most: usize) -> Queue {
        Queue { closed: HashMap::new(), most }
    }

    fn add(&mut self, file: Key, now: Instant) {
        if self.closed.len() < self.most || self.closed.contains_key(&file) {
            self.closed.insert(file, now);
        }
    }

    /// Takes out those whose time has come.
    fn due(&mut self, now: Instant) -> Vec<Key> {
        let quiet = |closed: &Instant| now.saturating_duration_since(*closed) >= QUIET;
        self.closed.extract_if(|_, closed| quiet(closed)).map(|(file, _)| file).collect()
    }
}

/// The thread that stores changed files.
pub struct Ingest {
    thread: JoinHandle<()>,
    ended: Arc<AtomicBool>,
    listening: Arc<Listening>,
}

/// What the thread hears of.
struct Listening {
    inotify: Inotify,
    places: Mutex<HashMap<WatchDescriptor, Place>>,
}

/// A directory that the kernel tells of.
#[derive(Clone, Copy)]
enum Place {
    /// A mount's files, by their numbers.
    Files(u16),
    /// One that the job watches, where files are written by their names.
    Directory(NodeRef),
}

impl Listening {
    fn hear(&self, place: Place, path: &Path) -> nix::Result<()> {
        let watch = self.inotify.add_watch(path, AddWatchFlags::IN_CLOSE_WRITE)?;
        self.places.lock().unwrap_or_else(PoisonError::into_inner).insert(watch, place);
        Ok(())
    }

    /// The files that were closed, by mount and node.
    fn closed(&self, job: &Job) -> Vec<Key> {
        let events = self.inotify.read_events().unwrap_or_default();
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let file = |event: &InotifyEvent| {
            let name = event.name.as_ref()?;
            match *places.get(&event.wd)? {
                Place::Files(mount) => Some((mount, name.to_str()?.parse().ok()?)),
                Place::Directory(dir) => {
                    let node = job.projection.lookup(dir, name.as_bytes()).ok()??;
                    Some((node.mount, node.node))
                }
            }
        };
        events.iter().filter_map(file).collect()
    }
}

/// Starts storing what changes in mounts whose changes are to stay.
pub fn start(job: &Arc<Job>) -> std::io::Result<()> {
    // What is kept of changes to a store that can't be written is kept as it is.
    let writable = job.store.as_ref().is_some_and(|view| view.store.is_writable());
    let stays = |what: &OnExit| match what {
        OnExit::Discard => false,
        OnExit::Keep => writable,
        OnExit::Commit(_) => true,
    };
    let mounts: Vec<u16> =
        job.ends.mounts.iter().filter(|end| stays(&end.what)).map(|end| end.mount).collect();
    if mounts.is_empty() {
        return Ok(());
    }
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    let listening = Arc::new(Listening { inotify, places: Mutex::default() });
    for mount in mounts {
        if let Some(overlay) = job.projection.mount(mount).and_then(|mount| mount.overlay()) {
            let files = overlay.upper().path().join("f");
            listening.hear(Place::Files(mount), &files)?;
        }
    }
    let ended = Arc::new(AtomicBool::new(false));
    let (shared, its_end, ears) = (Arc::clone(job), Arc::clone(&ended), Arc::clone(&listening));
    let thread = std::thread::Builder::new()
        .name("ingest".into())
        .spawn(move || run(&shared, &ears, &its_end))?;
    let ingest = Ingest { thread, ended, listening };
    *job.ingest.lock().unwrap_or_else(PoisonError::into_inner) = Some(ingest);
    Ok(())
}

/// Files are written by their names in the watched directory `dir` from now on; `opened` is what
/// the job watches.
pub fn hear(job: &Job, dir: NodeRef, opened: BorrowedFd<'_>) {
    let ingest = job.ingest.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(ingest) = &*ingest else { return };
    let path = format!("/proc/self/fd/{}", opened.as_raw_fd());
    if let Err(e) = ingest.listening.hear(Place::Directory(dir), Path::new(&path)) {
        // What is written there is stored at the job's end.
        tracing::debug!("watching a watched directory: {e}");
    }
}

/// Ends the thread; what it has not stored is stored by [`rest`].
pub fn stop(job: &Job) {
    let ingest = job.ingest.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(ingest) = ingest else { return };
    ingest.ended.store(true, Ordering::Relaxed);
    if ingest.thread.join().is_err() {
        job.counters
            .fail("storing changed files: a defect of vrift-trace's; please report it".into());
    }
}

fn run(job: &Job, listening: &Listening, ended: &AtomicBool) {
    let Some(view) = &job.store else { return };
    let mut daemon = Awake::new(&view.store);
    let mut queue = Queue::new(MOST);
    while !ended.load(Ordering::Relaxed) {
        let mut fds = [PollFd::new(listening.inotify.as_fd(), PollFlags::POLLIN)];
        let pause = PollTimeout::try_from(QUIET / 2).unwrap_or(PollTimeout::ZERO);
        let _ = poll(&mut fds, pause);
        for file in listening.closed(job) {
            queue.add(file, Instant::now());
        }
        daemon.keep();
        let due = queue.due(Instant::now());
        if due.is_empty() {
            continue;
        }
        let outlet = match through::blobs(&view.store) {
            Ok(outlet) => outlet,
            Err(e) => {
                // Tried again at the end, and told there.
                tracing::debug!("storing changed files: {e}");
                continue;
            }
        };
        let outlet = outlet.as_ref().map(|outlet| outlet as &dyn Outlet);
        for key in due {
            let overlay = job.projection.mount(key.0).and_then(|mount| mount.overlay());
            // Who watches the file itself would see it read.
            let overlay = overlay.filter(|overlay| !overlay.is_watched_itself(key.1));
            let put = |file: &File| put(&view.store, outlet, file);
            match overlay.map(|overlay| overlay.store_closed(key.1, &put, &in_use)) {
                Some(Ok(Storing::Later)) => queue.add(key, Instant::now()),
                // Told at the end, if it fails again.
                Some(Err(e)) => tracing::debug!("storing a changed file: {e}"),
                // One that is in use will be closed, which is told.
                Some(Ok(Storing::InUse | Storing::Stored(_) | Storing::Unchanged)) | None => {}
            }
            if ended.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}

/// Could anybody write to it? Where that can't be known it is left to the job's end.
fn in_use(file: &File) -> bool {
    lease::is_open_for_writing(file.as_fd()).unwrap_or_else(|e| {
        tracing::debug!("whether a changed file is in use: {e}");
        true
    })
}

/// Stores an open file's content, by `outlet` where there is one. One that changes meanwhile is read
/// again, but not for ever.
pub fn put(store: &Store, outlet: Option<&dyn Outlet>, file: &File) -> Result<Entry, PutError> {
    const TRIES: usize = 5;
    let mut tries = 0;
    loop {
        tries += 1;
        let put = match outlet {
            Some(outlet) => store.put_file_through(outlet, file),
            None => store.put_file(file),
        };
        match put {
            Err(PutError::Changed) if tries < TRIES => {}
            other => return other.map(|put| put.entry),
        }
    }
}

/// Stores every changed file that is not in the store yet.
pub fn rest(overlay: &Overlay, store: &Store) -> Result<(), CommitError> {
    for node in overlay.changed_files() {
        overlay.store_file(node, &|file| put(store, None, file))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{QUIET, Queue};
    use std::time::Instant;

    #[test]
    fn the_queue_is_bounded_and_knows_a_file_once() {
        let mut queue = Queue::new(3);
        let start = Instant::now();
        for node in 0..10 {
            queue.add((0, node), start);
        }
        // One that is known counts as closed now, however full it is.
        queue.add((0, 1), start + QUIET / 2);
        let mut due = queue.due(start + QUIET);
        due.sort_unstable();
        assert_eq!(due, [(0, 0), (0, 2)]);
        assert_eq!(queue.due(start + QUIET), []);
        queue.add((0, 7), start + QUIET);
        assert_eq!(queue.due(start + QUIET * 3 / 2), [(0, 1)]);
        assert_eq!(queue.due(start + QUIET * 2), [(0, 7)]);
    }
}
