//! The supervisor's side of a mounted tree: what the kernel asks of a FUSE file system, answered from
//! the projection.
//!
//! Nothing that was told ever changes but by what the kernel itself asks for ([`Changes`]), so all of it
//! may be kept for ever: names and their absence, attributes, contents, links, listings. Opening is
//! nothing to be asked about: an open file is its inode, and the kernel learns that from one ENOSYS.

use super::attributes::Attributes;
use super::changes::Maker;
use super::contents::Contents;
use super::told::{ABSENT, Answer, file_attr, give};
use super::tree::{EVER, GENERATION, Tree};
use crate::job::Job;
use crate::receiver::own_umask;
use fuser::{
    BsdFileFlags, Config, Errno, FileHandle, Filesystem, INodeNo, InitFlags, IoctlFlags,
    KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen,
    ReplyStatfs, ReplyWrite, ReplyXattr, Request, Session, SessionACL, TimeOrNow, WriteFlags,
};
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;
use vrift_projection::overlay::For;

/// How many requests of one tree are answered at the same time, at most.
const THREADS: usize = 4;

/// What is written is the kernel's until the file is closed, or longer than half a minute: a write costs
/// what it costs on a disk. Size and times are the kernel's meanwhile.
const WRITTEN_LATER: InitFlags = InitFlags::FUSE_WRITEBACK_CACHE;

/// Requests for a file's flags (`include/uapi/linux/fs.h`), which the kernel makes of what it is asked.
const FS_IOC_GETFLAGS: u32 = 0x8008_6601;
const FS_IOC32_GETFLAGS: u32 = 0x8004_6601;
const FS_IOC_FSGETXATTR: u32 = 0x801c_581f;

/// Serves the tree of mount number `mount` to whoever asks by `device`, by threads of their own,
/// until nothing of the file system is left.
///
/// # Errors
/// There can be no thread.
pub fn serve(job: &Arc<Job>, mount: u16, device: OwnedFd) -> std::io::Result<()> {
    let tree = Tree::of(job, mount);
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut config = Config::default();
    config.acl = SessionACL::All;
    config.n_threads = Some(processors.clamp(1, THREADS));
    let job = Arc::clone(job);
    std::thread::Builder::new().name("view".into()).spawn(move || {
        // For those, too, that it starts.
        if let Err(e) = own_umask() {
            job.counters.fail(format!("unshare(CLONE_FS): {e}"));
        }
        let session = Session::from_fd(tree, device, SessionACL::All, config);
        if let Err(e) = session.and_then(Session::run) {
            // The kernel tells the job ENOTCONN from now on.
            job.counters.fail(format!("the mounted file system is served no more: {e}"));
        }
    })?;
    Ok(())
}

fn maker(req: &Request) -> Maker {
    Maker { uid: req.uid(), gid: req.gid() }
}

fn empty(done: Answer<()>, reply: ReplyEmpty) {
    match done {
        Ok(()) => reply.ok(),
        Err(e) => reply.error(e),
    }
}

