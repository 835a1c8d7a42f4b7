//! What comes from elsewhere and says itself what it is: written without a name, checked against
//! the hash that it was asked for by, and only then given its name.
//!
//! In: bytes that nobody vouches for. What must never happen here: bytes under the name of a blob or
//! a manifest that aren't what the name says, or more bytes on the disk than were announced.

use std::path::Path;

use crate::error::StoreError;
use crate::hash::Hash;
use crate::hold::Hold;
use crate::manifest::{Manifest, ManifestError};
use crate::publish::{Draft, Published};
use crate::store::{Store, blob_name, manifest_name};

/// Why what came isn't what was asked for, or can't be kept.
#[derive(Debug, thiserror::Error)]
pub enum IncomingError {
    /// It ended early, or went on after its end.
    #[error("it has {found} bytes instead of {expected}")]
    Length {
        /// Bytes announced.
        expected: u64,
        /// Bytes that came; where there are too many, as many as were taken.
        found: u64,
    },
    /// Its content has another hash.
    #[error("its content has another hash: {found}")]
    Hash {
        /// The content's hash; a manifest's id.
        found: Hash,
    },
    /// It is no manifest, or one that contradicts itself.
    #[error(transparent)]
    Manifest(ManifestError),
    /// The store can't take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A blob or a manifest on its way into the store. Dropped, it never was.
pub struct Incoming<'s> {
    store: &'s Store,
    draft: Draft<'s>,
    hasher: blake3::Hasher,
    len: u64,
    expected: u64,
}

impl Store {
    /// Begins to take in a file of `len` bytes.
    ///
    /// # Errors
    /// The store can't be written.
    pub fn incoming(&self, len: u64) -> Result<Incoming<'_>, StoreError> {
        let (draft, hasher) = (Draft::new(self)?, blake3::Hasher::new());
        Ok(Incoming { store: self, draft, hasher, len: 0, expected: len })
    }
}

impl<'s> Incoming<'s> {
    /// Appends bytes.
    ///
    /// # Errors
    /// There are more than announced, or they can't be written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), IncomingError> {
        let found = self.len.saturating_add(bytes.len() as u64);
        if found > self.expected {
            return Err(IncomingError::Length { expected: self.expected, found });
        }
        self.draft.write(bytes)?;
        self.hasher.update(bytes);
        self.len = found;
        Ok(())
    }

    /// Makes it the blob `hash`, if it is, and says whether that was new. Not durable before
    /// [`Store::sync`].
    ///
    /// # Errors
    /// It isn't, or can't be published.
    pub fn into_blob(self, hash: &Hash) -> Result<bool, IncomingError> {
        self.check_blob(hash)?;
        let published = self.draft.publish_or_repair(&blob_name(hash), self.len)?;
        Ok(published == Published::New)
    }

    /// As [`Incoming::into_blob`], in the place of a blob that is there and damaged.
    ///
    /// # Errors
    /// It isn't that blob, or can't be published; the damaged one is left as it was.
    pub fn into_blob_again(self, hash: &Hash) -> Result<(), IncomingError> {
        self.check_blob(hash)?;
        self.store.make_blob_dir(hash)?;
        Ok(self.draft.replace(&blob_name(hash))?)
    }

    fn check_blob(&self, hash: &Hash) -> Result<(), IncomingError> {
        self.check_length()?;
        let found = Hash::from(self.hasher.finalize());
        if found == *hash { Ok(()) } else { Err(IncomingError::Hash { found }) }
    }

    fn check_length(&self) -> Result<(), IncomingError> {
        if self.len == self.expected {
            return Ok(());
        }
        Err(IncomingError::Length { expected: self.expected, found: self.len })
    }

    /// Takes it for the manifest `id`, if it is and everything in it fits together.
    ///
    /// # Errors
    /// It isn't, or it contradicts itself.
    pub fn into_manifest(self, id: &Hash) -> Result<IncomingManifest<'s>, IncomingError> {
        self.check_length()?;
        let path = Path::new("manifests").join(id.to_string());
        let file = self.draft.file().try_clone();
        let file = file.map_err(StoreError::io("read", self.store.root().join(&path)))?;
        let manifest = Manifest::from_file(&path, file).map_err(IncomingError::Manifest)?;
        manifest.check().map_err(IncomingError::Manifest)?;
        if manifest.id() != *id {
            return Err(IncomingError::Hash { found: manifest.id() });
        }
        Ok(IncomingManifest { store: self.store, draft: self.draft, manifest })
    }
}

