//! What becomes of a call.

use vrift_projection::NodeRef;

/// What the entry point has to do. A path that it needs is in the buffer that it handed over.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Make the original call as it came. If [`Look::Quick`] was asked and the call ends in ENOENT
    /// or ENOTDIR, ask again with [`Look::Thorough`]: a real link may lead into a mount.
    Pass,
    /// Make the original call with this absolute path: the system would not find it from the
    /// caller's, which led through a mount.
    PassAt,
    /// Open this path, the blob's, for reading and with the flags that are left of the caller's, and
    /// say `opened`.
    Blob(NodeRef),
    /// As `Blob`, of the empty real directory that stands for a projected one. Make it first, with
    /// mode 0555, if it is not there.
    Directory(NodeRef),
    /// Run, load or open this path: a real clone of the file, which has to be made first if it is
    /// not there.
    Clone(NodeRef),
    /// Answer from the projection.
    Answer(NodeRef),
}

/// How much is done to find out where a real path leads.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// A path that by its text is under no mount is taken at its word.
    Quick,
    /// Every component is looked at.
    Thorough,
}
