//! A daemon for as long as a test lives, and a client that says what no `vrift` would.

#![allow(dead_code, reason = "no test program needs all of it")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::common::{Place, write};

/// Nothing here takes longer, unless it hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// Waits until something holds.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < end, "not within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A daemon in the foreground; killed when it is dropped.
pub struct Daemon(Child);

impl Daemon {
    /// Of the place's store, when clients can come.
    pub fn run(place: &Place) -> Daemon {
        Self::by(place, &mut place.command(&["daemon", "run", "--idle", "0"]))
    }

    /// By this command.
    pub fn by(place: &Place, command: &mut Command) -> Daemon {
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("spawn");
        let daemon = Daemon(child);
        until("a daemon", || connect(&place.store_root()).is_some());
        daemon
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Ends it as no program can keep it from.
    pub fn kill(&mut self) {
        self.0.kill().expect("kill");
        self.0.wait().expect("wait");
    }

    /// How it ended by itself.
    pub fn wait(&mut self) -> std::process::ExitStatus {
        let mut status = None;
        until("its end", || {
            status = self.0.try_wait().expect("wait");
            status.is_some()
        });
        status.expect("it ended")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A connection to whatever listens at a store.
pub fn connect(store: &Path) -> Option<UnixStream> {
    // The socket's path may be longer than an address.
    let dir = std::fs::File::open(store.join("daemon")).ok()?;
    let dir = std::os::fd::AsRawFd::as_raw_fd(&dir);
    let stream = UnixStream::connect(format!("/proc/self/fd/{dir}/socket")).ok()?;
    stream.set_read_timeout(Some(LIMIT)).expect("a limit");
    Some(stream)
}

/// A frame of these bytes.
pub fn frame(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("short").to_le_bytes();
    [&length[..], bytes].concat()
}

/// The next frame; None at the end.
pub fn next(stream: &mut UnixStream) -> Option<Value> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut bytes = vec![0; usize::try_from(u32::from_le_bytes(length)).expect("a length")];
    stream.read_exact(&mut bytes).ok()?;
    Some(serde_json::from_slice(&bytes).expect("JSON"))
}

/// A client that was greeted.
pub struct Raw(pub UnixStream);

impl Raw {
    pub fn new(store: &Path) -> Raw {
        let mut stream = connect(store).expect("a daemon");
        let hello = json!({ "vrift": 1, "version": "0.0.0", "pid": 0, "more": [1] }).to_string();
        stream.write_all(&frame(hello.as_bytes())).expect("hello");
        let said = next(&mut stream).expect("hello");
        assert_eq!(said["vrift"], 1);
        Raw(stream)
    }

    /// Says something, and gives the answer.
    pub fn ask(&mut self, request: &Value) -> Value {
        self.0.write_all(&frame(request.to_string().as_bytes())).expect("ask");
        self.answer()
    }

    /// The next answer that isn't a sign of life.
    pub fn answer(&mut self) -> Value {
        loop {
            let said = next(&mut self.0).expect("an answer");
            if said["say"] != "waiting" && said["say"] != "working" {
                return said;
            }
        }
    }

    /// Asks for something to be stored, and sends these bytes for it.
    pub fn hand(&mut self, request: &Value, bytes: &[u8]) -> Value {
        let said = self.ask(request);
        if said["say"] != "go" {
            return said;
        }
        self.0.write_all(&frame(bytes)).expect("send");
        self.answer()
    }
}

/// A place with a store that has one tree, `t`.
pub fn place() -> Place {
    let place = Place::new();
    let dir = place.dir("source");
    write(&dir.join("a"), "content of a");
    write(&dir.join("in/b"), "content of b");
    place.ingest(&dir, "t");
    place
}

/// What a line of JSON says.
#[track_caller]
pub fn object(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// `vrift daemon status --json`
pub fn status(place: &Place) -> Value {
    object(&place.vrift(&["daemon", "status", "--json"]).fine())
}

/// Writes the daemon's configuration.
pub fn configure(place: &Place, text: &str) {
    write(&place.store_root().join("daemon/config.toml"), text);
}
