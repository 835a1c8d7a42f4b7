//! Export: a manifest becomes a real tree again, with modes, times to the nanosecond, attributes
//! and hard links.
//!
//! In: a manifest and a directory that is empty or doesn't exist. Three passes: directories and
//! files in parallel, then hard links, then the directories' own modes and times from the leaves
//! up. A marker stands in the directory until the last step, so that a tree that was interrupted
//! is never taken for a whole one.
//!
//! What must never happen here: an entry outside the directory (names are checked when nodes are
//! read, and every entry is made from its directory's descriptor), a hard link to a blob, or a
//! damaged blob that is passed on as if it were sound.

mod write;

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::error::StoreError;
use crate::ingest::Progress;
use crate::manifest::{Manifest, ManifestError, ROOT};
use crate::store::Store;
use crate::text::shown;

/// How file content comes into the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LinkMode {
    /// Shared extents where the file systems can, else a copy.
    #[default]
    Auto,
    /// Shared extents or nothing.
    Reflink,
    /// A copy of its own.
    Copy,
}

/// What an export made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exported {
    /// Names of regular files.
    pub files: u64,
    /// Directories, the top one included.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Bytes in files, hard links counted once.
    pub bytes: u64,
    /// Files whose extents are shared with their blobs.
    pub reflinked: u64,
}

/// Why a tree wasn't exported, or not whole.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The manifest is damaged.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The directory holds something.
    #[error(
        "can't export to {}: it is not an empty directory; name one that is empty or doesn't exist",
        shown(path)
    )]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// The directory holds a part of a tree.
    #[error(
        "can't export to {}: an earlier export there was interrupted; remove the directory and run this again",
        shown(path)
    )]
    Interrupted {
        /// The directory.
        path: PathBuf,
    },
    /// A system call failed.
    #[error("can't {what} {}: {source}; what was exported so far is incomplete", shown(path))]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// `Reflink` was asked for and isn't possible.
    #[error("can't share extents between the store and {}: use --link auto or copy", shown(path))]
    NoReflink {
        /// The file.
        path: PathBuf,
    },
}

/// Stands in the top directory until the tree is whole.
const MARKER: &str = ".vrift-export-incomplete";

impl Store {
    /// Writes the tree of `manifest` to `dir`, which has to be empty or not to exist.
    ///
    /// # Errors
    /// See [`ExportError`]; after most of them `dir` holds a part of the tree, marked as such.
    pub fn export(
        &self,
        manifest: &Manifest,
        dir: &Path,
        link: LinkMode,
        progress: &Progress,
    ) -> Result<Exported, ExportError> {
        let (root, marker) = prepare(manifest, dir)?;
        let job = write::Job::new(self, manifest, dir, root, link, progress);
        let reflinked = job.run()?;
        let removed = rustix::fs::unlinkat(job.root(), &marker, AtFlags::empty());
        removed.map_err(|errno| failed("remove", dir.join(&marker))(errno))?;
        job.finish_root()?;
        Ok(Exported {
            files: manifest.files().into(),
            directories: manifest.directories().into(),
            symlinks: manifest.symlinks().into(),
            bytes: manifest.total_bytes(),
            reflinked,
        })
    }
}

fn failed(what: &'static str, path: PathBuf) -> impl FnOnce(Errno) -> ExportError {
    move |errno| ExportError::Io { what, path, source: errno.into() }
}

/// Makes or checks the directory and puts the marker in it.
fn prepare(manifest: &Manifest, dir: &Path) -> Result<(OwnedFd, String), ExportError> {
    let io = |what| {
        let path = dir.to_owned();
        move |source| ExportError::Io { what, path, source }
    };
    fs::create_dir_all(dir).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            ExportError::NotEmpty { path: dir.to_owned() }
        }
        _ => io("create directory")(source),
    })?;
    let mut empty = true;
    for entry in fs::read_dir(dir).map_err(io("list"))? {
        let name = entry.map_err(io("list"))?.file_name();
        if name.to_string_lossy().starts_with(MARKER) {
            return Err(ExportError::Interrupted { path: dir.to_owned() });
        }
        empty = false;
    }
    if !empty {
        return Err(ExportError::NotEmpty { path: dir.to_owned() });
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, dir, flags, Mode::empty())
        .map_err(failed("open directory", dir.to_owned()))?;
    let mut marker = MARKER.to_owned();
    while manifest.child(ROOT, marker.as_bytes())?.is_some() {
        marker.push('_');
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    rustix::fs::openat(&root, &marker, flags, Mode::from_raw_mode(0o600))
        .map_err(failed("create", dir.join(&marker)))?;
    Ok((root, marker))
}
