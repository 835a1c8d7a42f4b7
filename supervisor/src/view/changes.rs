//! What a job changes of a mounted tree: the same upper directory and journal as without a mount.
//!
//! Whether the caller may is the kernel's to ask (`default_permissions`), in its own order; what must hold
//! of the tree is asked by the [`Overlay`]. Nobody but the kernel changes the tree while the job runs, so
//! what it was told stays true until it asks for a change itself.

use super::attributes::{keeps_set_ids, set_ids};
use super::contents::Contents;
use super::held::Held;
use super::told::{Answer, errno, os};
use crate::job::Job;
use fuser::Errno;
use rustix::fs::{AtFlags, CWD, FallocateFlags, FileType, Gid, Mode, OFlags, Uid};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use vrift_events::printable;
use vrift_projection::overlay::{Flags, For, Meta, Name, Overlay, file_name};
use vrift_projection::{Attr, Content, Kind, NodeRef};

/// From this size on, copying may take so long that others must be answered meanwhile.
const TAKES_TIME: u64 = 1 << 20;
/// Of a thread that copies, or waits for what is to be copied.
const STACK: usize = 512 * 1024;
/// The set-group-id bit.
const SET_GID: u32 = 0o2000;

/// Who makes something.
#[derive(Clone, Copy)]
pub struct Maker {
    /// File system user id.
    pub uid: u32,
    /// File system group id.
    pub gid: u32,
}

/// A name that something is made by.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// The directory.
    pub dir: NodeRef,
    /// One component.
    pub name: &'a [u8],
}

impl<'a> Place<'a> {
    fn at(&self) -> Name<'a> {
        Name { dir: self.dir.node, name: self.name }
    }
}

/// The changes of one mount.
pub struct Changes {
    job: Arc<Job>,
    mount: u16,
    contents: Arc<Contents>,
    /// What the kernel knows.
    pub held: Held,
    /// Held while a file's mode is another one than the job gave it.
    modes: Mutex<()>,
}

fn io(e: &std::io::Error) -> Errno {
    Errno::from_i32(e.raw_os_error().unwrap_or(libc::EIO))
}

impl Changes {
    /// Of the mount with this number; `None`: it is read-only.
    pub fn of(job: &Arc<Job>, mount: u16, contents: &Arc<Contents>) -> Option<Arc<Changes>> {
        job.projection.mount(mount)?.overlay()?;
        let (job, contents) = (Arc::clone(job), Arc::clone(contents));
        let (held, modes) = (Held::default(), Mutex::default());
        Some(Arc::new(Changes { job, mount, contents, held, modes }))
    }

    pub(super) fn overlay(&self) -> Answer<&Overlay> {
        let overlay = self.job.projection.mount(self.mount).and_then(|mount| mount.overlay());
        overlay.ok_or(Errno::EROFS)
    }

    pub(super) fn node(&self, node: u32) -> NodeRef {
        NodeRef { mount: self.mount, node }
    }

    /// The overlay of a directory in which a name changes: what lies in another mount, or is there for
    /// the sake of one, is as it is.
    fn overlay_of(&self, dir: NodeRef) -> Answer<&Overlay> {
        if dir.mount != self.mount {
            return Err(Errno::EROFS);
        }
        self.overlay()
    }

    /// What stat says.
    pub fn attr(&self, node: NodeRef) -> Answer<Attr> {
        let nameless = |file: &File| {
            let stat = rustix::fs::fstat(file).map_err(os)?;
            self.job.check(self.job.projection.attr_of_open(node, &stat)).map_err(errno)
        };
        if let Some(file) = self.held.nameless(node.node) {
            return nameless(&file);
        }
        match self.job.projection.attr(node) {
            Ok(attr) => Ok(attr),
            // It has lost its last name just now.
            Err(e) => match self.held.nameless(node.node) {
                Some(file) => nameless(&file),
                None if self.job.projection.is_gone(node) => Err(Errno::ESTALE),
                None => self.job.check(Err(e)).map_err(errno),
            },
        }
    }

    /// Owner and mode of what is made in `dir`. That the umask and what a set-group-id bit takes away
    /// is gone is the kernel's work (`vfs_prepare_mode` of fs/namei.c).
    fn makes(&self, dir: NodeRef, who: Maker, kind: Kind, mode: u32) -> Answer<((u32, u32), u32)> {
        let above = self.attr(dir)?;
        if above.mode & SET_GID == 0 {
            return Ok(((who.uid, who.gid), mode & 0o7777));
        }
        let mode = if kind == Kind::Directory { mode | SET_GID } else { mode };
        Ok(((who.uid, self.job.owner(&above).1), mode & 0o7777))
    }

