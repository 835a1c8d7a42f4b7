//! What exists: blobs named by their BLAKE3 hash, manifests that describe trees of them, and refs
//! that name manifests.
//!
//! Nothing here knows of system calls that are supervised, of jobs or of mounts. What must never
//! happen anywhere in this crate: a file of the user that was ingested changes in any way, a blob
//! or a manifest is written a second time, or bytes that fail their checksum are handed out.

pub mod asking;
pub mod collect;
mod content;
pub mod diff;
pub mod error;
pub mod export;
pub mod hash;
mod hold;
mod incoming;
pub mod ingest;
pub mod json;
pub mod manifest;
mod origin;
mod platform;
pub mod protect;
mod publish;
mod quarantine;
mod refs;
mod stats;
mod store;
pub mod text;
pub mod uppers;
mod verify;
mod whole;

pub use error::StoreError;
pub use export::{ExportError, Exported, LinkMode};
pub use hash::{Hash, HashParseError};
pub use hold::Hold;
pub use incoming::{Incoming, IncomingError, IncomingManifest};
pub use ingest::{IngestError, IngestOptions, Ingested, Progress, PutError, PutFile};
pub use manifest::{Manifest, ManifestError, Node, NodeId, NodeKind};
pub use origin::Origin;
pub use refs::{Ref, check_ref_name};
pub use stats::Stats;
pub use store::Store;
pub use verify::{Damage, Verified};
