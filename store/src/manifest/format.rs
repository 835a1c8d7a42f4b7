//! The manifest file, byte by byte: offsets, the layout that follows from the counts, and the
//! header's parsing. docs/STORE.md tells the same to people.
//!
//! All numbers are little-endian. A layout is never taken from the file: it is computed from the
//! counts, and the file has to agree, so no two sections can overlap or leave the file.

use crate::hash::{HASH_LEN, Hash};

pub(super) const MAGIC: &[u8; 8] = b"VRIFTMAN";
pub(super) const VERSION: u32 = 1;
pub(super) const HEADER_LEN: usize = 256;
/// Where the header's checksum stands; everything before it is covered by it.
pub(super) const CHECKSUM_AT: usize = 224;
/// BLAKE3 hashes sixteen 1 KiB blocks side by side with AVX-512: the cheapest unit for each byte.
pub(super) const CHUNK: usize = 16 * 1024;
pub(super) const NODE_LEN: usize = 64;
pub(super) const SLOT_LEN: usize = 8;
pub(super) const BLOOM_BLOCK_LEN: usize = 32;
/// Sections start at a cache line, so that a node is read with one.
const ALIGN: u64 = 64;

/// What the header counts; the rest of the layout follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub nodes: u32,
    pub files: u32,
    pub directories: u32,
    pub symlinks: u32,
    pub blobs: u32,
    /// Slots of the hash index, a power of two larger than `nodes`.
    pub slots: u32,
    pub bloom_blocks: u32,
    pub strings_len: u64,
    pub total_bytes: u64,
}

/// Absolute offsets of the sections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub chunks: u64,
    pub body: u64,
    pub bloom: u64,
    pub slots: u64,
    pub nodes: u64,
    pub strings: u64,
    pub blobs: u64,
    pub blob_first: u64,
    pub blob_nodes: u64,
    pub end: u64,
}

fn align(offset: u64) -> Option<u64> {
    Some(offset.checked_add(ALIGN - 1)? / ALIGN * ALIGN)
}

impl Counts {
    /// The layout of a manifest with these counts; None when it can't exist (an overflow).
    pub fn layout(&self) -> Option<Layout> {
        let section = |start: &mut u64, count: u64, size: usize| -> Option<u64> {
            let at = *start;
            *start = align(at.checked_add(count.checked_mul(size as u64)?)?)?;
            Some(at)
        };
        // Relative to the body first: its start depends on the table, which depends on its length.
        let mut at = 0;
        let bloom = section(&mut at, u64::from(self.bloom_blocks), BLOOM_BLOCK_LEN)?;
        let slots = section(&mut at, u64::from(self.slots), SLOT_LEN)?;
        let nodes = section(&mut at, u64::from(self.nodes), NODE_LEN)?;
        let strings = section(&mut at, self.strings_len, 1)?;
        let blobs = section(&mut at, u64::from(self.blobs), HASH_LEN)?;
        let blob_first = section(&mut at, u64::from(self.blobs) + 1, 4)?;
        let blob_nodes = section(&mut at, u64::from(self.files), 4)?;
        let body_len = at;

        let chunks = body_len.div_ceil(CHUNK as u64);
        let table = chunks.checked_mul(HASH_LEN as u64)?;
        let body = align(table.checked_add(HEADER_LEN as u64)?)?;
        let end = body.checked_add(body_len)?;
        Some(Layout {
            chunks,
            body,
            bloom: body + bloom,
            slots: body + slots,
            nodes: body + nodes,
            strings: body + strings,
            blobs: body + blobs,
            blob_first: body + blob_first,
            blob_nodes: body + blob_nodes,
            end,
        })
    }