    /// mkdir(2).
    pub fn make_directory(&self, at: Place<'_>, who: Maker, mode: u32) -> Answer<u32> {
        let overlay = self.overlay_of(at.dir)?;
        let (owner, mode) = self.makes(at.dir, who, Kind::Directory, mode)?;
        overlay.make_directory(at.at(), Meta::new(mode, owner)).map_err(errno)
    }

    /// symlink(2).
    pub fn make_symlink(&self, at: Place<'_>, who: Maker, target: &[u8]) -> Answer<u32> {
        let overlay = self.overlay_of(at.dir)?;
        let (owner, _) = self.makes(at.dir, who, Kind::Symlink, 0)?;
        overlay.make_symlink(at.at(), target, Meta::new(0o777, owner)).map_err(errno)
    }

    /// mknod(2), and what open(2) makes. `device`: as `new_encode_dev` has it, which is makedev(3)'s
    /// layout for its bits.
    pub fn make_node(&self, at: Place<'_>, who: Maker, (mode, device): (u32, u32)) -> Answer<u32> {
        let overlay = self.overlay_of(at.dir)?;
        let kind = Kind::of_mode(mode).ok_or(Errno::EINVAL)?;
        let (owner, mode) = self.makes(at.dir, who, kind, mode)?;
        let node = overlay.reserve().map_err(errno)?;
        let files = overlay.upper().files();
        let (name, rights) = (file_name(node), Mode::from_raw_mode(mode));
        let file = if kind == Kind::File {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
            Some(overlay.upper().open(node, flags, rights).map_err(os)?)
        } else {
            let is_device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
            let device = if is_device { u64::from(device) } else { 0 };
            let kernels = FileType::from_raw_mode(kind.file_type());
            rustix::fs::mknodat(files, name.as_str(), kernels, rights, device).map_err(os)?;
            None
        };
        if owner != (self.job.uid, self.job.gid) {
            // Changing the owner takes set-id bits away, so the mode comes last.
            let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
            let nofollow = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(files, name.as_str(), Some(uid), Some(gid), nofollow)
                .and_then(|()| rustix::fs::chmodat(files, name.as_str(), rights, AtFlags::empty()))
                .map_err(os)?;
        }
        overlay.name_new(node, kind, at.at()).map_err(errno)?;
        if let Some(file) = file {
            self.held.keep_writable(node, file.into());
        }
        Ok(node)
    }

    /// link(2) of a node to a new name.
    pub fn link(&self, node: NodeRef, at: Place<'_>) -> Answer<()> {
        if node.mount != self.mount {
            return Err(Errno::EROFS);
        }
        self.overlay_of(at.dir)?.link(node.node, at.at()).map_err(errno)
    }

    /// unlink(2) and, of a directory, rmdir(2).
    pub fn remove(&self, at: Place<'_>, directory: bool) -> Answer<()> {
        let overlay = self.overlay_of(at.dir)?;
        let victim = self.found(at)?.ok_or(Errno::ENOENT)?;
        self.must_move(victim)?;
        if directory {
            return overlay.remove_directory(at.at()).map_err(errno);
        }
        self.keeping(victim.node, || overlay.unlink(at.at()).map_err(errno))
    }

    /// renameat2(2).
    pub fn rename(
        &self,
        (from, to): (Place<'_>, Place<'_>),
        who: Maker,
        flags: fuser::RenameFlags,
    ) -> Answer<()> {
        let overlay = self.overlay_of(from.dir)?;
        self.overlay_of(to.dir)?;
        let exchange = flags.contains(fuser::RenameFlags::RENAME_EXCHANGE);
        let old = self.found(from)?.ok_or(Errno::ENOENT)?;
        self.must_move(old)?;
        let new = self.found(to)?;
        new.map_or(Ok(()), |new| self.must_move(new))?;
        let how = match (exchange, flags.contains(fuser::RenameFlags::RENAME_NOREPLACE)) {
            (true, _) => Flags::Exchange,
            (false, true) => Flags::NoReplace,
            (false, false) => Flags::Replace,
        };
        let rename = || overlay.rename(from.at(), to.at(), how).map_err(errno);
        match new.filter(|new| !exchange && *new != old) {
            Some(replaced) => self.keeping(replaced.node, rename)?,
            None => rename()?,
        }
        if flags.contains(fuser::RenameFlags::RENAME_WHITEOUT) {
            self.make_node(from, who, (Kind::CharDevice.file_type(), 0))?;
        }
        Ok(())
    }

