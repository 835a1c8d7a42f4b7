//! What can be wrong with a manifest, in words for whoever has to repair it.

use std::io;
use std::path::PathBuf;

use super::NodeId;

/// Why a manifest, or a part of it, can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file couldn't be opened or mapped.
    #[error("can't open manifest {}: {source}", path.display())]
    Open {
        /// The manifest's path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file is something else.
    #[error("{} is not a vrift manifest", path.display())]
    NotAManifest {
        /// The file's path.
        path: PathBuf,
    },
    /// Another program version wrote the file.
    #[error(
        "manifest {} has format version {found}, this program reads version 1: ingest the tree again with this version",
        path.display()
    )]
    Version {
        /// The manifest's path.
        path: PathBuf,
        /// The version found.
        found: u32,
    },
    /// The bytes aren't the ones that were written.
    #[error(
        "manifest {} is damaged at byte {offset}: {what}; see `vrift verify`, then ingest the tree again",
        path.display()
    )]
    Damaged {
        /// The manifest's path.
        path: PathBuf,
        /// What doesn't fit.
        what: &'static str,
        /// Offset in the file, in bytes, as near as is known.
        offset: u64,
    },
    /// The caller asked for a node that isn't there.
    #[error("no node {id} in a manifest of {len}")]
    NoSuchNode {
        /// The id asked for.
        id: NodeId,
        /// Number of nodes.
        len: u32,
    },
    /// The caller asked for an entry that isn't there.
    #[error("no entry {index} in directory {dir}, which has {count}")]
    NoSuchChild {
        /// The directory.
        dir: NodeId,
        /// The position asked for.
        index: u32,
        /// Number of entries.
        count: u32,
    },
}
