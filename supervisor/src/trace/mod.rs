//! The record of a job: who opened, ran, changed and looked up what.
//!
//! A receiver's call becomes a [`current`] draft, which the places that know something add to
//! (the path when it is read, the place when it is found, the answer when it is sent); what comes
//! of it is an [`event`] of `vrift-events`, which one thread writes ([`writer`]). Processes' ends come from
//! [`exits`]. `vrift-events` also reads a trace back for `report` and `explain`.

pub mod current;
mod exits;
pub mod hint;
mod look;
mod program;
mod recorder;
mod syscalls;
mod tally;
mod writer;

pub use recorder::{Mounted, Recorder, Scope, first_line, origin};
pub use tally::{Slow, Tally, title};
pub use vrift_events::{Text, event, reader};
pub use writer::{Writer, Written};
