//! What the process has open, and where it is: hints in a fixed number of atomics.
//!
//! The truth is the system's: a descriptor's path says what it is ([`Places`](super::Places)). A hint saves that
//! question, and tells which of several paths with one content a blob was opened by. It counts only
//! if the descriptor is still what it was when the hint was made, by device and inode, so one that
//! is out of date (closed unseen, the number given anew) does nothing.

use super::real::Identity;
use core::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use vrift_projection::NodeRef;

/// Descriptors that are remembered; of higher ones the system is asked each time.
pub const DESCRIPTORS: usize = 4096;

/// What a descriptor is known to be.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// A node's content, or what stands for it.
    Node(NodeRef),
    /// None of ours.
    Real,
}

/// Bits 62 and 63 of a word say what it is; a node has 48 below.
const NODE: u64 = 1 << 63;
const REAL: u64 = 1 << 62;
/// Nothing is known, and nothing is to be remembered.
const NEVER: u64 = 1;

fn pack(known: Known) -> u64 {
    match known {
        Known::Node(node) => NODE | u64::from(node.mount) << 32 | u64::from(node.node),
        Known::Real => REAL,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the two fields are cut out")]
fn unpack(word: u64) -> Option<Known> {
    if word & NODE != 0 {
        return Some(Known::Node(NodeRef { mount: (word >> 32) as u16, node: word as u32 }));
    }
    (word & REAL != 0).then_some(Known::Real)
}

/// Some bits of a mark, between the node and what the word is: two that write a slot at once can't
/// leave the one's mark with the other's word.
fn seal(mark: u64) -> u64 {
    (mark & 0x3fff) << 48
}

/// Device and inode in one word; 0 is nobody's.
fn mark(identity: Identity) -> u64 {
    // Both matter and neither is random: spread the device over all bits.
    (identity.ino ^ identity.dev.wrapping_mul(0x9e37_79b9_7f4a_7c15)).max(1)
}

/// One descriptor: what it is, and by which mark that is to be confirmed.
struct Slot {
    mark: AtomicU64,
    known: AtomicU64,
}

/// The table.
pub(super) struct Descriptors {
    slots: [Slot; DESCRIPTORS],
}

impl Descriptors {
    pub(super) const fn new() -> Descriptors {
        Descriptors {
            slots: [const { Slot { mark: AtomicU64::new(0), known: AtomicU64::new(0) } };
                DESCRIPTORS],
        }
    }

    fn slot(&self, fd: i32) -> Option<&Slot> {
        self.slots.get(usize::try_from(fd).ok()?)
    }

    pub(super) fn set(&self, fd: i32, identity: Identity, known: Known) {
        let Some(slot) = self.slot(fd) else { return };
        // Who reads meanwhile finds no mark, or the old one with the old word, or the new pair.
        let mark = mark(identity);
        slot.mark.store(0, Release);
        slot.known.store(pack(known) | seal(mark), Release);
        slot.mark.store(mark, Release);
    }

    pub(super) fn clear(&self, fd: i32) {
        if let Some(slot) = self.slot(fd) {
            slot.mark.store(0, Release);
        }
    }

    /// Whether there is a hint at all: if not, nobody need ask what the descriptor is now.
    pub(super) fn has(&self, fd: i32) -> bool {
        self.slot(fd).is_some_and(|slot| slot.mark.load(Relaxed) != 0)
    }

    pub(super) fn get(&self, fd: i32, identity: Identity) -> Option<Known> {
        let slot = self.slot(fd)?;
        let wanted = mark(identity);
        if slot.mark.load(Acquire) != wanted {
            return None;
        }
        let word = slot.known.load(Acquire);
        // Changed in between: ask the system.
        let whole = slot.mark.load(Acquire) == wanted && word & seal(u64::MAX) == seal(wanted);
        whole.then(|| unpack(word)).flatten()
    }
}

/// The current directory: a node, a real one, or not known.
pub(super) struct Current(AtomicU64);

impl Current {
    pub(super) const fn new() -> Current {
        Current(AtomicU64::new(0))
    }

    pub(super) fn set(&self, known: Option<Known>) {
        let word = known.map_or(0, pack);
        let keep = |old| (old != NEVER).then_some(word);
        // Refused only where it stays NEVER.
        let _ = self.0.fetch_update(Release, Relaxed, keep);
    }

    /// From now on it is asked each time: a thread has a directory of its own.
    pub(super) fn never(&self) {
        self.0.store(NEVER, Release);
    }

    pub(super) fn get(&self) -> Option<Known> {
        unpack(self.0.load(Acquire))
    }
}

#[cfg(test)]
#[expect(clippy::std_instead_of_alloc, reason = "tests allocate")]
mod tests {
    use super::{Current, DESCRIPTORS, Descriptors, Known};
    use crate::shim::real::Identity;
    use vrift_projection::NodeRef;

    const HERE: Identity = Identity { dev: 5, ino: 77 };

    #[test]
    fn a_hint_counts_for_what_it_was_made_of() {
        let table = Box::new(Descriptors::new());
        let node = NodeRef { mount: u16::MAX, node: u32::MAX };
        assert!(!table.has(3));
        table.set(3, HERE, Known::Node(node));
        assert_eq!(table.get(3, HERE), Some(Known::Node(node)));
        assert_eq!(table.get(3, Identity { dev: 6, ..HERE }), None);
        assert_eq!(table.get(3, Identity { ino: 78, ..HERE }), None);
        table.set(3, HERE, Known::Real);
        assert_eq!(table.get(3, HERE), Some(Known::Real));
        table.clear(3);
        assert_eq!(table.get(3, HERE), None);
    }

    #[test]
    fn numbers_beyond_the_table_are_nobodys() {
        let table = Box::new(Descriptors::new());
        for fd in [-1, -2, i32::MIN, i32::MAX, i32::try_from(DESCRIPTORS).expect("a number")] {
            table.set(fd, HERE, Known::Real);
            assert_eq!(table.get(fd, HERE), None, "{fd}");
            table.clear(fd);
        }
    }

    /// Whatever is read while two others write, it is a pair that was written.
    #[test]
    fn a_hint_is_whole_or_not_there() {
        let table = std::sync::Arc::new(Descriptors::new());
        for round in 0..200u32 {
            let pair = |n: u32| {
                let node = NodeRef { mount: 1, node: n };
                (Identity { dev: 1, ino: u64::from(n) }, Known::Node(node))
            };
            std::thread::scope(|scope| {
                let table = &table;
                scope.spawn(move || {
                    for n in 1..50 {
                        let (identity, known) = pair(n + round);
                        table.set(9, identity, known);
                    }
                });
                scope.spawn(move || {
                    for n in 1..50 {
                        let (identity, known) = pair(n + round);
                        let got = table.get(9, identity);
                        assert!(got.is_none() || got == Some(known), "{got:?} of {known:?}");
                    }
                });
            });
        }
    }

    #[test]
    fn the_current_directory_is_one_word() {
        let current = Current::new();
        assert_eq!(current.get(), None);
        for known in [Known::Real, Known::Node(NodeRef { mount: 0, node: 0 })] {
            current.set(Some(known));
            assert_eq!(current.get(), Some(known));
        }
        current.set(None);
        assert_eq!(current.get(), None);
    }

    #[test]
    fn where_threads_have_directories_of_their_own_none_is_remembered() {
        let current = Current::new();
        current.set(Some(Known::Real));
        current.never();
        assert_eq!(current.get(), None);
        current.set(Some(Known::Real));
        assert_eq!(current.get(), None);
    }
}
