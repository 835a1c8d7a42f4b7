//! The trace's file: what the supervisor on Linux writes, of what Endpoint Security tells.

use crate::Complaint;
use crate::job::{Asked, Mounted};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::SystemTime;
use vrift_events::event::{Access, End, Event, Job, Mount, Rule, VERSION};

/// A trace that is being written. When a write fails it ends there, with a warning.
#[derive(Debug)]
pub struct Trace {
    out: BufWriter<File>,
    path: PathBuf,
    reads: bool,
    lines: u64,
    failed: bool,
}

impl Trace {
    /// Makes the file, with its first line.
    pub fn create(
        path: PathBuf,
        asked: &Asked,
        mounts: &[Mounted],
        macos: (u16, u16),
    ) -> Result<Trace, Complaint> {
        let told = |e: std::io::Error| format!("trace {}: {e}", path.display());
        let file = File::create(&path).map_err(told)?;
        let cwd = std::env::current_dir().map_err(|e| format!("the current directory: {e}"))?;
        let mounts = mounts.iter().map(|mount| Mount {
            at: mount.spec.at.as_os_str().as_bytes().into(),
            manifest: mount.spec.manifest.as_bytes().into(),
            hash: mount.manifest.id().to_string(),
            mode: mount.spec.mode.to_string(),
            rule: Rule::of(&mount.spec.origin),
        });
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let first = Event::Job(Job {
            version: VERSION,
            program: format!("vrift-trace {}", env!("CARGO_PKG_VERSION")),
            began: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            command: asked.command.iter().map(|word| word.as_bytes().into()).collect(),
            cwd: cwd.as_os_str().as_bytes().into(),
            name: asked.policy.job.name.clone(),
            kernel: format!("macOS {}.{}", macos.0, macos.1),
            machine: rustix::system::uname().machine().to_string_lossy().into_owned(),
            mounts: mounts.collect(),
            reads: asked.policy.trace.reads,
            // Endpoint Security tells of what succeeded.
            probes: false,
        });
        let (out, reads) = (BufWriter::with_capacity(1 << 18, file), asked.policy.trace.reads);
        let mut trace = Trace { out, path, reads, lines: 0, failed: false };
        trace.line(&first);
        Ok(trace)
    }

    /// Writes what the policy has recorded.
    pub fn write(&mut self, events: &[Event]) {
        for event in events {
            let read = |op: &vrift_events::event::Op| {
                matches!(op.access, Access::Read | Access::List) && op.refused.is_none()
            };
            match event {
                Event::Op(op) if !self.reads && read(op) => {}
                event => self.line(event),
            }
        }
    }

    /// The last line; how many there are.
    pub fn finish(&mut self, (t, status): (u64, u8), supervision_ms: u64, lost: u64) -> u64 {
        let events = self.lines;
        self.line(&Event::End(End { t, status, events, ended: 0, supervision_ms, lost }));
        if let Err(e) = self.out.flush() {
            self.ends(&e);
        }
        self.lines
    }

    fn line(&mut self, event: &Event) {
        if self.failed {
            return;
        }
        // A line is written whole or, where the disk is full, ends the trace.
        let written = serde_json::to_vec(event).map_err(Into::into).and_then(|mut line| {
            line.push(b'\n');
            self.out.write_all(&line)
        });
        match written {
            Ok(()) => self.lines += 1,
            Err(e) => self.ends(&e),
        }
    }

    fn ends(&mut self, error: &std::io::Error) {
        if !self.failed {
            eprintln!("vrift-trace: the trace {} ends here: {error}", self.path.display());
        }
        self.failed = true;
    }
}
