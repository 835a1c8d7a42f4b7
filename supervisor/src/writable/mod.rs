//! Changes in writable mounts: what a call does to the tree, on its caller's behalf.
//!
//! The tree itself, names and contents, is the projection's overlay. Here stands who may: the checks
//! of fs/namei.c and fs/attr.c with the caller's ids, in the kernel's order, and what a new file
//! belongs to. Where a real file is changed, the kernel makes the check, as the caller.

pub mod attributes;
pub mod end;
pub mod files;
pub mod identity;
pub mod ingest;
pub mod names;
pub mod sockets;
pub mod through;
mod times;
