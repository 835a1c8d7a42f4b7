//! Answers in FUSE's form: attributes, names of extended attributes, errors.

use fuser::{Errno, FileAttr, FileType, INodeNo, ReplyXattr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use vrift_projection::{Attr, Kind};

/// What the kernel is told, or why not.
pub type Answer<T> = Result<T, Errno>;

/// An errno of ours.
pub fn errno(e: vrift_policy::Errno) -> Errno {
    Errno::from_i32(e.raw())
}

/// What the file system said.
pub fn os(e: rustix::io::Errno) -> Errno {
    Errno::from_i32(e.raw_os_error())
}

/// What stat says, in FUSE's form. The device's number is the kernel's.
pub fn file_attr(attr: &Attr, (uid, gid): (u32, u32)) -> FileAttr {
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

pub fn kind(kind: Kind) -> FileType {
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

pub fn time(seconds: i64, nanoseconds: u32) -> SystemTime {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let at =
        if seconds < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    at.and_then(|at| at.checked_add(Duration::from_nanos(nanoseconds.into()))).unwrap_or(UNIX_EPOCH)
}

/// That there is no such name: a number that is none, to be kept like any other answer.
pub const ABSENT: FileAttr = FileAttr {
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
pub fn nameable(name: &[u8]) -> Answer<()> {
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
pub fn give(data: Answer<Vec<u8>>, room: u32, reply: ReplyXattr) {
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
