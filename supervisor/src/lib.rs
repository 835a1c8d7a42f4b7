//! The supervisor behind `vrift-trace`.
//!
//! The way of a call: `launch` starts the job under the `filter`; a `receiver` takes a
//! notification from the `listener`; the `caller` is asked what it wants; `resolve` finds the
//! place; the decision table of `vrift-policy` says what becomes of it; one module of `calls`
//! answers. Every call stands once in the `table`.
//!
//! Linux on x86_64 and aarch64; elsewhere it is empty, and `vrift-trace` on macOS is `macos-trace`'s.

#![cfg(target_os = "linux")]
#![deny(unsafe_code)]

mod access;
mod agent;
mod base;
mod caller;
mod calls;
pub mod cli;
mod counters;
mod features;
mod fetch;
mod filter;
mod held;
mod hints;
mod job;
mod launch;
mod learn;
mod listener;
mod locks;
mod private;
mod profile;
mod program;
mod read_only;
mod receiver;
mod report;
mod resolve;
mod rewrite;
mod stack;
mod stat_layout;
mod status;
mod summary;
#[expect(unsafe_code, reason = "the one place for it; each block says why it is sound")]
mod sys;
mod table;
mod title;
mod trace;
mod twin;
mod user_cache;
mod users;
mod view;
mod walls;
mod writable;
