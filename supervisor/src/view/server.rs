//! The supervisor's side of a mounted tree: what the kernel asks of a FUSE file system, answered from
//! the projection.
//!
//! Nothing that was told ever changes, so all of it may be kept for ever: names and their absence,
//! attributes, contents, links, listings. Opening is nothing to be asked about: an open file is its
//! inode, and the kernel learns that from one ENOSYS. An inode's number is that of stat, and the
//! node's own; what is there for the sake of mounts further in ([`ELSEWHERE`]) has others.

use super::contents::Contents;
use crate::job::Job;
use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo, InitFlags,
    IoctlFlags, KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEntry, ReplyIoctl, ReplyOpen, ReplyStatfs, ReplyXattr, Request,
    Session, SessionACL,
};
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use vrift_projection::walk::NAME_MAX;
use vrift_projection::{Above, Attr, Kind, Mount, NodeRef};

/// How long the kernel may keep what it is told: longer than any job, and what its clock can hold.
const EVER: Duration = Duration::from_secs(1 << 31);
/// Inodes are never used again for something else.
const GENERATION: Generation = Generation(0);
/// How many requests of one tree are answered at the same time, at most.
const THREADS: usize = 4;

/// Numbers with this bit are not the manifest's: of directories that are there only because a mount point
/// lies below, and of mount points, which are covered as soon as the mount is there. The lower bits are a
/// [`NodeRef`]: sixteen and thirty-two.
const ELSEWHERE: u64 = 1 << 48;

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
    let tree = Tree { job: Arc::clone(job), mount, contents: Arc::new(Contents::of(job)) };
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut config = Config::default();
    config.acl = SessionACL::All;
    config.n_threads = Some(processors.clamp(1, THREADS));
    let job = Arc::clone(job);
    std::thread::Builder::new().name("view".into()).spawn(move || {
        let session = Session::from_fd(tree, device, SessionACL::All, config);
        if let Err(e) = session.and_then(Session::run) {
            // The kernel tells the job ENOTCONN from now on.
            job.counters.fail(format!("the mounted file system is served no more: {e}"));
        }
    })?;
    Ok(())
}

/// One mount.
struct Tree {
    job: Arc<Job>,
    mount: u16,
    contents: Arc<Contents>,
}

pub(super) type Answer<T> = Result<T, Errno>;

impl Tree {
    fn node(&self, ino: INodeNo) -> Answer<NodeRef> {
        let (mount, number) = match ino.0 & ELSEWHERE {
            0 => (self.mount, ino.0.checked_sub(INodeNo::ROOT.0).ok_or(Errno::ESTALE)?),
            _ => {
                let mount = u16::try_from((ino.0 ^ ELSEWHERE) >> 32).map_err(|_| Errno::ESTALE)?;
                (mount, ino.0 & u64::from(u32::MAX))
            }
        };
        let node = u32::try_from(number).map_err(|_| Errno::ESTALE)?;
        Ok(NodeRef { mount, node })
    }

    /// Turns a failure of ours into EIO for the job and a reason in the summary.
    fn check<T>(&self, result: Result<T, impl std::fmt::Display>) -> Answer<T> {
        self.job.check(result).map_err(|e| Errno::from_i32(e.raw()))
    }

    fn attr(&self, node: NodeRef) -> Answer<FileAttr> {
        let attr = self.check(self.job.projection.attr(node))?;
        let told = file_attr(&attr, self.job.owner(&attr));
        if node.mount == self.mount {
            return Ok(told);
        }
        let number = ELSEWHERE | u64::from(node.mount) << 32 | u64::from(node.node);
        Ok(FileAttr { ino: INodeNo(number), ..told })
    }

    fn child(&self, parent: INodeNo, name: &OsStr) -> Answer<Option<FileAttr>> {
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let found = self.job.projection.lookup(self.node(parent)?, name.as_bytes());
        self.check(found)?.map(|node| self.attr(node)).transpose()
    }

    /// Tells `add` the entries of a directory, from a position on, until it says that it is full:
    /// number, position of the next, name, kind.
    fn list(
        &self,
        ino: INodeNo,
        from: u64,
        mut add: impl FnMut(&vrift_projection::Entry<'_>) -> Answer<bool>,
    ) -> Answer<()> {
        let mut failed = None;
        let each = |entry: &vrift_projection::Entry<'_>| match add(entry) {
            Ok(full) => !full,
            Err(e) => {
                failed = Some(e);
                false
            }
        };
        self.check(self.job.projection.list(self.node(ino)?, from, each))?;
        failed.map_or(Ok(()), Err)
    }

    /// What is told of an entry of directory `ino`.
    fn attr_of_entry(&self, ino: INodeNo, entry: &vrift_projection::Entry<'_>) -> Answer<FileAttr> {
        let projection = &self.job.projection;
        if !projection.mount(self.mount).is_some_and(Mount::holds_inner) {
            return self.attr(self.node(INodeNo(entry.ino))?);
        }
        // Where mounts lie further in, a number alone doesn't tell what it is of.
        let dir = self.node(ino)?;
        match entry.name {
            b"." => self.attr(dir),
            b".." => match self.check(projection.parent(dir))? {
                Above::Node(above) if !projection.is_mount_point(dir) => self.attr(above),
                _ => self.attr(dir),
            },
            name => self.child(ino, OsStr::from_bytes(name))?.ok_or(Errno::ESTALE),
        }
    }

    fn attribute(&self, ino: INodeNo, name: &OsStr) -> Answer<Vec<u8>> {
        let node = self.node(ino)?;
        nameable(name.as_bytes())?;
        let value = self.check(self.job.projection.xattr(node, name.as_bytes()))?;
        value.map(<[u8]>::to_vec).ok_or(Errno::ENODATA)
    }

