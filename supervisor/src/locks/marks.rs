//! By which path a descriptor of content that several paths have was opened: a lock on a byte that
//! stands for the path.

use super::{MARKS, information, name_of, number, os_errno, records, set};
use nix::errno::Errno;
use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::sync::{Mutex, PoisonError};
use vrift_projection::NodeRef;
use vrift_store::Hash;

/// The marks that a job sets.
pub struct Marks {
    /// So many of one content may there be at once, and not many more: the kernel looks at each of
    /// them whenever one is set, and whenever a task closes one.
    most: usize,
    /// After so many openings of one content it is looked how many there are.
    look: u32,
    by_blob: Mutex<HashMap<Hash, Openings>>,
}

#[derive(Default)]
struct Openings {
    /// How many there were, the closed ones too.
    all: u32,
    /// There were too many marks when they were last counted.
    full: bool,
}

impl Default for Marks {
    fn default() -> Marks {
        Marks { most: 4096, look: 1024, by_blob: Mutex::default() }
    }
}

impl Marks {
    /// Marks the new description of `fd`, which has the content `hash`, as one of `node` in the
    /// mount with this device number, unless very many of that content are open.
    pub fn mark(
        &self,
        hash: &Hash,
        fd: BorrowedFd<'_>,
        (minor, node): (u32, NodeRef),
    ) -> Result<(), Errno> {
        if self.is_full(hash, fd)? {
            return Ok(());
        }
        set(fd, libc::F_RDLCK, MARKS | number(minor, node.node))
    }

    fn is_full(&self, hash: &Hash, fd: BorrowedFd<'_>) -> Result<bool, Errno> {
        let mut by_blob = self.by_blob.lock().unwrap_or_else(PoisonError::into_inner);
        let openings = by_blob.entry(*hash).or_default();
        openings.all = openings.all.wrapping_add(1);
        if openings.all.is_multiple_of(self.look) {
            openings.full = count(fd)? > self.most;
        }
        Ok(openings.full)
    }
}

/// How many locks there are on the file of `fd`, whoever has them.
fn count(fd: BorrowedFd<'_>) -> Result<usize, Errno> {
    let Some(name) = name_of(fd)? else { return Ok(0) };
    let list = std::fs::read_to_string("/proc/locks").map_err(|e| os_errno(&e))?;
    Ok(records(&list).filter(|r| r.file == name).count())
}

/// What the description of descriptor `fd` of task `tid` is marked with: the device number of a
/// mount, and the node's number in it.
pub fn marked(tid: i32, fd: i32) -> Option<(u32, u32)> {
    let text = information(tid, fd);
    let mark = records(&text).find(|r| r.start >= MARKS && r.start == r.end)?.start;
    let low = u32::try_from(mark & u64::from(u32::MAX)).ok()?;
    Some((u32::try_from((mark ^ MARKS) >> 32).ok()?, low))
}

#[cfg(test)]
mod tests {
    use super::super::tests::file;
    use super::*;
    use std::os::fd::{AsFd, AsRawFd};

    fn own() -> i32 {
        i32::try_from(std::process::id()).expect("a process id")
    }

    #[test]
    fn marks_are_read_back() {
        let (_file, open) = file();
        let (a, b) = (open(), open());
        let (marks, hash) = (Marks::default(), Hash::of(b""));
        let node = |node| NodeRef { mount: 3, node };
        marks.mark(&hash, a.as_fd(), (0xF_FFFF, node(u32::MAX))).expect("a mark");
        marks.mark(&hash, b.as_fd(), (0x8_0000, node(0))).expect("a mark");
        assert_eq!(marked(own(), a.as_raw_fd()), Some((0xF_FFFF, u32::MAX)));
        assert_eq!(marked(own(), b.as_raw_fd()), Some((0x8_0000, 0)));
        assert_eq!(marked(own(), open().as_raw_fd()), None);
        assert_eq!(marked(own(), -1), None);
    }

    #[test]
    fn there_are_not_too_many_at_once() {
        let (_file, open) = file();
        let marks = Marks { most: 8, look: 4, by_blob: Mutex::default() };
        let node = NodeRef { mount: 0, node: 1 };
        let opened = |hash: &Hash| {
            let file = open();
            marks.mark(hash, file.as_fd(), (0x8_0000, node)).expect("a mark, or none");
            file
        };
        let hash = Hash::of(b"many");
        let many: Vec<_> = (0..40).map(|_| opened(&hash)).collect();
        let has_one = |file: &&std::fs::File| marked(own(), file.as_raw_fd()).is_some();
        assert!((9..=12).contains(&many.iter().filter(has_one).count()));
        assert!(has_one(&&opened(&Hash::of(b"another"))));
        drop(many);
        let again: Vec<_> = (0..4).map(|_| opened(&hash)).collect();
        assert!(has_one(&&again[3]), "there is room again");
    }
}
