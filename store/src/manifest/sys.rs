//! The one unsafe thing the store does: mapping a manifest into memory.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;

use memmap2::{Mmap, MmapOptions};

/// Maps all of `file` (which is `len` bytes long) for reading.
pub(super) fn map(file: &File, len: usize) -> io::Result<Mmap> {
    // SAFETY: a mapped file must not be written or truncated while the map lives. A manifest is
    // published once under the hash of its content, mode 0444, and no code of ours opens it for
    // writing again; jobs can't reach the store. Every byte is checked against its checksum before
    // it is believed, and is only ever read as plain bytes, so a foreign write can at worst give
    // other bytes, not an invalid value.
    unsafe { MmapOptions::new().len(len).map(file) }
}