    fn found(&self, at: Place<'_>) -> Answer<Option<NodeRef>> {
        self.job.check(self.job.projection.lookup(at.dir, at.name)).map_err(errno)
    }

    /// EBUSY for a mount point, and for a directory above one.
    fn must_move(&self, node: NodeRef) -> Answer<()> {
        if node.mount != self.mount || self.job.projection.holds_mount_point(node) {
            return Err(Errno::EBUSY);
        }
        Ok(())
    }

    /// Takes a name from `node`; what is in the upper directory is kept for who has it open.
    fn keeping(&self, node: u32, remove: impl FnOnce() -> Answer<()>) -> Answer<()> {
        let overlay = self.overlay()?;
        if overlay.is_upper(node) {
            let is_file = self.job.check(self.job.projection.kind(self.node(node)));
            let file = match self.held.writable(node) {
                Some(file) => file,
                None if is_file.map_err(errno)? == Kind::File => {
                    Arc::new(self.open(node, OFlags::RDWR)?)
                }
                None => {
                    let flags = OFlags::PATH | OFlags::NOFOLLOW;
                    let opened = overlay.upper().open(node, flags, Mode::empty());
                    Arc::new(File::from(opened.map_err(os)?))
                }
            };
            self.held.keep_nameless(node, file);
        }
        let removed = remove();
        if !overlay.is_gone(node) {
            self.held.drop_nameless(node);
        }
        removed
    }

    /// Opens a file of the upper directory, whatever its mode says.
    fn open(&self, node: u32, access: OFlags) -> Answer<File> {
        let overlay = self.overlay()?;
        let _opening = overlay.opening();
        let _modes = self.modes.lock().unwrap_or_else(PoisonError::into_inner);
        overlay.open_by_owner(node, access | OFlags::NOFOLLOW).map_err(|e| io(&e))
    }

    /// Whether the content has to be copied first, and that takes its time.
    pub fn takes_time(&self, node: NodeRef, what: For) -> Answer<bool> {
        let content = self.job.check(self.job.projection.content(node)).map_err(errno)?;
        let Some(Content::Blob(hash, size)) = content else { return Ok(false) };
        let copied = what != For::Truncating;
        Ok(copied && (size >= TAKES_TIME || self.contents.is_elsewhere(node, &hash, size)))
    }

    /// Does `work` by a thread of its own.
    pub fn later(changes: &Arc<Changes>, work: impl FnOnce(&Changes) + Send + 'static) {
        let ours = Arc::clone(changes);
        let thread = std::thread::Builder::new().name("view-copy".into()).stack_size(STACK);
        // Without a thread the answer is EIO: fuser gives it for what is dropped unanswered.
        if let Err(e) = thread.spawn(move || work(&ours)) {
            changes.job.counters.fail(format!("there is no thread to copy a file: {e}"));
        }
    }

    /// Sees to it that a file's content is in the upper directory.
    pub(super) fn copy_up(&self, node: u32, what: For, task: u32) -> Answer<()> {
        let overlay = self.overlay()?;
        if overlay.is_changed(node) {
            return Ok(());
        }
        let place = self.node(node);
        let content = self.job.check(self.job.projection.content(place)).map_err(errno)?;
        let source = match content {
            Some(Content::Blob(hash, size)) if what != For::Truncating => {
                self.contents.here(place, (&hash, size), task)?;
                Some(File::from(self.contents.open(&hash)?))
            }
            _ => None,
        };
        let opened = || source.ok_or(vrift_policy::Errno::EIO);
        overlay.copy_up(node, what, u64::MAX, opened).map_err(errno)?;
        if overlay.is_gone(node) {
            // Unlinked while it was open, and never written to before.
            let file = self.open(node, OFlags::RDWR)?;
            self.held.keep_nameless(node, Arc::new(file));
            overlay.forget_file(node);
        }
        Ok(())
    }

    /// The file that a node's changes go to, for reading and writing.
    fn file(&self, node: u32, what: For, task: u32) -> Answer<Arc<File>> {
        self.copy_up(node, what, task)?;
        if let Some(file) = self.held.nameless(node).or_else(|| self.held.writable(node)) {
            return Ok(file);
        }
        match self.open(node, OFlags::RDWR) {
            Ok(file) => Ok(self.held.keep_writable(node, file)),
            Err(e) => self.unless_nameless(node, e),
        }
    }

    /// What can't be opened may have lost its last name just now; then it is kept.
    fn unless_nameless(&self, node: u32, e: Errno) -> Answer<Arc<File>> {
        self.held.nameless(node).ok_or(e)
    }

