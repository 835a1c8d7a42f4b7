//! What the core has to ask of the system: the real calls, behind a trait, so that they can be
//! libSystem's originals, libc's, or a test's.

use super::buffer::CAPACITY;
use core::ffi::CStr;
use vrift_policy::{Errno, Target};

/// The bits of `st_mode` that say what a file is, the same on all systems.
const S_IFMT: u32 = 0o170_000;
const S_IFDIR: u32 = 0o040_000;
const S_IFLNK: u32 = 0o120_000;

/// What tells an open file from another: `st_dev` and `st_ino`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `st_dev`.
    pub dev: u64,
    /// `st_ino`.
    pub ino: u64,
}

/// Where a relative path begins.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// The current directory: `AT_FDCWD`, and calls without a directory descriptor.
    Current,
    /// An open directory.
    Descriptor(i32),
}

/// The real calls. None of them may allocate, lock, or come back into the shim.
pub trait Sys {
    /// readlink(2) of an absolute path without links but for its last component. How many bytes
    /// were written; all of `out` if it may have been cut.
    ///
    /// # Errors
    /// The system's; EINVAL if it is no link.
    fn read_link(&self, path: &CStr, out: &mut [u8]) -> Result<usize, Errno>;

    /// The absolute path of an open file (`F_GETPATH`; on Linux the link in /proc).
    ///
    /// # Errors
    /// EBADF, or whatever says that it is none with a path: a socket, a pipe, a deleted file.
    fn descriptor_path(&self, fd: i32, out: &mut [u8]) -> Result<usize, Errno>;

    /// The absolute path of the current directory.
    ///
    /// # Errors
    /// The system's.
    fn current_path(&self, out: &mut [u8]) -> Result<usize, Errno>;

    /// fstat(2).
    ///
    /// # Errors
    /// The system's; EBADF above all.
    fn identity(&self, fd: i32) -> Result<Identity, Errno>;

    /// lstat(2) of an absolute path; [`Target::Missing`] where nothing stands there, in a directory
    /// that does. What is neither directory nor link is a [`Target::File`].
    ///
    /// # Errors
    /// The system's; ENOENT and ENOTDIR for what lies above the last component.
    fn kind(&self, path: &CStr) -> Result<Target, Errno>;

    /// The effective user id.
    fn user(&self) -> u32;
}

/// What [`Sys::kind`] says, by `st_mode` of lstat(2).
///
/// # Errors
/// As there.
pub fn kind(path: &CStr, mode: impl Fn(&CStr) -> Result<u32, Errno>) -> Result<Target, Errno> {
    match mode(path) {
        Ok(mode) => Ok(match mode & S_IFMT {
            S_IFDIR => Target::Directory,
            S_IFLNK => Target::Symlink,
            _ => Target::File,
        }),
        // Which of the two is missing: it, or the directory?
        Err(Errno::ENOENT) => {
            let bytes = path.to_bytes();
            let slash = bytes.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
            let above = bytes.get(..slash.max(1)).ok_or(Errno::ENOENT)?;
            let mut dir = [0u8; CAPACITY];
            dir.get_mut(..above.len()).ok_or(Errno::ENAMETOOLONG)?.copy_from_slice(above);
            let dir = CStr::from_bytes_until_nul(&dir).map_err(|_| Errno::ENAMETOOLONG)?;
            mode(dir).map(|_| Target::Missing)
        }
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::kind;
    use core::ffi::CStr;
    use vrift_policy::{Errno, Target};

    fn asked(path: &CStr) -> Result<Target, Errno> {
        kind(path, |path| match path.to_bytes() {
            b"/" | b"/d" => Ok(0o040_755),
            b"/d/link" => Ok(0o120_777),
            b"/d/file" => Ok(0o104_755),
            b"/d/socket" => Ok(0o140_777),
            b"/d/file/x" => Err(Errno::ENOTDIR),
            _ => Err(Errno::ENOENT),
        })
    }

    #[test]
    fn what_is_missing_is_told_from_what_lies_in_a_missing_directory() {
        for (path, expected) in [
            (c"/", Ok(Target::Directory)),
            (c"/d/link", Ok(Target::Symlink)),
            (c"/d/file", Ok(Target::File)),
            (c"/d/socket", Ok(Target::File)),
            (c"/d/none", Ok(Target::Missing)),
            (c"/none", Ok(Target::Missing)),
            (c"/none/x", Err(Errno::ENOENT)),
            (c"/d/file/x", Err(Errno::ENOTDIR)),
            (c"", Err(Errno::ENOENT)),
        ] {
            assert_eq!(asked(path), expected, "{path:?}");
        }
        let long = [&b"/"[..], &[b'x'; 5000], b"/y\0"].concat();
        let long = CStr::from_bytes_with_nul(&long).expect("it ends");
        assert_eq!(asked(long), Err(Errno::ENAMETOOLONG));
    }
}
