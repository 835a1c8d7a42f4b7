//! How manifests look as one file tree: mounts, look-up, attributes, directory listings.
//!
//! Manifests and mount points flow in; nodes, attributes and entries flow out, by path bytes and
//! [`NodeRef`]s. Nothing here does I/O of its own (a manifest is mapped memory, and what the real
//! disk holds is asked of the caller, once, when a [`Projection`] is made), and nothing here knows
//! of system calls, processes or file descriptors.
//!
//! What must never happen here: a path under a mount point answered from the real disk, a name
//! shown by a listing that a look-up doesn't find or the other way round, or an answer made up
//! where a manifest is damaged.

#![forbid(unsafe_code)]

mod error;
mod identity;
mod layout;
mod listing;
mod node;
mod projection;
pub mod walk;

pub use error::ProjectionError;
pub use identity::{FIRST_MINOR, SYNTHETIC_MINOR};
pub use layout::{EdgeEntry, Mount, MountSource, RealKind};
pub use listing::{Entries, Entry};
pub use node::{Above, Attr, MountIndex, NodeRef, SYNTHETIC};
pub use projection::Projection;
pub use vrift_policy::Mode;
pub use vrift_store::{Hash, Manifest, ManifestError, NodeKind};
