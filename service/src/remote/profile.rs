//! What an earlier job read, as its trace says: what a tree that is pulled lazily had better have at
//! once.
//!
//! A content is known again by its hash. Where a file was changed since, or was read of a tree that
//! only had the same names, its path below the mount tells.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use vrift_events::event::{Access, Event, Op};
use vrift_events::reader;
use vrift_store::{Hash, Manifest, ManifestError};

use super::error::RemoteError;

/// Contents and paths.
#[derive(Debug, Default)]
pub struct Profile {
    blobs: HashSet<Hash>,
    /// Below the mounts.
    paths: BTreeSet<Vec<u8>>,
}

impl Profile {
    /// Reads a trace. One that was cut off counts as far as it goes.
    ///
    /// # Errors
    /// It is no trace, or says nothing of what was read.
    pub fn read(path: &Path) -> Result<Profile, RemoteError> {
        let trace = reader::read(path)?;
        if !trace.job.reads {
            return Err(RemoteError::NoReads(path.to_owned()));
        }
        let mounts: Vec<&[u8]> = trace.job.mounts.iter().map(|mount| mount.at.as_bytes()).collect();
        let mut profile = Profile::default();
        for event in &trace.events {
            if let Event::Op(op) = event {
                profile.add(op, &mounts);
            }
        }
        Ok(profile)
    }

    /// What a call needed the content of.
    fn add(&mut self, op: &Op, mounts: &[&[u8]]) {
        let interpreters = op.exec.iter().flat_map(|exec| &exec.interpreters);
        for interpreter in interpreters {
            let below = |mount: &&[u8]| below(interpreter.as_bytes(), mount);
            self.paths.extend(mounts.iter().find_map(below).map(<[u8]>::to_vec));
        }
        let content = matches!(op.access, Access::Read | Access::Exec | Access::Write);
        let Some(mount) = op.mount.as_ref().filter(|_| content) else { return };
        self.blobs.extend(op.blob.as_ref().and_then(|blob| blob.parse::<Hash>().ok()));
        self.paths.extend(below(op.place(), mount.as_bytes()).map(<[u8]>::to_vec));
    }

    /// Which of a tree's blobs the job would read again, with their sizes, each once.
    ///
    /// # Errors
    /// The manifest is damaged.
    pub fn of(&self, tree: &Manifest) -> Result<Vec<(Hash, u64)>, ManifestError> {
        let mut wanted = BTreeSet::new();
        for blob in &self.blobs {
            if let Some(node) = tree.by_blob(blob)?.next() {
                wanted.insert((*blob, tree.node(node)?.size));
            }
        }
        for path in &self.paths {
            if let Some(node) = tree.find(path)? {
                let node = tree.node(node)?;
                wanted.extend(node.blob.map(|blob| (blob, node.size)));
            }
        }
        Ok(wanted.into_iter().collect())
    }
}

/// The rest of a path that lies in the directory `above`.
fn below<'p>(path: &'p [u8], above: &[u8]) -> Option<&'p [u8]> {
    path.strip_prefix(above)?.strip_prefix(b"/")
}
