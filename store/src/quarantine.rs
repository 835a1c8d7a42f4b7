//! Damaged blobs are put aside, so that the next ingest of their content stores it anew.
//!
//! In: what `verify` found damaged. Out: the same files in `quarantine/`, where nobody looks for a
//! blob. What must never happen here: a whole blob is put aside because it took the place of the
//! damaged one meanwhile.

use std::os::unix::fs::MetadataExt;

use rustix::fs::{self, AtFlags};
use rustix::io::Errno;

use crate::error::StoreError;
use crate::hash::Hash;
use crate::platform;
use crate::store::{Store, blob_name};
use crate::verify::Verified;

/// A blob that was found damaged, as the file that it was then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Suspect {
    pub hash: Hash,
    stamp: Stamp,
}

/// Inode, length, and time of change, which nobody can set.
type Stamp = (u64, u64, i64, i64);

impl Suspect {
    pub fn new(hash: &Hash, meta: &std::fs::Metadata) -> Suspect {
        Suspect { hash: *hash, stamp: stamp(meta) }
    }
}

fn stamp(meta: &std::fs::Metadata) -> Stamp {
    (meta.ino(), meta.len(), meta.ctime(), meta.ctime_nsec())
}

impl Store {
    /// Moves the blobs that were found damaged to `quarantine/`, and notes it in the report. One that
    /// has been replaced since is left. The next ingest of the content stores it anew.
    ///
    /// # Errors
    /// One can't be moved; those before it were.
    pub fn quarantine(&self, report: &mut Verified) -> Result<(), StoreError> {
        let mut moved = Vec::new();
        let result = self.move_aside(&report.suspects, &mut moved);
        for damage in &mut report.damage {
            damage.quarantined = moved.iter().any(|hash| damage.path == Store::blob_path(hash));
        }
        result?;
        self.drop_leftovers(&moved)
    }

    fn move_aside(&self, suspects: &[Suspect], moved: &mut Vec<Hash>) -> Result<(), StoreError> {
        if suspects.is_empty() {
            return Ok(());
        }
        self.make_dir("quarantine")?;
        // Who is about to publish a manifest that names one finds it missing, and stores it anew.
        let _alone = self.hold_alone()?;
        for suspect in suspects {
            let name = blob_name(&suspect.hash);
            let Some(file) = self.open_file(&name)? else { continue };
            let failed = |errno| StoreError::io("move aside", self.root().join(&name))(errno);
            let meta =
                file.metadata().map_err(StoreError::io("look at", self.root().join(&name)))?;
            if stamp(&meta) != suspect.stamp {
                continue;
            }
            let to = format!("quarantine/{}", suspect.hash);
            let mut result = fs::renameat(self.root_fd(), &name, self.root_fd(), &to);
            // Protected, which it isn't worth any more.
            if result == Err(Errno::PERM)
                && platform::set_immutable(&file, false).is_ok_and(|was_set| was_set)
            {
                result = fs::renameat(self.root_fd(), &name, self.root_fd(), &to);
            }
            result.map_err(failed)?;
            moved.push(suspect.hash);
        }
        Ok(())
    }

    /// Removes runnable copies and notes of checks of these blobs: a copy may share the damage.
    fn drop_leftovers(&self, of: &[Hash]) -> Result<(), StoreError> {
        if of.is_empty() {
            return Ok(());
        }
        for dir in ["checked", "exec"] {
            for (name, _) in self.list(dir)? {
                let digits = name.get(..64).and_then(|digits| std::str::from_utf8(digits).ok());
                let hash = digits.and_then(|digits| digits.parse::<Hash>().ok());
                let Some(path) = hash
                    .filter(|hash| of.contains(hash))
                    .and_then(|_| Some(format!("{dir}/{}", std::str::from_utf8(&name).ok()?)))
                else {
                    continue;
                };
                match fs::unlinkat(self.root_fd(), &path, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(errno) => {
                        return Err(StoreError::io("remove", self.root().join(&path))(errno));
                    }
                }
            }
        }
        Ok(())
    }
}