/// A whole manifest that the store doesn't have yet, as its blobs come first.
pub struct IncomingManifest<'s> {
    store: &'s Store,
    draft: Draft<'s>,
    manifest: Manifest,
}

impl IncomingManifest<'_> {
    /// To be read.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Makes it one of the store's, durably, in the place of a damaged one if need be, and opens it: as
    /// long as it is open no collection removes it. What it names was looked for under the same hold.
    ///
    /// # Errors
    /// It can't be published.
    pub fn publish(self, _hold: &Hold) -> Result<Manifest, StoreError> {
        let id = self.manifest.id();
        self.draft.sync()?;
        self.draft.replace(&manifest_name(&id))?;
        self.store.sync_dir("manifests")?;
        self.store.manifest(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Entry, ManifestBuilder};

    fn store() -> (tempfile::TempDir, Store) {
        let temp = tempfile::tempdir().expect("tempdir");
        let store = Store::open_or_create(&temp.path().join("s")).expect("store");
        (temp, store)
    }

    fn files(store: &Store) -> usize {
        let list = |dir: &str| store.list(dir).expect("list");
        let dirs = list("blobs").into_iter();
        let blobs =
            dirs.map(|(dir, _)| list(&format!("blobs/{}", String::from_utf8_lossy(&dir))).len());
        blobs.sum::<usize>() + list("manifests").len() + list("tmp").len()
    }

    #[test]
    fn only_what_was_asked_for_gets_its_name() {
        let (_temp, store) = store();
        let hash = Hash::of(b"hello");
        let take = |bytes: &[u8], len| {
            let mut incoming = store.incoming(len).expect("draft");
            bytes.chunks(2).try_for_each(|part| incoming.write(part))?;
            incoming.into_blob(&hash)
        };
        assert!(matches!(take(b"hellO", 5), Err(IncomingError::Hash { .. })));
        assert!(matches!(take(b"hell", 5), Err(IncomingError::Length { expected: 5, found: 4 })));
        assert!(matches!(take(b"hello, you", 5), Err(IncomingError::Length { .. })));
        assert_eq!(files(&store), 0);
        assert!(take(b"hello", 5).expect("the blob"));
        assert!(!take(b"hello", 5).expect("the blob again"));
        assert_eq!(files(&store), 1);
    }

    #[test]
    fn a_damaged_blob_is_replaced() {
        let (_temp, store) = store();
        let hash = Hash::of(b"hello");
        let path = store.root().join(Store::blob_path(&hash));
        for there in [false, true] {
            if there {
                std::fs::remove_file(&path).expect("remove");
                std::fs::write(&path, b"hellO").expect("damage");
            }
            let mut incoming = store.incoming(5).expect("draft");
            incoming.write(b"hello").expect("write");
            incoming.into_blob_again(&hash).expect("in its place");
            assert_eq!(std::fs::read(&path).expect("read"), b"hello");
        }
        assert_eq!(files(&store), 1);
    }

    #[test]
    fn a_manifest_is_whole_before_it_is_there() {
        let (_temp, store) = store();
        let mut builder = ManifestBuilder::new(Entry::directory(0o755, (1, 0))).expect("root");
        builder.add(0, b"sub", Entry::directory(0o700, (1, 0))).expect("add");
        let (bytes, id) = builder.finish().expect("a manifest");
        let take = |bytes: &[u8], id: &Hash| {
            let mut incoming = store.incoming(bytes.len() as u64).expect("draft");
            incoming.write(bytes)?;
            incoming.into_manifest(id)
        };
        for at in [0, 20, 224, 256, bytes.len() - 1] {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(take(&bad, &id).is_err(), "byte {at}");
            assert!(take(&bytes[..at], &id).is_err(), "{at} bytes");
        }
        assert!(matches!(take(&bytes, &Hash::of(b"x")), Err(IncomingError::Hash { .. })));
        assert_eq!(files(&store), 0);
        let incoming = take(&bytes, &id).expect("the manifest");
        assert_eq!((incoming.manifest().len(), files(&store)), (2, 0));
        incoming.publish(&store.hold().expect("hold")).expect("publish");
        assert_eq!(store.manifest(&id).expect("there").len(), 2);
    }
}