    /// The header without its checksum, which covers the table as well.
    pub fn header(&self, layout: &Layout) -> [u8; HEADER_LEN] {
        let mut out = [0u8; HEADER_LEN];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, MAGIC);
        put(8, &VERSION.to_le_bytes());
        put(12, &256u32.to_le_bytes());
        put(16, &(16 * 1024u32).to_le_bytes());
        put(20, &self.nodes.to_le_bytes());
        put(24, &self.files.to_le_bytes());
        put(28, &self.directories.to_le_bytes());
        put(32, &self.symlinks.to_le_bytes());
        put(36, &self.blobs.to_le_bytes());
        put(40, &self.slots.to_le_bytes());
        put(44, &self.bloom_blocks.to_le_bytes());
        put(48, &self.strings_len.to_le_bytes());
        put(56, &self.total_bytes.to_le_bytes());
        let offsets = [
            layout.body,
            layout.bloom,
            layout.slots,
            layout.nodes,
            layout.strings,
            layout.blobs,
            layout.blob_first,
            layout.blob_nodes,
            layout.end,
        ];
        for (i, offset) in offsets.iter().enumerate() {
            put(64 + i * 8, &offset.to_le_bytes());
        }
        out
    }

    /// Reads the counts from a header whose magic and version are right.
    pub fn parse(header: &[u8; HEADER_LEN]) -> Counts {
        Counts {
            nodes: u32_at(header, 20),
            files: u32_at(header, 24),
            directories: u32_at(header, 28),
            symlinks: u32_at(header, 32),
            blobs: u32_at(header, 36),
            slots: u32_at(header, 40),
            bloom_blocks: u32_at(header, 44),
            strings_len: u64_at(header, 48),
            total_bytes: u64_at(header, 56),
        }
    }

    /// Do the counts agree with each other? A crafted header may have a right checksum.
    pub fn sound(&self) -> bool {
        let kinds = u64::from(self.files) + u64::from(self.directories) + u64::from(self.symlinks);
        self.nodes > 0
            && self.directories > 0
            && kinds == u64::from(self.nodes)
            && self.blobs <= self.files
            && self.slots.is_power_of_two()
            && self.slots > self.nodes
            && self.bloom_blocks > 0
            && u32::try_from(self.strings_len).is_ok()
    }
}

/// The checksum of a manifest's head: the header before the checksum, then the table with its
/// padding. Since the table holds the hash of every chunk, it names the whole manifest.
pub(super) fn head_checksum(header: &[u8], table_and_padding: &[u8]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&header[..CHECKSUM_AT]);
    hasher.update(table_and_padding);
    hasher.finalize().into()
}

/// Little-endian number at `at`; the caller's slice is known to be long enough.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// Little-endian number at `at`; the caller's slice is known to be long enough.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Little-endian number at `at`; the caller's slice is known to be long enough.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// One node's 64 bytes, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub parent: u32,
    /// Directory: first child. File: index of its blob. Symlink: offset of its target.
    pub a: u32,
    /// Directory: number of children. File: zero. Symlink: length of its target.
    pub b: u32,
    pub nlink: u32,
    pub inode: u32,
    pub mtime_nsec: u32,
    pub mtime_sec: i64,
    pub size: u64,
    pub name_at: u32,
    pub name_len: u16,
    pub mode: u16,
    pub kind: u8,
    pub xattr_at: u32,
    pub xattr_len: u32,
}

impl Record {
    pub fn parse(bytes: &[u8; NODE_LEN]) -> Record {
        Record {
            parent: u32_at(bytes, 0),
            a: u32_at(bytes, 4),
            b: u32_at(bytes, 8),
            nlink: u32_at(bytes, 12),
            inode: u32_at(bytes, 16),
            mtime_nsec: u32_at(bytes, 20),
            mtime_sec: u64_at(bytes, 24).cast_signed(),
            size: u64_at(bytes, 32),
            name_at: u32_at(bytes, 40),
            name_len: u16_at(bytes, 44),
            mode: u16_at(bytes, 46),
            kind: bytes[48],
            xattr_at: u32_at(bytes, 52),
            xattr_len: u32_at(bytes, 56),
        }
    }

    pub fn encode(&self) -> [u8; NODE_LEN] {
        let mut out = [0u8; NODE_LEN];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.parent.to_le_bytes());
        put(4, &self.a.to_le_bytes());
        put(8, &self.b.to_le_bytes());
        put(12, &self.nlink.to_le_bytes());
        put(16, &self.inode.to_le_bytes());
        put(20, &self.mtime_nsec.to_le_bytes());
        put(24, &self.mtime_sec.to_le_bytes());
        put(32, &self.size.to_le_bytes());
        put(40, &self.name_at.to_le_bytes());
        put(44, &self.name_len.to_le_bytes());
        put(46, &self.mode.to_le_bytes());
        put(48, &[self.kind]);
        put(52, &self.xattr_at.to_le_bytes());
        put(56, &self.xattr_len.to_le_bytes());
        out
    }
}

/// May a directory hold this name? What the kernel refuses would lead out of the tree on export.
pub(super) fn is_entry_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && name != b"."
        && name != b".."
        && !name.iter().any(|&c| c == b'/' || c == 0)
}
