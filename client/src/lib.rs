//! How the daemon of a store is asked, without a runtime: for `vrift`, and for `vrift-trace`, which has to
//! fork with one thread.
//!
//! `place` knows where in a store the daemon is found, `codec` and `message` what is spoken there.
//! `client` is a connection, `outlet` an ingest through it. What must never happen here: a wait without
//! an end, or something told to somebody else than the store's owner.

pub mod client;
pub mod codec;
mod error;
pub mod message;
pub mod outlet;
pub mod place;

pub use client::{Client, Running};
pub use error::DaemonError;
pub use message::{Bytes, PROTOCOL, Pulled, RefIs, Reply, Request, Status, VERSION};
pub use outlet::Upload;
