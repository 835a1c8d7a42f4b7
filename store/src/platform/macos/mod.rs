//! macOS. It has no files without a name, and clonefile(2) makes a new file only, never fills one
//! that is there; so drafts have names, and content is copied. Nothing like fs-verity is to be had.

mod sys;

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::darwin::fs::MetadataExt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::{Link, Looked};

/// What a file system says that hasn't got something. (EOPNOTSUPP is another number here, and the
/// sockets' alone.)
pub(crate) const UNSUPPORTED: Errno = Errno::NOTSUP;
/// What is said of an extended attribute that isn't there: ENOATTR.
pub(crate) const NO_XATTR: Errno = Errno::NOATTR;

/// There is no such flag.
pub(crate) const KEEP_ACCESS_TIME: OFlags = OFlags::empty();

/// `st_dev`, whose 32 bits are as good as another number.
pub(crate) fn device_of(stat: &Stat) -> u64 {
    u64::from(stat.st_dev.cast_unsigned())
}

/// The entries of an open directory, from its beginning.
pub(crate) fn entries(dir: &OwnedFd) -> Result<Vec<(CString, FileType)>, Errno> {
    let mut entries = Vec::new();
    for entry in fs::Dir::read_from(dir)? {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            entries.push((entry.file_name().to_owned(), entry.file_type()));
        }
    }
    Ok(entries)
}

/// Reads a link, looked at before and after: a descriptor of one tells its target from macOS 13 on only.
/// An error says what was tried.
pub(crate) fn link(dir: &OwnedFd, name: &CStr) -> Result<Link, (&'static str, Errno)> {
    let look = || {
        let stat = fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW);
        stat.map_err(|errno| ("look at", errno))
    };
    let before = look()?;
    let target = match fs::readlinkat(dir, name, Vec::new()) {
        Err(Errno::NOENT | Errno::INVAL) => return Ok(None),
        target => target.map_err(|errno| ("read the target of", errno))?,
    };
    let same = (before.st_dev, before.st_ino) == {
        let after = look()?;
        (after.st_dev, after.st_ino)
    };
    Ok(same.then_some((before, target)))
}

/// Looks at a file in a directory, never following a link.
pub(crate) fn look(dir: impl AsFd, name: &[u8]) -> Result<Looked, Errno> {
    let stat = fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(Looked {
        mode: stat.st_mode,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        disk: u64::try_from(stat.st_blocks).unwrap_or(0) * 512,
        mtime: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
        immutable: stat.st_flags & IMMUTABLE != 0,
    })
}

/// UF_IMMUTABLE, which the owner sets and clears, and SF_IMMUTABLE, which root sets.
const IMMUTABLE: u32 = libc::UF_IMMUTABLE | libc::SF_IMMUTABLE;

/// There are none.
pub(crate) fn unnamed(_root: BorrowedFd<'_>, _mode: Mode) -> Result<OwnedFd, Errno> {
    Err(UNSUPPORTED)
}

/// There are none.
pub(crate) fn name_unnamed(_file: &File, _root: BorrowedFd<'_>, _name: &str) -> Result<(), Errno> {
    Err(UNSUPPORTED)
}

/// A file that is there can't be made to.
pub(crate) fn share_extents(_from: &File, _to: &File) -> Result<(), Errno> {
    Err(UNSUPPORTED)
}

/// Waits until all of a file system is on the disk. sync(2) hands everything to the drive, and
/// F_FULLFSYNC has it write what it keeps in memory.
pub(crate) fn sync_file_system(of: BorrowedFd<'_>) -> Result<(), Errno> {
    fs::sync();
    match fs::fcntl_fullfsync(of) {
        // A file system on another machine: fsync(2) is all it has.
        Err(UNSUPPORTED | Errno::NOTTY | Errno::INVAL) => fs::fsync(of),
        result => result,
    }
}

/// Has the file such a flag?
pub(crate) fn is_immutable(file: &File) -> bool {
    file.metadata().is_ok_and(|meta| meta.st_flags() & IMMUTABLE != 0)
}

/// Sets or clears UF_IMMUTABLE, and says whether it was otherwise before.
pub(crate) fn set_immutable(file: &File, immutable: bool) -> io::Result<bool> {
    let flags = file.metadata()?.st_flags();
    if (flags & libc::UF_IMMUTABLE != 0) == immutable {
        return Ok(false);
    }
    sys::set_flags(file, flags ^ libc::UF_IMMUTABLE)?;
    Ok(true)
}

/// There is nothing like it.
pub(crate) fn enable_verity(_file: &File) -> io::Result<bool> {
    Err(UNSUPPORTED.into())
}
