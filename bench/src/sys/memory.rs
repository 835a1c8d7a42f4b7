//! The memory of a task that waits for an answer: one system call for each read and each write.

use std::io;

use super::check;

/// Reads up to `buffer.len()` bytes at `address` of task `tid`; the number that was read.
///
/// Less than asked for means that the mapping ends there, which is how a short string at the end
/// of a stack or heap looks.
///
/// # Errors
/// `EFAULT` when nothing is there, `EPERM` when the task may not be traced, `ESRCH` when it is gone.
pub fn read(tid: u32, address: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let remote = remote(address, buffer.len())?;
    // SAFETY: `local` is exactly `buffer`, which is ours alone for the call; the remote side is
    // never dereferenced here.
    let count = check(unsafe {
        libc::process_vm_readv(pid(tid)?, &raw const local, 1, &raw const remote, 1, 0)
    } as libc::c_long)?;
    usize::try_from(count).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Writes all of `bytes` at `address` of task `tid`.
///
/// # Errors
/// As for [`read`]; a part that could not be written is `EFAULT`.
pub fn write(tid: u32, address: u64, bytes: &[u8]) -> io::Result<()> {
    let local = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let remote = remote(address, bytes.len())?;
    // SAFETY: the kernel only reads from `local`, which is exactly `bytes`; the remote side is
    // never dereferenced here.
    let count = check(unsafe {
        libc::process_vm_writev(pid(tid)?, &raw const local, 1, &raw const remote, 1, 0)
    } as libc::c_long)?;
    if usize::try_from(count) == Ok(bytes.len()) {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::EFAULT))
    }
}

fn pid(tid: u32) -> io::Result<libc::pid_t> {
    libc::pid_t::try_from(tid).map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn remote(address: u64, len: usize) -> io::Result<libc::iovec> {
    let address =
        usize::try_from(address).map_err(|_| io::Error::from_raw_os_error(libc::EFAULT))?;
    Ok(libc::iovec { iov_base: std::ptr::without_provenance_mut(address), iov_len: len })
}
