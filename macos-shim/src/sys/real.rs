//! The core's questions to the system: libSystem's originals, which this library's own calls keep.

use super::last_error;
use core::ffi::{CStr, c_int};
use core::mem::MaybeUninit;
use vrift_macos_es::shim::{Identity, Sys, kind};
use vrift_policy::{Errno, Target};

pub struct Darwin;

/// What a call says.
pub fn checked(value: c_int) -> Result<c_int, Errno> {
    if value == -1 { Err(last_error()) } else { Ok(value) }
}

pub fn fstat(fd: c_int) -> Result<libc::stat, Errno> {
    let mut stat = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: the buffer is a stat's.
    checked(unsafe { libc::fstat(fd, stat.as_mut_ptr()) })?;
    // SAFETY: the kernel has filled it; zeroed, it would be valid too.
    Ok(unsafe { stat.assume_init() })
}

pub fn lstat(path: &CStr) -> Result<libc::stat, Errno> {
    let mut stat = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: the path ends, and the buffer is a stat's.
    checked(unsafe { libc::lstat(path.as_ptr(), stat.as_mut_ptr()) })?;
    // SAFETY: as above.
    Ok(unsafe { stat.assume_init() })
}

/// The path of an open file.
pub fn path_of(fd: c_int, out: &mut [u8]) -> Result<usize, Errno> {
    // F_GETPATH writes up to MAXPATHLEN bytes, whatever room there is.
    if out.len() < libc::PATH_MAX as usize {
        return Err(Errno::ENAMETOOLONG);
    }
    out[0] = 0;
    // SAFETY: the buffer has MAXPATHLEN bytes.
    checked(unsafe { libc::fcntl(fd, libc::F_GETPATH, out.as_mut_ptr()) })?;
    let length = out.iter().position(|&byte| byte == 0).ok_or(Errno::ENAMETOOLONG)?;
    if out.first() == Some(&b'/') { Ok(length) } else { Err(Errno::EBADF) }
}

/// `O_EVTONLY`: a descriptor that may do nothing, for which no right to read is asked.
const O_EVTONLY: c_int = 0x8000;

impl Sys for Darwin {
    fn read_link(&self, path: &CStr, out: &mut [u8]) -> Result<usize, Errno> {
        // SAFETY: the path ends, and the buffer has that length.
        let length = unsafe { libc::readlink(path.as_ptr(), out.as_mut_ptr().cast(), out.len()) };
        usize::try_from(length).map_err(|_| last_error())
    }

    fn descriptor_path(&self, fd: i32, out: &mut [u8]) -> Result<usize, Errno> {
        path_of(fd, out)
    }

    fn current_path(&self, out: &mut [u8]) -> Result<usize, Errno> {
        // SAFETY: the path ends.
        let fd = checked(unsafe { libc::open(c".".as_ptr(), O_EVTONLY | libc::O_CLOEXEC) })?;
        let length = path_of(fd, out);
        // SAFETY: it was opened above.
        unsafe { libc::close(fd) };
        length
    }

    fn identity(&self, fd: i32) -> Result<Identity, Errno> {
        let stat = fstat(fd)?;
        Ok(Identity { dev: u64::from(stat.st_dev.cast_unsigned()), ino: stat.st_ino })
    }

    fn kind(&self, path: &CStr) -> Result<Target, Errno> {
        kind(path, |path| lstat(path).map(|stat| stat.st_mode.into()))
    }

    fn user(&self) -> u32 {
        // SAFETY: it takes nothing and always succeeds.
        unsafe { libc::geteuid() }
    }
}
