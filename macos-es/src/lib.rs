//! macOS: the shim and the Endpoint Security client, over the same policy and projection as on
//! Linux. The part that knows no system is here, and tested on Linux; docs/MACOS.md says what is
//! proven of it, and how. Nothing of this has run on a Mac.

#![forbid(unsafe_code)]

pub mod environment;
pub mod es;
pub mod job;
pub mod program;
pub mod shim;
