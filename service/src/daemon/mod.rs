//! The store's daemon: does for other users what takes the right to write to the store.
//!
//! `place` knows where in a store its lock and its socket are, `codec` and `message` what is spoken
//! there, `rights` who may what. `server` lets clients in, `session` is one of them, `work` and
//! `upload` do what it asks for. `client` is the other side, `outlet` an ingest through it. `unit`
//! writes what starts a daemon at boot.
//!
//! The daemon keeps nothing that isn't in the store: killed at any moment it leaves what a killed
//! `vrift` leaves, and the next one begins as if it were the first. Jobs need none.
//!
//! What must never happen here: a file is opened because a client named it (the daemon may read more
//! than the client), a client gets something done that it may not, or one that stalls keeps others
//! from being served.

mod client;
mod codec;
mod counters;
mod error;
mod message;
mod outlet;
mod place;
mod rights;
mod server;
mod session;
mod sys;
mod talk;
pub mod unit;
mod upload;
mod work;

pub use client::{Client, Running};
pub use error::DaemonError;
pub use message::{Bytes, PROTOCOL, Reply, Request, Status, VERSION};
pub use outlet::Upload;
pub use rights::Rights;
pub use server::{Settings, log, run};