    fn attributes(&self, ino: INodeNo) -> Answer<Vec<u8>> {
        let mut names = Vec::new();
        for (name, _) in self.check(self.job.projection.xattrs(self.node(ino)?))? {
            names.extend_from_slice(name);
            names.push(0);
        }
        Ok(names)
    }
}

/// What stat says, in FUSE's form. The device's number is the kernel's.
fn file_attr(attr: &Attr, (uid, gid): (u32, u32)) -> FileAttr {
    let mtime = time(attr.mtime_sec, attr.mtime_nsec);
    FileAttr {
        ino: INodeNo(attr.ino),
        size: attr.size,
        blocks: attr.blocks,
        atime: time(attr.atime.0, attr.atime.1),
        mtime,
        ctime: time(attr.ctime.0, attr.ctime.1),
        // macOS alone.
        crtime: mtime,
        flags: 0,
        kind: kind(attr.kind),
        perm: u16::try_from(attr.mode & 0o7777).unwrap_or(0),
        nlink: attr.nlink,
        uid,
        gid,
        rdev: u32::try_from(attr.rdev).unwrap_or(0),
        blksize: attr.blksize,
    }
}

fn kind(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
        Kind::CharDevice => FileType::CharDevice,
        Kind::BlockDevice => FileType::BlockDevice,
    }
}

fn time(seconds: i64, nanoseconds: u32) -> SystemTime {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let at =
        if seconds < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    at.and_then(|at| at.checked_add(Duration::from_nanos(nanoseconds.into()))).unwrap_or(UNIX_EPOCH)
}

/// That there is no such name: a number that is none, to be kept like any other answer.
const ABSENT: FileAttr = FileAttr {
    ino: INodeNo(0),
    size: 0,
    blocks: 0,
    atime: UNIX_EPOCH,
    mtime: UNIX_EPOCH,
    ctime: UNIX_EPOCH,
    crtime: UNIX_EPOCH,
    kind: FileType::RegularFile,
    perm: 0,
    nlink: 0,
    uid: 0,
    gid: 0,
    rdev: 0,
    blksize: 0,
    flags: 0,
};

/// Which attributes a file can have at all: those that a disk's file system has handlers for
/// (xattr_resolve_name() of fs/xattr.c), where FUSE leaves it to the server.
fn nameable(name: &[u8]) -> Answer<()> {
    const WHOLE: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];
    const BEGUN: [&[u8]; 3] = [b"user.", b"security.", b"trusted."];
    if WHOLE.contains(&name) {
        return Ok(());
    }
    match BEGUN.iter().find(|begun| name.starts_with(begun)) {
        None => Err(Errno::EOPNOTSUPP),
        Some(begun) if begun.len() == name.len() => Err(Errno::EINVAL),
        Some(_) => Ok(()),
    }
}

/// Answers with an extended attribute, or with how much room it takes.
fn give(data: Answer<Vec<u8>>, room: u32, reply: ReplyXattr) {
    match (data, room) {
        (Err(e), _) => reply.error(e),
        (Ok(data), 0) => match u32::try_from(data.len()) {
            Ok(length) => reply.size(length),
            Err(_) => reply.error(Errno::E2BIG),
        },
        (Ok(data), room) if data.len() > room as usize => reply.error(Errno::ERANGE),
        (Ok(data), _) => reply.data(&data),
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
        ] {
            // An older kernel asks more often; the answers are the same.
            if config.add_capabilities(wanted).is_err() {
                tracing::debug!("the mounted file system does without {wanted:?}");
            }
        }
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.child(parent, name) {
            Ok(found) => reply.entry(&EVER, &found.unwrap_or(ABSENT), GENERATION),
            Err(e) => reply.error(e),
        }
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        match self.node(ino).and_then(|node| self.attr(node)) {
            Ok(attr) => reply.attr(&EVER, &attr),
            Err(e) => reply.error(e),
        }
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
        match self.node(ino) {
            Ok(node) => Contents::read(&self.contents, (node, offset, size), req.pid(), reply),
            Err(e) => reply.error(e),
        }
    }

    fn readdir(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let told = self.list(ino, offset, |entry| {
            let (name, attr) = (OsStr::from_bytes(entry.name), self.attr_of_entry(ino, entry)?);
            Ok(reply.add(attr.ino, entry.next, attr.kind, name))
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
        let told = self.list(ino, offset, |entry| {
            let (name, attr) = (OsStr::from_bytes(entry.name), self.attr_of_entry(ino, entry)?);
            Ok(reply.add(attr.ino, entry.next, name, &EVER, &attr, GENERATION))
        });
        match told {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(e),
        }
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let Some(store) = &self.job.store else { return reply.error(Errno::EIO) };
        let found = rustix::fs::fstatvfs(&store.blobs).map_err(|e| format!("the store: {e}"));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_attributes_are_a_disks() {
        assert_eq!(nameable(b"user.x").map_err(Errno::code), Ok(()));
        assert_eq!(nameable(b"system.posix_acl_access").map_err(Errno::code), Ok(()));
        assert_eq!(nameable(b"user.").map_err(Errno::code), Err(libc::EINVAL));
        assert_eq!(nameable(b"odd").map_err(Errno::code), Err(libc::EOPNOTSUPP));
        assert_eq!(nameable(b"system.other").map_err(Errno::code), Err(libc::EOPNOTSUPP));
    }

    #[test]
    fn times_are_what_they_were() {
        assert_eq!(time(0, 5), UNIX_EPOCH + Duration::from_nanos(5));
        assert_eq!(time(-5, 1_000), UNIX_EPOCH - Duration::from_secs(5) + Duration::from_micros(1));
        // Of a crafted manifest: no panic.
        let _ = (time(i64::MIN, 0), time(i64::MAX, 999_999_999));
    }
}