impl Filesystem for Tree {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        for wanted in [
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_CACHE_SYMLINKS,
            InitFlags::FUSE_EXPLICIT_INVAL_DATA,
            InitFlags::FUSE_ASYNC_DIO,
            InitFlags::FUSE_NO_EXPORT_SUPPORT,
            // Else the kernel asks for a file's capabilities before each write.
            InitFlags::FUSE_HANDLE_KILLPRIV_V2,
        ] {
            // An older kernel asks more often; the answers are the same.
            if config.add_capabilities(wanted).is_err() {
                tracing::debug!("the mounted file system does without {wanted:?}");
            }
        }
        if self.changes.is_some() && config.add_capabilities(WRITTEN_LATER).is_err() {
            tracing::debug!("what is written is sent at once");
        }
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.child(parent, name) {
            Ok(found) => {
                found.iter().for_each(|attr| self.told(attr));
                reply.entry(&EVER, &found.unwrap_or(ABSENT), GENERATION);
            }
            Err(e) => reply.error(e),
        }
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        if let Ok((changes, node)) = self.changing(ino) {
            changes.held.forget(node.node, nlookup);
        }
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        match self.node(ino).and_then(|node| self.attr(node)) {
            Ok(attr) => reply.attr(&EVER, &attr),
            Err(e) => reply.error(e),
        }
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let new = Attributes { mode, uid, gid, size, atime, mtime, ctime: ctime.is_some() };
        let (who, job) = ((req.pid(), req.uid()), Arc::clone(&self.job));
        self.change(ino, new.copies(), reply, move |changes, node, reply| {
            match changes.set(node, &new, who) {
                Ok(attr) => reply.attr(&EVER, &file_attr(&attr, job.owner(&attr))),
                Err(e) => reply.error(e),
            }
        });
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let place = self.place(parent, name);
        self.made(
            place.and_then(|(changes, at)| changes.make_node(at, maker(req), (mode, rdev))),
            reply,
        );
    }

    fn mkdir(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let place = self.place(parent, name);
        self.made(
            place.and_then(|(changes, at)| changes.make_directory(at, maker(req), mode)),
            reply,
        );
    }

    fn symlink(
        &self,
        req: &Request,
        parent: INodeNo,
        link_name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let target = target.as_os_str().as_bytes();
        let place = self.place(parent, link_name);
        self.made(
            place.and_then(|(changes, at)| changes.make_symlink(at, maker(req), target)),
            reply,
        );
    }

    fn link(
        &self,
        _req: &Request,
        ino: INodeNo,
        newparent: INodeNo,
        newname: &OsStr,
        reply: ReplyEntry,
    ) {
        let linked = self.place(newparent, newname).and_then(|(changes, at)| {
            let node = self.node(ino)?;
            changes.link(node, at).map(|()| node.node)
        });
        self.made(linked, reply);
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let place = self.place(parent, name);
        empty(place.and_then(|(changes, at)| changes.remove(at, false)), reply);
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let place = self.place(parent, name);
        empty(place.and_then(|(changes, at)| changes.remove(at, true)), reply);
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let renamed = self.place(parent, name).and_then(|(changes, from)| {
            let (_, to) = self.place(newparent, newname)?;
            changes.rename((from, to), maker(req), flags)
        });
        empty(renamed, reply);
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        let target = self.node(ino).and_then(|node| {
            self.check(self.job.projection.link_target(node).map(std::borrow::Cow::into_owned))
        });
        match target {
            Ok(target) => reply.data(&target),
            Err(e) => reply.error(e),
        }
    }

    fn open(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
    }

    fn opendir(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
    }

    fn read(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let changed = match self.changing(ino) {
            Ok((changes, node)) => changes.read(node.node, offset, size),
            Err(_) => Ok(None),
        };
        match (changed, self.node(ino)) {
            (Ok(Some(bytes)), _) => reply.data(&bytes),
            (Ok(None), Ok(node)) => {
                Contents::read(&self.contents, (node, offset, size), req.pid(), reply);
            }
            (Err(e), _) | (_, Err(e)) => reply.error(e),
        }
    }

    /// What is made is opened like anything else, which the kernel learns from one ENOSYS.
    fn create(
        &self,
        _req: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn write(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let strips = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        let (task, data) = (req.pid(), data.to_vec());
        self.change(ino, For::Writing, reply, move |changes, node, reply| {
            match changes.write((node, offset), &data, task, strips) {
                Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX)),
                Err(e) => {
                    changes.not_written(node, e);
                    reply.error(e);
                }
            }
        });
    }

    /// Nothing is kept back here.
    fn flush(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn fsync(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        datasync: bool,
        reply: ReplyEmpty,
    ) {
        match self.changing(ino) {
            Ok((changes, node)) => empty(changes.sync(node.node, datasync), reply),
            // What is in the store is on the disk.
            Err(_) => reply.ok(),
        }
    }

    /// Names are in the supervisor's memory and journal, as long as the job runs.
    fn fsyncdir(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn fallocate(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let task = req.pid();
        self.change(ino, For::Writing, reply, move |changes, node, reply| {
            empty(changes.allocate(node, (offset, length), mode, task), reply);
        });
    }

    /// The whole file is data to the kernel: it alone knows what was written and not sent yet.
    fn lseek(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _offset: i64,
        _whence: i32,
        reply: ReplyLseek,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn readdir(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let told = self.list(ino, offset, |name, next, attr| {
            reply.add(attr.ino, next, attr.kind, OsStr::from_bytes(name))
        });
        match told {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(e),
        }
    }

    fn readdirplus(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let told = self.list(ino, offset, |name, next, attr| {
            let full = reply.add(attr.ino, next, OsStr::from_bytes(name), &EVER, attr, GENERATION);
            // Of a directory itself and the one above it the kernel takes no note.
            if !full && !matches!(name, b"." | b"..") {
                self.told(attr);
            }
            full
        });
        match told {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(e),
        }
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let Some(store) = &self.job.store else { return reply.error(Errno::EIO) };
        let found = match self.changes.as_ref().map(|changes| changes.files()) {
            Some(Ok(files)) => rustix::fs::fstatvfs(files).map_err(|e| format!("the changes: {e}")),
            Some(Err(e)) => return reply.error(e),
            None => rustix::fs::fstatvfs(&store.blobs).map_err(|e| format!("the store: {e}")),
        };
        match self.check(found) {
            Ok(s) => {
                let word = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
                let (block, fragment) = (word(s.f_bsize), word(s.f_frsize));
                let name = word(s.f_namemax);
                let (free, inodes) = (s.f_bavail, s.f_ffree);
                reply.statfs(s.f_blocks, s.f_bfree, free, s.f_files, inodes, block, name, fragment);
            }
            Err(e) => reply.error(e),
        }
    }

    fn getxattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        give(self.attribute(ino, name), size, reply);
    }

    fn setxattr(
        &self,
        req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let (task, name, value) = (req.pid(), name.as_bytes().to_vec(), value.to_vec());
        self.change(ino, For::Writing, reply, move |changes, node, reply| {
            empty(changes.set_attribute(node, &name, (Some(&value), flags), task), reply);
        });
    }

    fn removexattr(&self, req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (task, name) = (req.pid(), name.as_bytes().to_vec());
        self.change(ino, For::Writing, reply, move |changes, node, reply| {
            empty(changes.set_attribute(node, &name, (None, 0), task), reply);
        });
    }

    fn listxattr(&self, _req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        give(self.attributes(ino), size, reply);
    }

    fn ioctl(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        cmd: u32,
        _in_data: &[u8],
        out_size: u32,
        reply: ReplyIoctl,
    ) {
        match cmd {
            // The manifest has no flags, and so a file has none set.
            FS_IOC_GETFLAGS | FS_IOC32_GETFLAGS | FS_IOC_FSGETXATTR => {
                reply.ioctl(0, &vec![0; out_size.min(64) as usize]);
            }
            _ => reply.error(Errno::ENOTTY),
        }
    }
}
