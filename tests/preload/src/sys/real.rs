//! The core's questions to the system, by raw system calls: nothing of libc's comes back here.

use libc::{c_int, c_long, syscall};
use std::ffi::CStr;
use std::mem::MaybeUninit;
use vrift_macos_es::shim::{Identity, Sys, kind};
use vrift_policy::{Errno, Target};

pub struct Linux;

/// What a raw call says.
fn result(value: c_long) -> Result<usize, Errno> {
    usize::try_from(value).map_err(|_| super::last_error())
}

fn read_link(path: &CStr, out: &mut [u8]) -> Result<usize, Errno> {
    let (at, length) = (libc::AT_FDCWD, out.len());
    // SAFETY: the path ends, and the buffer has that length.
    result(unsafe { syscall(libc::SYS_readlinkat, at, path.as_ptr(), out.as_mut_ptr(), length) })
}

pub fn fstat(fd: c_int) -> Result<libc::stat, Errno> {
    let mut stat = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: the buffer is a stat's.
    result(unsafe { syscall(libc::SYS_fstat, fd, stat.as_mut_ptr()) })?;
    // SAFETY: the kernel has filled it; zeroed, it would be valid too.
    Ok(unsafe { stat.assume_init() })
}

fn lstat(path: &CStr) -> Result<libc::stat, Errno> {
    let mut stat = MaybeUninit::<libc::stat>::zeroed();
    let (at, flags) = (libc::AT_FDCWD, libc::AT_SYMLINK_NOFOLLOW);
    // SAFETY: the path ends, and the buffer is a stat's.
    result(unsafe { syscall(libc::SYS_newfstatat, at, path.as_ptr(), stat.as_mut_ptr(), flags) })?;
    // SAFETY: as above.
    Ok(unsafe { stat.assume_init() })
}

impl Sys for Linux {
    fn read_link(&self, path: &CStr, out: &mut [u8]) -> Result<usize, Errno> {
        read_link(path, out)
    }

    fn descriptor_path(&self, fd: i32, out: &mut [u8]) -> Result<usize, Errno> {
        // "/proc/self/fd/" and the number, without an allocation.
        let mut name = *b"/proc/self/fd/0000000000\0";
        let mut number = u32::try_from(fd).map_err(|_| Errno::EBADF)?;
        let mut digits = [0u8; 10];
        let mut count = 0;
        loop {
            digits[count] = b'0' + u8::try_from(number % 10).unwrap_or(0);
            number /= 10;
            count += 1;
            if number == 0 {
                break;
            }
        }
        for (to, from) in name[14..].iter_mut().zip(digits[..count].iter().rev()) {
            *to = *from;
        }
        name[14 + count] = 0;
        let path = CStr::from_bytes_until_nul(&name).map_err(|_| Errno::EBADF)?;
        let length = read_link(path, out).map_err(|errno| match errno {
            Errno::ENOENT => Errno::EBADF,
            errno => errno,
        })?;
        // A socket, a pipe: no path.
        if out.first() == Some(&b'/') { Ok(length) } else { Err(Errno::EBADF) }
    }

    fn current_path(&self, out: &mut [u8]) -> Result<usize, Errno> {
        // SAFETY: the buffer has that length. The kernel counts the NUL.
        let length = result(unsafe { syscall(libc::SYS_getcwd, out.as_mut_ptr(), out.len()) })?;
        Ok(length.saturating_sub(1))
    }

    fn identity(&self, fd: i32) -> Result<Identity, Errno> {
        fstat(fd).map(|stat| Identity { dev: stat.st_dev, ino: stat.st_ino })
    }

    fn kind(&self, path: &CStr) -> Result<Target, Errno> {
        kind(path, |path| lstat(path).map(|stat| stat.st_mode))
    }

    fn user(&self) -> u32 {
        // SAFETY: it takes nothing and always succeeds.
        unsafe { libc::geteuid() }
    }
}
