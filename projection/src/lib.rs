//! How manifests look as one file tree: mounts, look-up, attributes, directory listings.
//!
//! Manifests and mount points flow in; nodes, attributes and entries flow out, by path bytes and
//! [`NodeRef`]s. What a job changes in a writable mount is here too, see [`overlay`]: that alone does
//! I/O of its own, in its upper directory. (A manifest is mapped memory, and what the real disk
//! holds is asked of the caller, once, when a [`Projection`] is made.) Nothing here knows of system
//! calls or processes.
//!
//! What must never happen here: a path under a mount point answered from the real disk, a name
//! shown by a listing that a look-up doesn't find or the other way round, or an answer made up
//! where a manifest is damaged.

#![forbid(unsafe_code)]

mod error;
mod identity;
mod kind;
mod layout;
mod listing;
mod node;
pub mod overlay;
mod projection;
pub mod walk;

pub use error::ProjectionError;
pub use identity::{FIRST_MINOR, SYNTHETIC_MINOR};
pub use kind::Kind;
pub use layout::{EdgeEntry, Mount, MountSource, RealKind};
pub use listing::Entry;
pub use node::{Above, Attr, Holder, MountIndex, NodeRef, SYNTHETIC};
pub use overlay::Content;
pub use projection::Projection;
pub use vrift_policy::Mode;
pub use vrift_store::{Hash, Manifest, ManifestError, NodeKind};
