//! What a trace is made of, whichever system it was recorded on: the Linux supervisor's and the macOS
//! client's are the same lines, and read by the same reports. docs/TRACE.md has their meaning.

#![forbid(unsafe_code)]

pub mod event;
pub mod reader;
mod text;

pub use text::{Text, printable};
