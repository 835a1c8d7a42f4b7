//! A path in a buffer of a fixed size, on the stack.

use core::ffi::CStr;
use vrift_policy::Errno;

/// Bytes of a buffer: Linux's `PATH_MAX`, which is the larger of the two, its NUL included.
pub const CAPACITY: usize = 4096;

/// Bytes that are added to at either end. What does not fit is ENAMETOOLONG.
pub struct PathBuffer {
    bytes: [u8; CAPACITY],
    start: usize,
    end: usize,
}

impl Default for PathBuffer {
    fn default() -> PathBuffer {
        PathBuffer::new()
    }
}

impl PathBuffer {
    /// An empty one.
    #[must_use]
    pub const fn new() -> PathBuffer {
        PathBuffer { bytes: [0; CAPACITY], start: 0, end: 0 }
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Takes all bytes away; what is added next may be added at the end.
    pub fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// Adds bytes behind the last one.
    ///
    /// # Errors
    /// ENAMETOOLONG; the buffer is then as it was.
    pub fn push(&mut self, part: &[u8]) -> Result<(), Errno> {
        let end = self.end + part.len();
        // The last byte is the NUL's.
        let room = self.bytes[..CAPACITY - 1].get_mut(self.end..end);
        room.ok_or(Errno::ENAMETOOLONG)?.copy_from_slice(part);
        self.end = end;
        Ok(())
    }

    /// Takes all bytes away; what is added next is to be added in front.
    pub fn clear_for_front(&mut self) {
        (self.start, self.end) = (CAPACITY - 1, CAPACITY - 1);
    }

    /// Adds bytes in front of the first one.
    ///
    /// # Errors
    /// ENAMETOOLONG; the buffer is then as it was.
    pub fn push_front(&mut self, part: &[u8]) -> Result<(), Errno> {
        let start = self.start.checked_sub(part.len()).ok_or(Errno::ENAMETOOLONG)?;
        self.bytes[start..self.start].copy_from_slice(part);
        self.start = start;
        Ok(())
    }

    /// Takes the first `count` bytes away, or all.
    pub fn drop_front(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }

    /// Keeps the first `length` bytes.
    pub fn truncate(&mut self, length: usize) {
        self.end = self.end.min(self.start + length);
    }

    /// Has the system write a path: `write` is given all the room and says how much it took.
    ///
    /// # Errors
    /// What `write` says; ENAMETOOLONG if it filled the room, so that some may be missing.
    pub fn fill(
        &mut self,
        write: impl FnOnce(&mut [u8]) -> Result<usize, Errno>,
    ) -> Result<(), Errno> {
        self.clear();
        let length = write(&mut self.bytes)?;
        if length >= CAPACITY {
            return Err(Errno::ENAMETOOLONG);
        }
        self.end = length;
        Ok(())
    }

    /// The path as the system takes it.
    ///
    /// # Errors
    /// ENOENT where a NUL stands in it: no file has such a name.
    pub fn c_str(&mut self) -> Result<&CStr, Errno> {
        // `push` and `fill` leave room for it.
        self.bytes[self.end] = 0;
        CStr::from_bytes_with_nul(&self.bytes[self.start..=self.end]).map_err(|_| Errno::ENOENT)
    }
}

#[cfg(test)]
mod tests {
    use super::{CAPACITY, PathBuffer};
    use vrift_policy::Errno;

    #[test]
    fn both_ends_are_full_at_the_same_length() {
        let mut buffer = PathBuffer::new();
        buffer.push(&[b'a'; CAPACITY - 1]).expect("the longest path");
        assert_eq!(buffer.push(b"b"), Err(Errno::ENAMETOOLONG));
        assert_eq!(buffer.bytes().len(), CAPACITY - 1);
        assert_eq!(buffer.c_str().map(core::ffi::CStr::count_bytes), Ok(CAPACITY - 1));
        buffer.clear_for_front();
        assert!(buffer.is_empty());
        buffer.push_front(&[b'a'; CAPACITY - 1]).expect("the longest path");
        assert_eq!(buffer.push_front(b"b"), Err(Errno::ENAMETOOLONG));
        assert_eq!(buffer.c_str().map(core::ffi::CStr::count_bytes), Ok(CAPACITY - 1));
    }

    #[test]
    fn the_front_is_spliced() {
        let mut buffer = PathBuffer::new();
        buffer.clear_for_front();
        buffer.push_front(b"link/c").expect("room");
        buffer.drop_front(5);
        buffer.push_front(b"a/b/").expect("room");
        assert_eq!(buffer.bytes(), b"a/b/c");
        buffer.truncate(3);
        assert_eq!(buffer.bytes(), b"a/b");
        buffer.drop_front(9);
        assert!(buffer.is_empty());
    }

    #[test]
    fn what_the_system_cut_is_not_taken_for_whole() {
        let mut buffer = PathBuffer::new();
        assert_eq!(buffer.fill(|room| Ok(room.len())), Err(Errno::ENAMETOOLONG));
        let four = |room: &mut [u8]| {
            room[..4].copy_from_slice(b"/a\0b");
            Ok(4)
        };
        buffer.fill(four).expect("room");
        assert_eq!(buffer.c_str(), Err(Errno::ENOENT));
    }
}
