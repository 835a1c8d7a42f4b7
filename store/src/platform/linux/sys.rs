//! Switching on fs-verity, for which no library of ours has a call.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// `_IOW('f', 133, struct fsverity_enable_arg)`, include/uapi/linux/fsverity.h.
const FS_IOC_ENABLE_VERITY: libc::c_ulong = 0x4080_6685;
/// FS_VERITY_HASH_ALG_SHA256.
const SHA256: u32 = 1;
/// What every file system that has fs-verity knows.
const BLOCK: u32 = 4096;

/// `struct fsverity_enable_arg`.
#[repr(C)]
struct EnableArg {
    version: u32,
    hash_algorithm: u32,
    block_size: u32,
    salt_size: u32,
    salt_ptr: u64,
    sig_size: u32,
    reserved1: u32,
    sig_ptr: u64,
    reserved2: [u64; 11],
}

/// Switches fs-verity on for a file that nobody has open for writing, and says whether it was off.
/// See Documentation/filesystems/fsverity.rst of the kernel.
pub(crate) fn enable_verity(file: &File) -> io::Result<bool> {
    let arg = EnableArg {
        version: 1,
        hash_algorithm: SHA256,
        block_size: BLOCK,
        salt_size: 0,
        salt_ptr: 0,
        sig_size: 0,
        reserved1: 0,
        sig_ptr: 0,
        reserved2: [0; 11],
    };
    // SAFETY: the descriptor is open as long as `file` is, and the kernel reads 128 bytes at the
    // pointer, which are `arg`, and keeps none of it. The pointers in it are null, their sizes 0.
    #[allow(clippy::useless_conversion, clippy::cast_possible_truncation, reason = "musl's type")]
    let result =
        unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_ENABLE_VERITY as _, &raw const arg) };
    if result == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
        error => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_argument_is_as_long_as_its_number_says() {
        assert_eq!(size_of::<EnableArg>() as libc::c_ulong, FS_IOC_ENABLE_VERITY >> 16 & 0x3fff);
    }
}
