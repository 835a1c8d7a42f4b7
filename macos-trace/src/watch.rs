//! The thread that is Endpoint Security's client: it begins before the command does, answers what is
//! asked, and writes the trace.

use crate::machine::Machine;
use crate::record::Trace;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Sender;
use vrift_macos_es::es::adapter::{Endpoint, EndpointError};
use vrift_macos_es::es::client::{Client, Tally};
use vrift_macos_es::es::decide::Guard;
use vrift_macos_es::es::mute::plan;
use vrift_macos_es::es::record::Recorder;
use vrift_macos_es::es::tree::ProcessTree;

/// What is watched, and how.
#[derive(Debug)]
pub struct Watched<'j> {
    /// What may happen.
    pub guard: &'j Guard,
    /// The mount points.
    pub mounts: Vec<PathBuf>,
    /// The system's version.
    pub macos: (u16, u16),
    /// The job's first process, which waits.
    pub pid: i32,
    /// Set when the command has ended.
    pub stop: Arc<AtomicBool>,
}

/// What came of it.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Messages.
    pub tally: Tally,
    /// Events that were lost.
    pub lost: u64,
    /// Processes of the job.
    pub processes: u32,
    /// The trace is not all that happened.
    pub incomplete: bool,
}

/// Begins, says so, and goes on until the command has ended and all that was told is dealt with.
pub fn watch<M: Machine>(
    machine: &M,
    watched: Watched<'_>,
    trace: Option<&mut Trace>,
    begun: &Sender<Result<(), EndpointError>>,
) -> Seen {
    let Watched { guard, mounts, macos, pid, stop } = watched;
    let mut endpoint = match begin(machine, guard, (trace.is_some(), macos), stop) {
        Ok(endpoint) => endpoint,
        Err(why) => {
            // Who waits for it is there until it has come.
            let _ = begun.send(Err(why));
            return Seen::default();
        }
    };
    let mut client = Client::new(guard, ProcessTree::awaiting(pid));
    let mut recorder = Recorder::new(endpoint.now(), mounts);
    let mut trace = trace;
    let _ = begun.send(Ok(()));
    while client.step(&mut endpoint, &mut recorder).is_some() {
        // An answer that was not taken is counted; the event was decided without it.
        let events = recorder.take();
        if let Some(trace) = &mut trace {
            trace.write(&events);
        }
    }
    Seen {
        tally: client.tally(),
        lost: client.gaps().lost(),
        processes: client.tree().known(),
        incomplete: !client.gaps().complete(),
    }
}

fn begin<M: Machine>(
    machine: &M,
    guard: &Guard,
    (records, macos): (bool, (u16, u16)),
    stop: Arc<AtomicBool>,
) -> Result<M::Endpoint, EndpointError> {
    let own = machine.own()?;
    let mut endpoint = machine.endpoint(stop)?;
    for plan in plan(guard, records, own, macos) {
        endpoint.begin(&plan)?;
    }
    Ok(endpoint)
}
