//! The harness of the end-to-end tests: what every test needs and no test should repeat.
//!
//! A test makes a [`World`] (a directory of its own with a store in it), ingests trees, and
//! runs commands natively or under `vrift-trace` as [`Job`]s, which end in bounded time or
//! fail with a picture of what hung. When a world is dropped it checks what must hold after
//! every test: each blob hashes to its name, has mode 0444 and the inode metadata it had when
//! it was ingested, no process of the test is alive, and no job directory is left.
//!
//! What must never happen here: a test that passes because what it needs is missing. Such a
//! test says [`skip!`], which counts it by name; continuous integration allows none.
//!
//! Environment:
//! - `VRIFT_BIN_DIR`: where `vrift` and `vrift-trace` are; without it they are built by cargo.
//! - `VRIFT_FIXTURES`: where the guest programs' sources are (default: `fixtures/` beside this crate).
//! - `VRIFT_TEST_CACHE`: where compiled guests and downloaded sources are kept.
//! - `VRIFT_TEST_CC`: the compiler that guests are built with instead of `cc`.
//! - `VRIFT_TEST_PATIENCE`: by how much every time limit is multiplied, for slow machines.
//! - `VRIFT_SKIPPED`: a file to which the names of skipped tests are appended.
#![forbid(unsafe_code)]

pub mod binaries;
pub mod builds;
pub mod containers;
pub mod guests;
pub mod hang;
pub mod in_place;
pub mod job;
pub mod lazily;
pub mod oracle;
pub mod podman;
pub mod ruled;
pub mod schema;
pub mod shared;
pub mod skip;
pub mod store_guard;
pub mod terminal;
pub mod traces;
pub mod tree;
pub mod view;
pub mod world;

pub use guests::{Guest, guest};
pub use job::{Job, Outcome};
pub use world::World;
