//! An allocator that counts what this thread asks of it.

pub mod sys {
    #![allow(unsafe_code, reason = "GlobalAlloc is an unsafe trait")]

    use std::alloc::{GlobalAlloc, Layout, System};
    use std::cell::Cell;

    thread_local! {
        static COUNT: Cell<usize> = const { Cell::new(0) };
    }

    pub struct Counting;

    // SAFETY: every call goes to the system's allocator as it came; counting touches a
    // const-initialised thread local without a destructor, which allocates nothing.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            COUNT.set(COUNT.get() + 1);
            // SAFETY: the caller keeps the contract of `alloc`, which is that of `System.alloc`.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            // SAFETY: `pointer` came from `System.alloc` with this layout, by the caller's contract.
            unsafe { System.dealloc(pointer, layout) }
        }
    }

    pub fn count() -> usize {
        COUNT.get()
    }
}
