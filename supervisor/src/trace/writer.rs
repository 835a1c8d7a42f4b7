//! Writing a trace: receivers put events in a queue, one thread writes them.
//!
//! What is queued reaches the file within some hundredths of a second, so that a killed supervisor
//! loses that much at most, and a killed job nothing. The queue is bounded: who finds it full
//! waits, as the alternative is to lose events. When a write fails (a full disk) the trace ends
//! there with a whole line and a warning, and the job goes on.

use super::event::{End, Event};
use super::tally::Tally;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// The most events that wait; some 20 MB.
const MOST: usize = 1 << 16;
/// How long events are gathered: nobody is woken for each.
const GATHER: Duration = Duration::from_millis(20);
/// How much text is gathered for one write.
const BLOCK: usize = 1 << 18;

/// Where events go.
pub struct Writer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<Written>>>,
    target: Mutex<Option<File>>,
    path: PathBuf,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// The thread waits for events, or for the time to write them.
    more: Condvar,
    /// Receivers wait for room.
    room: Condvar,
    /// Nothing is written any more.
    stopped: AtomicBool,
}

#[derive(Default)]
struct Queue {
    events: Vec<Event>,
    closed: Option<End>,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Written {
    /// Lines written.
    pub events: u64,
    /// What they say taken together.
    pub tally: Tally,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    /// Makes the file, empty.
    pub fn create(path: &Path) -> std::io::Result<Writer> {
        let file = File::create(path)?;
        Ok(Writer {
            shared: Arc::default(),
            thread: Mutex::default(),
            target: Mutex::new(Some(file)),
            path: path.to_owned(),
        })
    }

    /// Starts the thread, once. Events that came before are kept.
    pub fn start(&self) -> std::io::Result<()> {
        let Some(file) = self.target.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return Ok(());
        };
        let (shared, path) = (Arc::clone(&self.shared), self.path.clone());
        let thread = std::thread::Builder::new().name("trace".into());
        let started = thread.spawn(move || write(&shared, file, &path))?;
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(started);
        Ok(())
    }

    /// Has writing failed? Then there is no use in making events.
    pub fn stopped(&self) -> bool {
        self.shared.stopped.load(Ordering::Relaxed)
    }

    /// Queues an event; waits while the queue is full.
    pub fn put(&self, event: Event) {
        let shared = &self.shared;
        let mut queue = shared.queue();
        while queue.events.len() >= MOST && !self.stopped() {
            queue = shared.room.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        if self.stopped() {
            return;
        }
        queue.events.push(event);
        let waiting = queue.events.len();
        drop(queue);
        if waiting == 1 || waiting == MOST / 2 {
            shared.more.notify_one();
        }
    }

    /// Writes what is queued, then the end, and ends the thread. The number of lines is filled in.
    pub fn close(&self, end: End) -> Written {
        let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return Written::default();
        };
        self.shared.queue().closed = Some(end);
        self.shared.more.notify_one();
        thread.join().unwrap_or_default()
    }
}

/// The thread.
fn write(shared: &Shared, mut file: File, path: &Path) -> Written {
    let mut written = Written::default();
    let mut batch = Vec::new();
    let mut whole = 0;
    loop {
        let mut queue = shared.queue();
        while queue.events.is_empty() && queue.closed.is_none() {
            queue = shared.more.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        let gathering = |queue: &mut Queue| queue.events.len() < MOST / 2 && queue.closed.is_none();
        let gathered = shared.more.wait_timeout_while(queue, GATHER, gathering);
        queue = gathered.unwrap_or_else(PoisonError::into_inner).0;
        std::mem::swap(&mut queue.events, &mut batch);
        let end = queue.closed.take();
        drop(queue);
        shared.room.notify_all();
        let last = end.is_some();
        if let Some(end) = end {
            let events = written.events + batch.len() as u64;
            batch.push(Event::End(End { events, ..end }));
        }
        for part in batch.chunks(512) {
            let text = lines(part);
            if let Err(e) = file.write_all(&text) {
                // A line that was begun is no line.
                let _ = file.set_len(whole);
                warn(path, &e);
                shared.stopped.store(true, Ordering::Relaxed);
                shared.queue().events.clear();
                shared.room.notify_all();
                return written;
            }
            whole += text.len() as u64;
            written.events += part.len() as u64;
            part.iter().for_each(|event| written.tally.add(event));
        }
        if last {
            return written;
        }
        batch.clear();
    }
}

/// The events as lines.
fn lines(events: &[Event]) -> Vec<u8> {
    let mut text = Vec::with_capacity((events.len() * 256).min(BLOCK));
    for event in events {
        // Nothing in an event can fail to be written to memory; a line is there as a whole or not.
        let start = text.len();
        match serde_json::to_writer(&mut text, event) {
            Ok(()) => text.push(b'\n'),
            Err(_) => text.truncate(start),
        }
    }
    text
}

fn warn(path: &Path, e: &std::io::Error) {
    let file = vrift_events::printable(path.as_os_str().as_encoded_bytes());
    eprintln!("vrift-trace: {file}: {e}; the trace ends here, the job goes on");
}

#[cfg(test)]
mod tests {
    use super::super::event::{End, Exit};
    use super::*;

    fn exit(process: u32) -> Event {
        Event::Exit(Exit { t: 1, process, status: Some(0), signal: None })
    }

    fn end() -> End {
        End { t: 9, status: 0, events: 0, ended: 0, supervision_ms: 0, lost: 0 }
    }

    #[test]
    fn every_event_is_written_whoever_put_it() {
        const EACH: u32 = 40_000;
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("t");
        let writer = Writer::create(&path).expect("file");
        writer.put(exit(0));
        writer.start().expect("thread");
        std::thread::scope(|scope| {
            for from in 0..4 {
                let writer = &writer;
                scope.spawn(move || {
                    (1..=EACH).for_each(|i| writer.put(exit(from * EACH + i)));
                });
            }
        });
        let written = writer.close(end());
        assert_eq!(written.events, u64::from(4 * EACH) + 2);
        let text = std::fs::read_to_string(&path).expect("text");
        let mut seen: Vec<u32> = text
            .lines()
            .filter_map(|line| match serde_json::from_str(line).expect("a whole line") {
                Event::Exit(exit) => Some(exit.process),
                _ => None,
            })
            .collect();
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..=4 * EACH));
        assert!(text.ends_with("\"supervision_ms\":0}\n"), "the end comes last");
    }

    #[test]
    fn a_disk_that_is_full_stops_nobody() {
        let writer = Writer::create(Path::new("/dev/full")).expect("/dev/full");
        writer.start().expect("thread");
        let patience = std::time::Instant::now();
        while !writer.stopped() {
            writer.put(exit(1));
            assert!(patience.elapsed() < Duration::from_secs(20), "it must have been noticed");
        }
        for _ in 0..2 * MOST {
            writer.put(exit(2));
        }
        assert_eq!(writer.close(end()).events, 0);
    }
}
