//! The passes of an export. Everything is made relative to the descriptor of its directory, which
//! is opened without following links; nothing that exists is ever opened for writing.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::Scope;
use rustix::fs::{self, AtFlags, Mode, OFlags, Timespec, Timestamps, XattrFlags};

use super::{ExportError, LinkMode, failed};
use crate::content::{self, Cloned, CopyError};
use crate::error::StoreError;
use crate::hash::Hash;
use crate::ingest::Progress;
use crate::manifest::{Manifest, Node, NodeId, NodeKind, ROOT};
use crate::platform;
use crate::store::Store;

/// Files that one task writes.
const BATCH: usize = 64;

/// One export that is under way.
pub(super) struct Job<'a> {
    store: &'a Store,
    manifest: &'a Manifest,
    top: &'a Path,
    root: OwnedFd,
    link: LinkMode,
    progress: &'a Progress,
    /// Cleared when the two file systems turn out not to share extents.
    clone: AtomicBool,
    reflinked: AtomicU64,
    stop: AtomicBool,
    error: Mutex<Option<ExportError>>,
}

/// A directory of the new tree.
struct Dir {
    fd: OwnedFd,
    node: NodeId,
}

impl<'a> Job<'a> {
    pub fn new(
        store: &'a Store,
        manifest: &'a Manifest,
        top: &'a Path,
        root: OwnedFd,
        link: LinkMode,
        progress: &'a Progress,
    ) -> Job<'a> {
        Job {
            store,
            manifest,
            top,
            root,
            link,
            progress,
            clone: AtomicBool::new(link != LinkMode::Copy),
            reflinked: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            error: Mutex::new(None),
        }
    }

    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// All passes but the root's own mode and time. Returns how many files share extents.
    pub fn run(&self) -> Result<u64, ExportError> {
        let root = self.root.try_clone().map_err(|source| ExportError::Io {
            what: "open",
            path: self.top.to_owned(),
            source,
        })?;
        rayon::scope(|scope| self.directory(scope, Dir { fd: root, node: ROOT }));
        let error = self.error.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(error) = error {
            return Err(error);
        }
        self.hard_links()?;
        // Children have higher numbers than their directory: backwards is from the leaves up.
        for id in (1..self.manifest.len()).rev() {
            let node = self.manifest.node(id)?;
            if node.kind == NodeKind::Directory {
                let dir = self.open_dir(id)?;
                self.finish_dir(&dir, &node)?;
            }
        }
        Ok(self.reflinked.load(Ordering::Relaxed))
    }

    /// The root's own mode and time, after the marker is gone.
    pub fn finish_root(&self) -> Result<(), ExportError> {
        self.finish_dir(&self.root, &self.manifest.node(ROOT)?)
    }

    fn path(&self, id: NodeId) -> PathBuf {
        let path = self.manifest.path_of(id).unwrap_or_default();
        self.top.join(OsStr::from_bytes(&path))
    }

    fn failed(&self, error: ExportError) {
        self.stop.store(true, Ordering::Relaxed);
        self.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    fn directory<'s>(&'s self, scope: &Scope<'s>, dir: Dir) {
        if let Err(error) = self.fill(scope, dir) {
            self.failed(error);
        }
    }

    fn fill<'s>(&'s self, scope: &Scope<'s>, dir: Dir) -> Result<(), ExportError> {
        let dir = Arc::new(dir);
        let mut files = Vec::new();
        for id in self.manifest.children(dir.node)? {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let node = self.manifest.node(id)?;
            match node.kind {
                NodeKind::Directory => {
                    // Ours alone until it is complete, whatever its mode will be.
                    fs::mkdirat(&dir.fd, node.name, Mode::from_raw_mode(0o700))
                        .map_err(failed("create directory", self.path(id)))?;
                    let parent = Arc::clone(&dir);
                    scope.spawn(move |scope| self.enter(scope, parent, id));
                    self.progress.add(0);
                }
                NodeKind::File | NodeKind::Symlink if node.inode != id => {}
                NodeKind::Symlink => self.symlink(&dir.fd, &node)?,
                NodeKind::File => files.push(id),
            }
        }
        for batch in files.chunks(BATCH) {
            let (dir, batch) = (Arc::clone(&dir), batch.to_vec());
            scope.spawn(move |_| {
                for id in batch {
                    if self.stop.load(Ordering::Relaxed) {
                        return;
                    }
                    if let Err(error) = self.file(&dir.fd, id) {
                        self.failed(error);
                    }
                }
            });
        }
        Ok(())
    }

    fn enter<'s>(&'s self, scope: &Scope<'s>, parent: Arc<Dir>, id: NodeId) {
        let opened = self.manifest.node(id).map_err(ExportError::from).and_then(|node| {
            open_child(parent.fd.as_fd(), node.name).map_err(failed("open", self.path(id)))
        });
        // Else a deep tree would need as many descriptors as it has levels.
        drop(parent);
        match opened {
            Ok(fd) => self.directory(scope, Dir { fd, node: id }),
            Err(error) => self.failed(error),
        }
    }

    fn symlink(&self, dir: &OwnedFd, node: &Node<'_>) -> Result<(), ExportError> {
        fs::symlinkat(node.target, dir, node.name)
            .map_err(failed("create symbolic link", self.path(node.id)))?;
        fs::utimensat(dir, node.name, &times(node), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed("set the time of", self.path(node.id)))?;
        self.progress.add(0);
        Ok(())
    }

    fn file(&self, dir: &OwnedFd, id: NodeId) -> Result<(), ExportError> {
        let node = self.manifest.node(id)?;
        let Some(hash) = node.blob else { return Ok(()) };
        let io = |what| failed(what, self.path(id));
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let fd =
            fs::openat(dir, node.name, flags, Mode::from_raw_mode(0o600)).map_err(io("create"))?;
        let file = File::from(fd);
        self.content(&hash, &node, &file)?;
        self.xattrs(&file, &node)?;
        fs::fchmod(&file, platform::mode(node.mode)).map_err(io("set the mode of"))?;
        fs::futimens(&file, &times(&node)).map_err(io("set the time of"))?;
        self.progress.add(node.size);
        Ok(())
    }

    fn content(&self, hash: &Hash, node: &Node<'_>, to: &File) -> Result<(), ExportError> {
        let io = |what| {
            let path = self.path(node.id);
            move |source| ExportError::Io { what, path, source }
        };
        let damaged =
            || StoreError::DamagedBlob { hash: *hash, root: self.store.root().to_owned() };
        let mut blob = self.store.open_blob(hash)?;
        let len = blob.metadata().map_err(io("read the blob of"))?.len();
        if len != node.size {
            return Err(damaged().into());
        }
        if len > 0 && self.clone.load(Ordering::Relaxed) {
            match content::clone(&blob, to).map_err(io("write"))? {
                Cloned::Done => {
                    self.reflinked.fetch_add(1, Ordering::Relaxed);
                    return Ok(());
                }
                _ if self.link == LinkMode::Reflink => {
                    return Err(ExportError::NoReflink { path: self.path(node.id) });
                }
                Cloned::NotThis => {}
                Cloned::Never => self.clone.store(false, Ordering::Relaxed),
            }
        }
        let sparse = content::is_sparse(&blob).map_err(io("read the blob of"))?;
        let copied = content::copy_hashed(&mut blob, to, len, sparse);
        let (found, copied) = copied.map_err(|error| match error {
            CopyError::Read(source) => io("read the blob of")(source),
            CopyError::Write(source) => io("write")(source),
        })?;
        // A copy passes through our hands anyway: what doesn't hash to its name isn't passed on.
        if found != *hash || copied != len { Err(damaged().into()) } else { Ok(()) }
    }

    fn xattrs(&self, file: impl AsFd, node: &Node<'_>) -> Result<(), ExportError> {
        for (name, value) in node.xattrs() {
            fs::fsetxattr(&file, name, value, XattrFlags::empty())
                .map_err(failed("set an attribute of", self.path(node.id)))?;
        }
        Ok(())
    }

    /// Gives every inode its other names.
    fn hard_links(&self) -> Result<(), ExportError> {
        for id in 1..self.manifest.len() {
            let node = self.manifest.node(id)?;
            if node.kind == NodeKind::Directory || node.inode == id {
                continue;
            }
            let first = self.manifest.node(node.inode)?;
            let (from, to) = (self.open_dir(first.parent)?, self.open_dir(node.parent)?);
            fs::linkat(&from, first.name, &to, node.name, AtFlags::empty())
                .map_err(failed("link", self.path(id)))?;
            self.progress.add(0);
        }
        Ok(())
    }

    fn finish_dir(&self, dir: &OwnedFd, node: &Node<'_>) -> Result<(), ExportError> {
        self.xattrs(dir, node)?;
        fs::fchmod(dir, platform::mode(node.mode))
            .map_err(failed("set the mode of", self.path(node.id)))?;
        fs::futimens(dir, &times(node)).map_err(failed("set the time of", self.path(node.id)))
    }

    /// Opens a directory of the new tree, one component after the other from the top.
    fn open_dir(&self, id: NodeId) -> Result<OwnedFd, ExportError> {
        let mut names = Vec::new();
        let mut node = self.manifest.node(id)?;
        while node.id != ROOT {
            names.push(node.name);
            node = self.manifest.node(node.parent)?;
        }
        let mut dir = open_child(self.root.as_fd(), b".");
        for name in names.into_iter().rev() {
            dir = dir.and_then(|dir| open_child(dir.as_fd(), name));
        }
        dir.map_err(failed("open", self.path(id)))
    }
}

fn open_child(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, rustix::io::Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::openat(dir, name, flags, Mode::empty())
}

fn times(node: &Node<'_>) -> Timestamps {
    let mtime = Timespec { tv_sec: node.mtime_sec, tv_nsec: i64::from(node.mtime_nsec) };
    // The access time isn't stored; the time of the export is as good as any.
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: fs::UTIME_NOW },
        last_modification: mtime,
    }
}