    /// A path of what is in the upper directory, for calls that take nothing else, and by which nobody
    /// needs a right to read it.
    pub(super) fn path(&self, node: u32) -> Answer<PathBuf> {
        let own = |fd: i32| Path::new("/proc/self/fd").join(fd.to_string());
        Ok(match self.held.nameless(node) {
            // The descriptor has to stay open; it does until the kernel forgets the node.
            Some(file) => own(file.as_raw_fd()),
            None => own(self.overlay()?.upper().files().as_raw_fd()).join(file_name(node)),
        })
    }

    /// A part of a file of the upper directory; `None`: its content isn't there.
    pub fn read(&self, node: u32, offset: u64, size: u32) -> Answer<Option<Vec<u8>>> {
        let content = || self.job.check(self.job.projection.content(self.node(node)));
        let mut file = self.held.nameless(node).or_else(|| self.held.writable(node));
        if file.is_none() {
            if content().map_err(errno)? != Some(Content::Upper) {
                return Ok(None);
            }
            let opened = self.open(node, OFlags::RDONLY).map(Arc::new);
            file = Some(opened.or_else(|e| self.unless_nameless(node, e))?);
        }
        let Some(file) = file else { return Ok(None) };
        let mut bytes = vec![0; size as usize];
        let mut length = 0;
        while length < bytes.len() {
            match file.read_at(&mut bytes[length..], offset + length as u64) {
                Ok(0) => break,
                Ok(n) => length += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(io(&e)),
            }
        }
        bytes.truncate(length);
        Ok(Some(bytes))
    }

    /// Writes a part of a file, for `task`. `strips`: it loses its set-id bits by that.
    pub fn write(
        &self,
        (node, offset): (u32, u64),
        data: &[u8],
        task: u32,
        strips: bool,
    ) -> Answer<()> {
        let file = self.file(node, For::Writing, task)?;
        file.write_all_at(data, offset).map_err(|e| io(&e))?;
        if strips { self.strip(node, || false) } else { Ok(()) }
    }

    /// Tells in the summary that something was not written: whoever wrote it learns of it when the file is
    /// closed or synchronised, and need not look.
    pub fn not_written(&self, node: u32, e: Errno) {
        let path = printable(&self.job.path(self.node(node)));
        let e = std::io::Error::from_raw_os_error(e.code());
        self.job.counters.fail(format!("{path}: what was written can't be kept: {e}"));
    }

    /// Gives a file another length, for `task`.
    pub(super) fn set_length(&self, node: u32, length: u64, task: u32) -> Answer<()> {
        let what = if length == 0 { For::Truncating } else { For::Writing };
        let file = self.file(node, what, task)?;
        file.set_len(length).map_err(|e| io(&e))?;
        self.strip(node, || keeps_set_ids(task))
    }

    /// What somebody writes to who may not set set-id bits loses them. `keeps`: he may; asked only where
    /// there are any.
    fn strip(&self, node: u32, keeps: impl FnOnce() -> bool) -> Answer<()> {
        let mode = self.attr(self.node(node))?.mode;
        match set_ids(mode) {
            0 => Ok(()),
            _ if keeps() => Ok(()),
            lost => self.set_mode(node, mode & !lost),
        }
    }

    /// chmod(2) of what is in the upper directory.
    pub(super) fn set_mode(&self, node: u32, mode: u32) -> Answer<()> {
        let path = self.path(node)?;
        let _modes = self.modes.lock().unwrap_or_else(PoisonError::into_inner);
        let mode = Mode::from_raw_mode(mode & 0o7777);
        rustix::fs::chmodat(CWD, path, mode, AtFlags::empty()).map_err(os)
    }

    /// fallocate(2), for `task`.
    pub fn allocate(&self, node: u32, part: (u64, u64), mode: i32, task: u32) -> Answer<()> {
        let file = self.file(node, For::Writing, task)?;
        let flags = FallocateFlags::from_bits_retain(mode.cast_unsigned());
        rustix::fs::fallocate(&*file, flags, part.0, part.1).map_err(os)
    }

    /// fsync(2) and fdatasync(2).
    pub fn sync(&self, node: u32, data_only: bool) -> Answer<()> {
        let content = self.job.check(self.job.projection.content(self.node(node)));
        if content.map_err(errno)? != Some(Content::Upper) {
            return Ok(());
        }
        let file = self.file(node, For::Writing, 0)?;
        let synced = if data_only { file.sync_data() } else { file.sync_all() };
        synced.map_err(|e| io(&e))
    }

    /// statfs(2) is told what the file system of the changes says.
    pub fn files(&self) -> Answer<OwnedFd> {
        self.overlay()?.upper().files().try_clone_to_owned().map_err(|e| io(&e))
    }
}
