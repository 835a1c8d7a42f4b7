//! Protection: blobs that nobody changes or removes, their owner and root included, before the
//! protection is taken away again: FS_IMMUTABLE_FL (ioctl_iflags(2)), or fs-verity.
//!
//! What must never happen here: a flag is set on a file that isn't a blob of this store. Each is opened
//! from the held directory of the store, one name at a time, no link followed; and what was opened is a
//! regular file named by its hash.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{self, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::error::StoreError;
use crate::hash::Hash;
use crate::hold;
use crate::manifest::{Manifest, ManifestError, NodeId, NodeKind};
use crate::platform;
use crate::store::Store;

/// How a blob is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// FS_IMMUTABLE_FL: it can't be written to, renamed or removed until the flag is cleared. Needs
    /// CAP_LINUX_IMMUTABLE.
    Immutable,
    /// fs-verity: the kernel checks every block that is read against a hash, for ever. It can still be
    /// removed.
    Verity,
}

/// What was done to blobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Protected {
    /// Blobs that were asked for.
    pub blobs: u64,
    /// Of these, blobs that were otherwise before.
    pub changed: u64,
}

/// The different contents of `top` and all that is below it, in ascending order.
///
/// # Errors
/// A part of the manifest is damaged.
pub fn blobs_below(manifest: &Manifest, top: NodeId) -> Result<Vec<Hash>, ManifestError> {
    let mut blobs = Vec::new();
    let mut ahead = vec![top];
    while let Some(id) = ahead.pop() {
        let node = manifest.node(id)?;
        blobs.extend(node.blob);
        if node.kind == NodeKind::Directory {
            ahead.extend(manifest.children(id)?);
        }
    }
    blobs.sort_unstable();
    blobs.dedup();
    Ok(blobs)
}

impl Store {
    /// Protects `blobs`, which are in ascending order. When one can't be, those before it that weren't
    /// protected yet are not left so (but for fs-verity, which can't be taken away).
    ///
    /// # Errors
    /// One is missing; the file system has no such flag, or the user may not set it.
    pub fn protect(&self, blobs: &[Hash], how: Protection) -> Result<Protected, StoreError> {
        let mut changed = Vec::new();
        let result = self.each(blobs, |hash, blob| {
            let done = match how {
                Protection::Immutable => platform::set_immutable(blob, true),
                Protection::Verity => platform::enable_verity(blob),
            };
            let done = done.map_err(|error| self.refused(hash, how, error))?;
            if done {
                changed.push(*hash);
            }
            Ok(())
        });
        if let Err(error) = result {
            if how == Protection::Immutable {
                // What can't be undone either is told by `stats`.
                let _ = self.unprotect(&changed);
            }
            return Err(error);
        }
        Ok(Protected { blobs: blobs.len() as u64, changed: changed.len() as u64 })
    }

    /// Takes FS_IMMUTABLE_FL from `blobs`, which are in ascending order.
    ///
    /// # Errors
    /// One is missing, or the user may not clear the flag.
    pub fn unprotect(&self, blobs: &[Hash]) -> Result<Protected, StoreError> {
        let mut changed = 0;
        self.each(blobs, |hash, blob| {
            let done = platform::set_immutable(blob, false);
            // Where there is no such flag, none is set.
            let done = match done {
                Err(error) if is_unsupported(&error) => false,
                done => done.map_err(|error| self.refused(hash, Protection::Immutable, error))?,
            };
            changed += u64::from(done);
            Ok(())
        })?;
        Ok(Protected { blobs: blobs.len() as u64, changed })
    }

    /// All blobs that are there, in ascending order.
    ///
    /// # Errors
    /// The store can't be listed.
    pub fn blobs(&self) -> Result<Vec<Hash>, StoreError> {
        let mut blobs = Vec::new();
        for first in 0..=u8::MAX {
            let hash = |(name, kind): (Vec<u8>, FileType)| {
                let hash = std::str::from_utf8(&name).ok()?.parse::<Hash>().ok()?;
                (kind == FileType::RegularFile && hash.as_bytes()[0] == first).then_some(hash)
            };
            blobs.extend(self.list(&format!("blobs/{first:02x}"))?.into_iter().filter_map(hash));
        }
        Ok(blobs)
    }

    /// Opens one blob after the other, each from the directory that holds it.
    fn each(
        &self,
        blobs: &[Hash],
        mut what: impl FnMut(&Hash, &File) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let all = self.open_dir("blobs")?;
        let mut dir: Option<(u8, OwnedFd)> = None;
        for hash in blobs {
            let path = || self.root().join(Store::blob_path(hash));
            let missing = || StoreError::MissingBlob { hash: *hash, root: self.root().to_owned() };
            let failed = |errno| match errno {
                Errno::NOENT => missing(),
                errno => StoreError::io("open", path())(errno),
            };
            let (first, name) = (hash.as_bytes()[0], hash.to_hex());
            if dir.as_ref().is_none_or(|(of, _)| *of != first) {
                let opened = hold::dir_at(&all, &name.as_str()[..2]).map_err(failed)?;
                dir = Some((first, opened));
            }
            let Some((_, dir)) = &dir else { continue };
            let flags = OFlags::RDONLY
                | OFlags::CLOEXEC
                | OFlags::NOFOLLOW
                | OFlags::NONBLOCK
                | OFlags::NOCTTY;
            let fd = fs::openat(dir, name.as_str(), flags, Mode::empty()).map_err(failed)?;
            let stat = fs::fstat(&fd).map_err(failed)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                return Err(missing());
            }
            what(hash, &File::from(fd))?;
        }
        Ok(())
    }

    fn refused(&self, hash: &Hash, how: Protection, error: io::Error) -> StoreError {
        let root = self.root().to_owned();
        if is_unsupported(&error) {
            let what = match how {
                Protection::Immutable => "immutable files (FS_IMMUTABLE_FL)",
                Protection::Verity => "fs-verity, or not switched on",
            };
            return StoreError::NoProtection { root, what };
        }
        if matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES)) {
            return StoreError::MayNotProtect { root };
        }
        let what = match how {
            Protection::Immutable => "change the flags of",
            Protection::Verity => "enable fs-verity for",
        };
        StoreError::io(what, self.root().join(Store::blob_path(hash)))(error)
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    let unsupported = [Errno::NOTTY, platform::UNSUPPORTED, Errno::NOSYS];
    Errno::from_io_error(error).is_some_and(|errno| unsupported.contains(&errno))
}
