//! The shim's core: what becomes of a call that names or changes files, decided inside of the
//! process that makes it.
//!
//! A path and what is wanted of it flow in, a [`Verdict`] flows out; the few things that have to be
//! asked of the system go through [`Sys`]. The mounts, the look-ups and the decision table are the
//! same as on Linux (`vrift-projection`, `vrift-policy`). A library that takes the place of libc's
//! functions is a table of entry points ([`symbols`]) over this.
//!
//! It runs in any function of any program: in a signal handler, between fork and exec, before
//! libSystem is ready, with libc's locks held. So nothing here may allocate, lock, or use a
//! thread-local: paths are made in buffers on the stack, and what is remembered is in a fixed number
//! of atomics. `core` alone is named; a test counts allocations. (Only the message of a damaged
//! manifest allocates. The process is then told EIO.)
//!
//! What must never happen here: a call that changes something let through to a blob, to the store or
//! to the job's private directory.

#![deny(clippy::std_instead_of_core, clippy::std_instead_of_alloc)]

mod answer;
mod buffer;
mod carry;
mod descriptors;
mod dirents;
mod open_flags;
mod places;
mod platform;
mod real;
mod resolve;
pub mod symbols;
mod transfer;
mod verdict;
mod walk;

pub use answer::{Listing, Shim};
pub use buffer::{CAPACITY, PathBuffer};
pub use carry::Real;
pub use descriptors::DESCRIPTORS;
pub use dirents::Form;
pub use open_flags::{Request, darwin, linux};
pub use places::Places;
pub use platform::{DARWIN, Difference, LINUX, Platform, darwin_number, of_darwin};
pub use real::{Base, Identity, Sys, kind};
pub use transfer::Moved;
pub use verdict::{Look, Verdict};
