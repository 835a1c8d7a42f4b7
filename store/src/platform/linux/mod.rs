//! Linux: statx(2), O_TMPFILE, FICLONE, FS_IMMUTABLE_FL, fs-verity, syncfs(2).

mod sys;

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    self, AtFlags, CWD, FileType, IFlags, Mode, OFlags, Stat, StatxAttributes, StatxFlags,
    ioctl_getflags, ioctl_setflags,
};
use rustix::io::Errno;

use super::{Link, Looked};
pub(crate) use sys::enable_verity;

/// What a file system says that hasn't got something.
pub(crate) const UNSUPPORTED: Errno = Errno::OPNOTSUPP;
/// What is said of an extended attribute that isn't there.
pub(crate) const NO_XATTR: Errno = Errno::NODATA;

/// Only a file's owner may ask for its access time to stay: else EPERM.
pub(crate) const KEEP_ACCESS_TIME: OFlags = OFlags::NOATIME;

/// `st_dev`.
pub(crate) fn device_of(stat: &Stat) -> u64 {
    stat.st_dev
}

/// The entries of an open directory, from its beginning.
pub(crate) fn entries(dir: &OwnedFd) -> Result<Vec<(CString, FileType)>, Errno> {
    let mut entries = Vec::new();
    fs::seek(dir, fs::SeekFrom::Start(0))?;
    // On the descriptor itself: a second one would be opened without O_NOATIME.
    let mut buffer = [MaybeUninit::uninit(); 32 << 10];
    let mut listing = fs::RawDir::new(dir, &mut buffer);
    while let Some(entry) = listing.next() {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            entries.push((entry.file_name().to_owned(), entry.file_type()));
        }
    }
    Ok(entries)
}

/// Reads a link. An error says what was tried.
pub(crate) fn link(dir: &OwnedFd, name: &CStr) -> Result<Link, (&'static str, Errno)> {
    // Through one descriptor, so that time and target are those of one link.
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = fs::openat(dir, name, flags, Mode::empty()).map_err(|errno| ("open", errno))?;
    let stat = fs::fstat(&fd).map_err(|errno| ("look at", errno))?;
    match fs::readlinkat(&fd, c"", Vec::new()) {
        Err(Errno::NOENT | Errno::INVAL) => Ok(None),
        target => Ok(Some((stat, target.map_err(|errno| ("read the target of", errno))?))),
    }
}

/// Looks at a file in a directory, never following a link.
pub(crate) fn look(dir: impl AsFd, name: &[u8]) -> Result<Looked, Errno> {
    let wanted = StatxFlags::TYPE | StatxFlags::MTIME | StatxFlags::SIZE | StatxFlags::BLOCKS;
    let stat = fs::statx(dir, name, AtFlags::SYMLINK_NOFOLLOW, wanted)?;
    Ok(Looked {
        mode: stat.stx_mode.into(),
        size: stat.stx_size,
        disk: stat.stx_blocks * 512,
        mtime: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
        immutable: stat.stx_attributes.contains(StatxAttributes::IMMUTABLE),
    })
}

/// A file without a name, in the file system of `tmp` below `root`.
pub(crate) fn unnamed(root: BorrowedFd<'_>, mode: Mode) -> Result<OwnedFd, Errno> {
    fs::openat(root, "tmp", OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode)
}

/// Gives a file without a name one.
pub(crate) fn name_unnamed(file: &File, root: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
    let from = format!("/proc/self/fd/{}", file.as_raw_fd());
    fs::linkat(CWD, from, root, name, AtFlags::SYMLINK_FOLLOW)
}

/// Makes `to` share the extents of `from`.
pub(crate) fn share_extents(from: &File, to: &File) -> Result<(), Errno> {
    fs::ioctl_ficlone(to, from)
}

/// Waits until all of a file system is on the disk.
pub(crate) fn sync_file_system(of: BorrowedFd<'_>) -> Result<(), Errno> {
    fs::syncfs(of)
}

/// Has the file FS_IMMUTABLE_FL? Not where there is no such flag.
pub(crate) fn is_immutable(file: &File) -> bool {
    let stat = fs::statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::empty());
    stat.is_ok_and(|stat| stat.stx_attributes.contains(StatxAttributes::IMMUTABLE))
}

/// Sets or clears FS_IMMUTABLE_FL, and says whether it was otherwise before.
pub(crate) fn set_immutable(file: &File, immutable: bool) -> io::Result<bool> {
    let mut flags = ioctl_getflags(file)?;
    if flags.contains(IFlags::IMMUTABLE) == immutable {
        return Ok(false);
    }
    flags.set(IFlags::IMMUTABLE, immutable);
    ioctl_setflags(file, flags)?;
    Ok(true)
}
