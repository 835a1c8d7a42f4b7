//! Reading links without allocating: the hot part of asking /proc about a task.

use nix::errno::Errno;
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Room for one link's text. /proc gives at most a page.
pub type PathBuffer = [u8; 4096];

/// A path below /proc such as `1234/fd/7`, made on the stack.
pub struct ProcName {
    bytes: [u8; 64],
}

impl ProcName {
    /// `TID/ENTRY`; `entry` is short (at most 32 bytes).
    pub fn of(tid: i32, entry: &[u8]) -> ProcName {
        let mut name = ProcName { bytes: [0; 64] };
        let at = name.number(0, tid);
        name.text(at, entry);
        name
    }

    /// `TID/fd/FD`.
    pub fn of_fd(tid: i32, fd: i32) -> ProcName {
        let mut name = ProcName { bytes: [0; 64] };
        let at = name.number(0, tid);
        let at = name.text(at, b"fd/");
        // The trailing slash of `number` would follow the link: cut it off.
        let end = name.number(at, fd);
        name.bytes[end - 1] = 0;
        name
    }

    /// Writes `n` and a slash at `at`; returns the end.
    fn number(&mut self, at: usize, n: i32) -> usize {
        let mut digits = [0u8; 10];
        let mut rest = n.unsigned_abs();
        let mut first = digits.len();
        loop {
            first -= 1;
            digits[first] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        let end = at + digits.len() - first;
        self.bytes[at..end].copy_from_slice(&digits[first..]);
        self.bytes[end] = b'/';
        end + 1
    }

    fn text(&mut self, at: usize, text: &[u8]) -> usize {
        let end = (at + text.len()).min(self.bytes.len() - 1);
        self.bytes[at..end].copy_from_slice(&text[..end - at]);
        end
    }

    fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or(c"")
    }
}

/// readlinkat(2) below `dir` into `buf`.
pub fn read_link<'b>(
    dir: BorrowedFd<'_>,
    name: &ProcName,
    buf: &'b mut PathBuffer,
) -> Result<&'b [u8], Errno> {
    read_link_at(dir, name.as_c_str(), buf)
}

/// readlinkat(2) into `buf`; the text may have been cut at the buffer's end.
pub fn read_link_at<'b>(
    dir: BorrowedFd<'_>,
    path: &CStr,
    buf: &'b mut PathBuffer,
) -> Result<&'b [u8], Errno> {
    // SAFETY: `path` is a C string and the kernel writes at most `buf.len()` bytes to `buf`.
    let n = unsafe {
        libc::readlinkat(dir.as_raw_fd(), path.as_ptr(), buf.as_mut_ptr().cast(), buf.len())
    };
    let n = usize::try_from(Errno::result(n)?).unwrap_or(0);
    Ok(&buf[..n])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_proc_expects() {
        assert_eq!(ProcName::of(1234, b"cwd").as_c_str(), c"1234/cwd");
        assert_eq!(ProcName::of_fd(7, 0).as_c_str(), c"7/fd/0");
        assert_eq!(ProcName::of_fd(2_147_483_647, 1_000_000).as_c_str(), c"2147483647/fd/1000000");
    }
}
