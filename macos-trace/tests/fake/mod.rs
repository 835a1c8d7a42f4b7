//! A machine that is made up: its facts are said, and its Endpoint Security tells what a test wants.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use vrift_macos_es::es::adapter::{Endpoint, EndpointError, Message};
use vrift_macos_es::es::decide::Reply;
use vrift_macos_es::es::event::{EsEvent, ProcessKey};
use vrift_macos_es::es::mute::Plan;
use vrift_macos_es::shim::symbols::Arch;
use vrift_macos_trace::machine::{Facts, Machine};
use vrift_store::{IngestOptions, Progress, Store};

/// How long anything may take.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Makes the events that are told of a first process.
pub type Events = fn(i32, &Path) -> Vec<EsEvent>;

/// The machine, and a directory with a store.
pub struct Fake {
    pub dir: tempfile::TempDir,
    pub facts: Facts,
    /// What is told once the command has written its pid to `pid`.
    pub events: Option<Events>,
    /// The client can't begin, whatever the facts said.
    pub fails: bool,
    pub answers: Arc<Mutex<Vec<(String, Reply)>>>,
}

impl Fake {
    /// A machine with everything; the store has the tree `deps`, with the file `a.h`.
    pub fn new() -> Fake {
        let dir = tempfile::tempdir().expect("a directory");
        let tree = dir.path().join("tree");
        std::fs::create_dir(&tree).expect("made");
        std::fs::write(tree.join("a.h"), "one\n").expect("written");
        let store = Store::open_or_create(&dir.path().join("store")).expect("a store");
        let done = store.ingest(&tree, &IngestOptions::default(), &Progress::default());
        let manifest = done.expect("ingested").manifest;
        store.set_ref("deps", &manifest).expect("a ref");
        let facts = Facts {
            macos: (14, 5),
            arch: Arch::Arm64,
            translated: false,
            sip: Some(true),
            endpoint: Ok(()),
            library: Ok("/lib/libvrift_shim.dylib".into()),
            starter: Ok(env!("CARGO_BIN_EXE_vrift-start").into()),
            inside: false,
        };
        Fake { dir, facts, events: None, fails: false, answers: Arc::default() }
    }

    /// The same without Endpoint Security.
    pub fn alone() -> Fake {
        let mut fake = Fake::new();
        fake.facts.endpoint = Err(EndpointError::NotEntitled);
        fake
    }

    /// A path in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().expect("it is there").join(name)
    }

    /// `vrift-trace` with the store and these arguments; `@` in one is the directory.
    pub fn run(&self, arguments: &[&str]) -> Result<u8, String> {
        let here = self.path("").display().to_string();
        let own = |text: &str| OsString::from(text.replace('@', here.trim_end_matches('/')));
        let store = self.path("store").into_os_string();
        let options = [OsString::from("-q"), "--store".into(), store];
        // A subcommand takes none of them.
        let options = if arguments.contains(&"--") { &options[..] } else { &[] };
        let rest = arguments.iter().map(|text| own(text));
        let all =
            [OsString::from("vrift-trace")].into_iter().chain(options.iter().cloned()).chain(rest);
        vrift_macos_trace::cli::status(self, all)
    }

    /// What a command of the job wrote there.
    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).expect(name)
    }
}

impl Machine for Fake {
    type Endpoint = Mock;

    fn facts(&self) -> Facts {
        self.facts.clone()
    }

    fn own(&self) -> Result<ProcessKey, EndpointError> {
        Ok(ProcessKey { pid: 1, version: 1 })
    }

    fn endpoint(&self, stop: Arc<AtomicBool>) -> Result<Mock, EndpointError> {
        if self.fails {
            return Err(EndpointError::TooMany);
        }
        Ok(Mock {
            stop,
            dir: self.path(""),
            events: self.events,
            queue: Vec::new(),
            answers: Arc::clone(&self.answers),
            plans: 0,
        })
    }
}

/// Its Endpoint Security.
pub struct Mock {
    stop: Arc<AtomicBool>,
    dir: PathBuf,
    events: Option<Events>,
    queue: Vec<EsEvent>,
    answers: Arc<Mutex<Vec<(String, Reply)>>>,
    plans: usize,
}

pub struct Told {
    event: EsEvent,
    answers: Arc<Mutex<Vec<(String, Reply)>>>,
}

impl Endpoint for Mock {
    type Message = Told;

    fn begin(&mut self, plan: &Plan) -> Result<(), EndpointError> {
        assert!(!plan.subscribe.is_empty());
        // Nothing has run yet.
        assert!(!self.dir.join("pid").exists());
        self.plans += 1;
        Ok(())
    }

    fn next(&mut self) -> Option<Told> {
        assert!(self.plans > 0);
        let began = Instant::now();
        loop {
            if let Some(events) = self.events
                && let Ok(text) = std::fs::read_to_string(self.dir.join("pid"))
                && let Ok(pid) = text.trim().parse()
            {
                self.queue = events(pid, &self.dir);
                self.queue.reverse();
                self.events = None;
            }
            if let Some(event) = self.queue.pop() {
                return Some(Told { event, answers: Arc::clone(&self.answers) });
            }
            if self.stop.load(Ordering::Acquire) && self.events.is_none() {
                return None;
            }
            assert!(began.elapsed() < LIMIT, "nobody ended it");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn now(&self) -> u64 {
        1_000
    }
}

impl Message for Told {
    fn event(&self) -> &EsEvent {
        &self.event
    }

    fn answer(self, reply: Reply, keep: bool) -> Result<(), EndpointError> {
        assert!(!keep);
        self.answers.lock().expect("the answers").push((self.event.name.clone(), reply));
        Ok(())
    }
}
