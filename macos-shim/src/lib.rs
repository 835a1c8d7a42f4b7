//! The shim: a library that dyld loads into each process of a job (`DYLD_INSERT_LIBRARIES`), and
//! whose functions are called in libSystem's place. What becomes of a call is decided by the core
//! (`vrift-macos-es`); here is only what turns its verdict into a call.
//!
//! One module for each family of the core's table (`vrift_macos_es::shim::symbols`). A test reads the
//! library and holds its pairs of functions against that table. It has never run on a Mac:
//! docs/MACOS.md says what is proven, and how.
//!
//! On any other system it is empty.

#![cfg(target_os = "macos")]
#![allow(
    clippy::missing_safety_doc,
    reason = "the contract of each entry point is that of the function of its name"
)]

mod sys;
