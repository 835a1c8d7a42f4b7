//! Whether anybody could write to a file: what a lease (fcntl(2), `F_SETLEASE`) is refused for.

use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `F_SETSIG` of asm-generic/fcntl.h, which the libc crate lacks.
const F_SETSIG: libc::c_int = 10;

/// Has anybody the file open for writing, or mapped so? `file` is open for reading alone. For the
/// moment it has a lease, so that who opens it without waiting (`O_NONBLOCK`) may be told EAGAIN.
///
/// # Errors
/// The file system has no leases, or the file is another user's (`CAP_LEASE`).
pub fn is_open_for_writing(file: BorrowedFd<'_>) -> Result<bool, Errno> {
    let set = |command: libc::c_int, value: libc::c_int| {
        // SAFETY: the descriptor is open; both commands take an integer and touch no memory.
        Errno::result(unsafe { libc::fcntl(file.as_raw_fd(), command, value) })
    };
    // Who breaks the lease has us told by a signal, which is to be one that is ignored.
    set(F_SETSIG, libc::SIGURG)?;
    match set(libc::F_SETLEASE, libc::F_RDLCK) {
        Ok(_) => set(libc::F_SETLEASE, libc::F_UNLCK).map(|_| false),
        Err(Errno::EAGAIN) => Ok(true),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::is_open_for_writing;
    use std::fs::File;
    use std::os::fd::AsFd;

    #[test]
    fn who_may_write_is_seen() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("f");
        let writer = File::create(&path).expect("create");
        let reader = File::open(&path).expect("open");
        let another = File::open(&path).expect("open");
        assert_eq!(is_open_for_writing(reader.as_fd()), Ok(true));
        drop(writer);
        assert_eq!(is_open_for_writing(reader.as_fd()), Ok(false));
        // It holds nobody up afterwards.
        let writer = File::options().append(true).open(&path).expect("open again");
        assert_eq!(is_open_for_writing(another.as_fd()), Ok(true));
        drop(writer);
    }
}
