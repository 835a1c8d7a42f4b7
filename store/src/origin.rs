//! Where the missing blobs of a tree come from: `origins/MANIFEST` holds the remote that the tree was
//! pulled from without them, as it was named, and the manifest that the remote knows them by, each with
//! a newline. That is another one for a tree that was made here on top of what was pulled.

use std::io::{self, Read};

use rustix::fs::{self, AtFlags};
use rustix::io::Errno;

use crate::error::StoreError;
use crate::hash::Hash;
use crate::publish::Draft;
use crate::store::Store;

/// Longest note, in bytes: a path, a scheme, a hash.
const LONGEST: u64 = 8192;

/// Where the blobs of a tree are that aren't here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The remote, as it was named.
    pub place: Vec<u8>,
    /// The tree there.
    pub tree: Hash,
}

fn name(manifest: &Hash) -> String {
    format!("origins/{manifest}")
}

impl Store {
    /// What has the blobs of `manifest` that aren't here; None when all should be here.
    ///
    /// # Errors
    /// The note can't be read.
    pub fn origin(&self, manifest: &Hash) -> Result<Option<Origin>, StoreError> {
        let name = name(manifest);
        let Some(file) = self.open_file(&name)? else { return Ok(None) };
        let mut note = Vec::new();
        let failed = |error: io::Error| StoreError::io("read", self.root().join(&name))(error);
        file.take(LONGEST + 1).read_to_end(&mut note).map_err(failed)?;
        // It was published whole, so without its end it isn't ours.
        let parts = note.strip_suffix(b"\n").and_then(|note| {
            let end = note.iter().rposition(|&b| b == b'\n')?;
            Some((note.get(..end)?, std::str::from_utf8(note.get(end + 1..)?).ok()?))
        });
        Ok(parts.and_then(|(place, tree)| {
            Some(Origin { place: place.to_vec(), tree: tree.parse().ok()? })
        }))
    }

    /// Notes, durably, that `origin` has the blobs of `manifest`, whatever was noted before.
    ///
    /// # Errors
    /// The note can't be written.
    pub fn set_origin(&self, manifest: &Hash, origin: &Origin) -> Result<(), StoreError> {
        self.make_dir("origins")?;
        let mut draft = Draft::new(self)?;
        draft.write(&origin.place)?;
        draft.write(format!("\n{}\n", origin.tree).as_bytes())?;
        draft.sync()?;
        draft.replace(&name(manifest))?;
        self.sync_dir("origins")
    }

    /// All blobs of `manifest` are here. Nothing to do where nothing was noted.
    ///
    /// # Errors
    /// The note can't be removed.
    pub fn forget_origin(&self, manifest: &Hash) -> Result<(), StoreError> {
        let name = name(manifest);
        match fs::unlinkat(self.root_fd(), &name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(StoreError::io("remove", self.root().join(name))(errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_noted_and_forgotten() {
        let temp = tempfile::tempdir().expect("tempdir");
        let store = Store::open_or_create(&temp.path().join("s")).expect("store");
        let tree = Hash::of(b"tree");
        assert_eq!(store.origin(&tree).expect("read"), None);
        store.forget_origin(&tree).expect("nothing to do");
        for place in [&b"s3://bucket/x"[..], b"/with\xff/bytes", b"/with\na newline"] {
            let origin = Origin { place: place.to_vec(), tree: Hash::of(b"another") };
            store.set_origin(&tree, &origin).expect("set");
            assert_eq!(store.origin(&tree).expect("read"), Some(origin));
        }
        store.forget_origin(&tree).expect("remove");
        assert_eq!(store.origin(&tree).expect("read"), None);
    }
}
