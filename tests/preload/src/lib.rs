//! The macOS shim's core under libc's names: an `LD_PRELOAD` library for tests, so that real programs
//! can be run over the core on Linux. It is never shipped.
//!
//! What it takes the place of is what `cat`, `ls`, `python3` and `gcc` call; what libc calls inside
//! of itself does not arrive here, as it does on macOS, so fopen and opendir have entry points of
//! their own. The job is told by three variables: `VRIFT_PRELOAD_STORE`, `VRIFT_PRELOAD_PRIVATE`, and
//! `VRIFT_PRELOAD_MOUNTS`, `MANIFEST=AT` separated by colons.

#![allow(
    clippy::missing_safety_doc,
    reason = "the contract of each entry point is that of the libc function of its name"
)]

mod sys;
