//! Memory for what is made once, when the library is loaded: the mounts, and whatever the standard
//! library asks for on the way. Not libSystem's malloc, whose locks may be held where the shim is
//! called: one region, from which pieces are cut and never given back. After the constructor nothing
//! is allocated but the message of a damaged manifest.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of the region; it takes no memory before it is touched. Jobs with some mounts use a few
/// kilobytes of it.
const ROOM: usize = 1 << 20;

#[repr(C, align(4096))]
struct Arena {
    room: UnsafeCell<[u8; ROOM]>,
    used: AtomicUsize,
}

// SAFETY: pieces of the region belong to whom they were handed out, and `used` is atomic.
unsafe impl Sync for Arena {}

#[global_allocator]
static ARENA: Arena = Arena { room: UnsafeCell::new([0; ROOM]), used: AtomicUsize::new(0) };

// SAFETY: what is handed out is never handed out again: `used` only grows, by a compare-and-swap, and
// pages of mmap's are nobody else's.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mut start = 0;
        let cut = self.used.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |used| {
            start = used.checked_next_multiple_of(layout.align())?;
            start.checked_add(layout.size()).filter(|end| *end <= ROOM)
        });
        match cut {
            // SAFETY: the piece ends within the region, whose start is aligned more than any layout.
            Ok(_) if layout.align() <= 4096 => unsafe { self.room.get().cast::<u8>().add(start) },
            _ => pages(layout.size()),
        }
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

/// Fresh pages, zeroed; null if there are none.
pub fn pages(length: usize) -> *mut u8 {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: no address is asked for, and no file: the pages are nobody else's.
    let memory = unsafe {
        libc::mmap(null_mut(), length, access, libc::MAP_PRIVATE | libc::MAP_ANON, -1, 0)
    };
    if memory == libc::MAP_FAILED { null_mut() } else { memory.cast() }
}

/// Gives pages back.
pub fn give_back(memory: *mut u8, length: usize) {
    // SAFETY: the caller had them from `pages`, and nobody looks at them any more.
    unsafe { libc::munmap(memory.cast(), length) };
}
