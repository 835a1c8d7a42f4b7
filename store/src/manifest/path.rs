//! From a path to a node and back, for programs that show manifests. Symbolic links are not
//! followed here: that is the projection's business.

use super::{Manifest, ManifestError, NodeId, ROOT};

impl Manifest {
    /// The node at `path`, taken from the root; empty components and `.` are skipped. None when
    /// there is none, also where the path leads through a symbolic link or to `..`.
    ///
    /// # Errors
    /// A part of the manifest that had to be read is damaged.
    pub fn find(&self, path: &[u8]) -> Result<Option<NodeId>, ManifestError> {
        let mut at = ROOT;
        for name in path.split(|&c| c == b'/').filter(|name| !matches!(*name, b"" | b".")) {
            match self.child(at, name)? {
                Some(id) => at = id,
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    /// The node's path from the root, without a slash in front; empty for the root.
    ///
    /// # Errors
    /// A part of the manifest that had to be read is damaged.
    pub fn path_of(&self, id: NodeId) -> Result<Vec<u8>, ManifestError> {
        let mut names = Vec::new();
        let mut node = self.node(id)?;
        // `node` has checked that a parent's id is lower, so this ends.
        while node.id != ROOT {
            names.push(node.name);
            node = self.node(node.parent)?;
        }
        names.reverse();
        Ok(names.join(&b'/'))
    }
}
