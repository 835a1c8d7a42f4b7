//! Where the missing blobs of a tree come from: `origins/MANIFEST` holds the remote that the tree was
//! pulled from without them, as it was named, and a newline.

use std::io::{self, Read};

use rustix::fs::{self, AtFlags};
use rustix::io::Errno;

use crate::error::StoreError;
use crate::hash::Hash;
use crate::publish::Draft;
use crate::store::Store;

/// Longest name of a remote, in bytes; that of a path, and a scheme.
const LONGEST: u64 = 8192;

fn name(manifest: &Hash) -> String {
    format!("origins/{manifest}")
}

impl Store {
    /// The remote that has the blobs of `manifest` that aren't here; None when all should be here.
    ///
    /// # Errors
    /// The note can't be read.
    pub fn origin(&self, manifest: &Hash) -> Result<Option<Vec<u8>>, StoreError> {
        let name = name(manifest);
        let Some(file) = self.open_file(&name)? else { return Ok(None) };
        let mut place = Vec::new();
        let failed = |error: io::Error| StoreError::io("read", self.root().join(&name))(error);
        file.take(LONGEST + 1).read_to_end(&mut place).map_err(failed)?;
        // It was published whole, so without its end it isn't ours.
        Ok(place.strip_suffix(b"\n").map(<[u8]>::to_vec))
    }

    /// Notes, durably, that `place` has the blobs of `manifest`, whatever was noted before.
    ///
    /// # Errors
    /// The note can't be written.
    pub fn set_origin(&self, manifest: &Hash, place: &[u8]) -> Result<(), StoreError> {
        self.make_dir("origins")?;
        let mut draft = Draft::new(self)?;
        draft.write(place)?;
        draft.write(b"\n")?;
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
        for place in [&b"s3://bucket/x"[..], b"/with\xff/bytes"] {
            store.set_origin(&tree, place).expect("set");
            assert_eq!(store.origin(&tree).expect("read").as_deref(), Some(place));
        }
        store.forget_origin(&tree).expect("remove");
        assert_eq!(store.origin(&tree).expect("read"), None);
    }
}
