//! The system calls that no safe wrapper offers. All `unsafe` of this crate lives below here.
//!
//! Nothing in this module decides anything: a function here is one call, its arguments typed and
//! its error an [`nix::errno::Errno`].

pub mod caught;
pub mod clone;
pub mod credentials;
pub mod lease;
pub mod mount;
#[cfg(test)]
pub mod plain;
pub mod proc;
pub mod process;
pub mod seccomp;
pub mod statfs;
pub mod trace;
