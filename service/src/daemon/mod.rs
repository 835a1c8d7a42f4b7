//! The store's daemon: does for other users what takes the right to write to the store.
//!
//! What is spoken, and the other side, is `vrift-client`. `home` is the daemon's directory in the store,
//! `rights` who may what. `server` lets clients in, `session` is one of them, `work`, `upload` and
//! `remotes` do what it asks for. `unit` writes what starts a daemon at boot.
//!
//! The daemon keeps nothing that isn't in the store: killed at any moment it leaves what a killed
//! `vrift` leaves, and the next one begins as if it were the first. Jobs need none.
//!
//! What must never happen here: a file is opened because a client named it (the daemon may read more
//! than the client), a client gets something done that it may not, or one that stalls keeps others
//! from being served.

mod counters;
mod home;
mod remotes;
mod rights;
mod server;
mod session;
mod sys;
mod talk;
pub mod unit;
mod upload;
mod work;

pub use rights::Rights;
pub use server::{Settings, log, run};
