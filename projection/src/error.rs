//! Why a projection can't be made, or can't answer.

use std::path::PathBuf;

use vrift_policy::PrefixError;
use vrift_store::ManifestError;

use crate::node::NodeRef;

/// What went wrong, in one line. Making a projection fails for the user's reasons; answering from
/// one fails only when a manifest is damaged, or the caller asks for what can't be.
#[derive(Debug, thiserror::Error)]
pub enum ProjectionError {
    /// A mount point that can't be one.
    #[error(transparent)]
    MountPoint(#[from] PrefixError),
    /// Two mounts at one place.
    #[error("{at:?} is given as a mount point twice; leave one of the two out")]
    Duplicate {
        /// The mount point.
        at: PathBuf,
    },
    /// More mounts than there are numbers for.
    #[error("{count} mounts are too many; {} is the most", crate::SYNTHETIC)]
    TooMany {
        /// How many were given.
        count: usize,
    },
    /// An inner mount point lies at or below something of an outer manifest that is no directory.
    #[error(
        "can't mount at {at:?}: {place:?} is {what} of the manifest mounted at {outer:?}; choose \
         a place that is a directory there or doesn't exist"
    )]
    InsideFile {
        /// The inner mount point.
        at: PathBuf,
        /// Where the way to it ends.
        place: PathBuf,
        /// `a file` or `a symbolic link`.
        what: &'static str,
        /// The outer mount point.
        outer: PathBuf,
    },
    /// A mount point lies at or below something real that is no directory.
    #[error("can't mount at {at:?}: {place:?} {what}")]
    OnFile {
        /// The mount point.
        at: PathBuf,
        /// Where the way to it ends.
        place: PathBuf,
        /// What it is, and what to do about it.
        what: &'static str,
    },
    /// A manifest can't be read.
    #[error("the manifest mounted at {at:?}: {source}")]
    Manifest {
        /// The mount point.
        at: PathBuf,
        /// Why.
        source: ManifestError,
    },
    /// A file of the upper directory is not there, or can't be asked.
    #[error("the upper directory of the mount at {at:?}: {source}")]
    Upper {
        /// The mount point.
        at: PathBuf,
        /// What the file system said.
        source: std::io::Error,
    },
    /// Parents that lead nowhere: not to the root within as many steps as there are nodes.
    #[error(
        "the manifest mounted at {at:?} is damaged: node {node} has no way up to the root; run `vrift verify`"
    )]
    NoWayUp {
        /// The mount point.
        at: PathBuf,
        /// The node.
        node: u32,
    },
    /// A node that this projection doesn't have.
    #[error("node {} of mount {} is not part of this projection", .0.node, .0.mount)]
    UnknownNode(NodeRef),
    /// A directory was asked for, and this is none.
    #[error("node {} of mount {} is not a directory", .0.node, .0.mount)]
    NotADirectory(NodeRef),
}
