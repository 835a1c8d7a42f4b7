//! Ingest by who may only read the store: the source is read here, with the rights of whoever wants
//! it stored, and what the store lacks is handed to somebody who may write there (its daemon).
//!
//! What must never happen here: the other side has to read a file of ours, for it might be one that
//! we may not read and it may.

use std::io::Read;
use std::path::Path;

use super::exclude::Exclude;
use super::put::Target;
use super::walk::Walk;
use super::{IngestError, IngestOptions, Ingested, Progress, Tree, build, threads};
use crate::error::StoreError;
use crate::hash::Hash;
use crate::store::Store;

/// How often a tree is gone through before it is given up, when blobs of it are collected as fast as
/// they are stored.
const TRIES: u32 = 5;

/// Who stores for us.
pub trait Outlet: Sync {
    /// Stores `size` bytes of `content` as the blob `hash`, and says whether it was new; None when
    /// they weren't what they were said to be, for the file changed meanwhile.
    ///
    /// # Errors
    /// It can't be stored, and nothing else can either.
    fn blob(
        &self,
        hash: &Hash,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<Option<bool>, StoreError>;

    /// Publishes a manifest; false when some of its blobs are missing, since a collection took them.
    ///
    /// # Errors
    /// It can't be published.
    fn tree(&self, bytes: &[u8], id: &Hash) -> Result<bool, StoreError>;
}

impl Store {
    /// As [`Store::ingest`], but everything that the store lacks goes through `outlet`. Whether that
    /// names the tree by a ref is its own business.
    ///
    /// # Errors
    /// As [`Store::ingest`].
    pub fn ingest_through(
        &self,
        outlet: &dyn Outlet,
        dir: &Path,
        options: &IngestOptions,
        progress: &Progress,
    ) -> Result<Ingested, IngestError> {
        self.refuse_own_parts(dir)?;
        let pool = threads(options)?;
        let (mut new_blobs, mut new_bytes) = (0, 0);
        for _ in 0..TRIES {
            let exclude = Exclude::new(&options.exclude)?;
            let to = Target { store: self, outlet: Some(outlet) };
            let mut found = Walk::new(to, dir, exclude, progress)?.run(&pool)?;
            new_blobs += found.new_blobs;
            new_bytes += found.new_bytes;
            let (bytes, id) = build(&mut found).map_err(StoreError::from)?;
            if outlet.tree(&bytes, &id)? {
                let tree = Tree::new(bytes, id, found);
                return Ok(Tree { new_blobs, new_bytes, ..tree }.ingested(&self.manifest(&id)?));
            }
        }
        Err(StoreError::Vanishing { root: self.root().to_owned() }.into())
    }
}
