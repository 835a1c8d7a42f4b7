//! An immutable snapshot of a tree: one memory-mapped file that opens in constant time, whatever
//! the size of the tree.
//!
//! In: the path of a manifest. Out: nodes, looked up by directory and name, by position, or by
//! content. Nodes are numbered breadth first, children in byte order of their names, so a
//! directory's children are one range of ids and every parent has a lower id than its child.
//!
//! What must never happen here: wrong data, a panic or an access out of bounds, whatever bytes the
//! file holds. The header names the hash of every 16 KiB chunk, and a chunk is checked before its
//! first byte is believed.

mod build;
mod check;
mod error;
mod format;
mod index;
mod node;
mod path;
mod sys;

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::Mmap;

use crate::hash::{HASH_LEN, Hash};
use format::{BLOOM_BLOCK_LEN, CHUNK, Counts, HEADER_LEN, Layout, NODE_LEN, Record, SLOT_LEN};

pub use build::{BuildError, Entry, LinkKey, ManifestBuilder};
pub use error::ManifestError;
pub use node::{Node, NodeId, NodeKind, ROOT, Xattrs};

/// Files up to this size are checked whole when they are opened.
const CHECK_WHOLE: u64 = 4 << 20;

/// The blobs that a manifest names, in ascending order; of the bytes that a [`ManifestBuilder`] made.
pub(crate) fn blobs_in(bytes: &[u8]) -> Vec<Hash> {
    let layout = bytes.first_chunk::<HEADER_LEN>().map(Counts::parse).and_then(|counts| {
        let at = usize::try_from(counts.layout()?.blobs).ok()?;
        Some((at, usize::try_from(counts.blobs).ok()?.checked_mul(HASH_LEN)?))
    });
    let section = layout.and_then(|(at, len)| bytes.get(at..)?.get(..len)).unwrap_or_default();
    section.as_chunks::<HASH_LEN>().0.iter().map(|hash| Hash::from_bytes(*hash)).collect()
}

/// An open manifest. Cheap to share by `Arc`; all methods work on `&self` from any thread.
pub struct Manifest {
    path: PathBuf,
    map: Mmap,
    /// Has the lock that keeps a collection from removing a manifest of a store.
    _file: File,
    id: Hash,
    counts: Counts,
    layout: Layout,
    /// `layout.body`, which is an offset in the map.
    body: usize,
    /// One bit for each chunk that has been found to match its hash.
    checked: Box<[AtomicU64]>,
}

impl std::fmt::Debug for Manifest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Manifest").field("path", &self.path).field("id", &self.id).finish()
    }
}

impl Manifest {
    /// Maps the manifest at `path` and checks its header, lengths and table of checksums; small
    /// ones (up to 4 MiB) are checked whole.
    ///
    /// # Errors
    /// [`ManifestError`] when the file can't be opened or mapped, isn't a manifest of this
    /// version, or is damaged.
    pub fn open(path: &Path) -> Result<Manifest, ManifestError> {
        let io = |source| ManifestError::Open { path: path.to_owned(), source };
        // O_NONBLOCK: a fifo in a manifest's place must not stop us.
        let file = File::options()
            .read(true)
            .custom_flags(libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path)
            .map_err(io)?;
        Self::from_file(path, file)
    }

    /// As [`Manifest::open`], for a file that is open already; `path` only serves messages.
    pub(crate) fn from_file(path: &Path, file: File) -> Result<Manifest, ManifestError> {
        let io = |source| ManifestError::Open { path: path.to_owned(), source };
        let meta = file.metadata().map_err(io)?;
        if !meta.is_file() {
            return Err(ManifestError::NotAManifest { path: path.to_owned() });
        }
        let manifest = Self::map(path, file, meta.len())?;
        if meta.len() <= CHECK_WHOLE {
            manifest.check_chunks()?;
        }
        Ok(manifest)
    }

    fn map(path: &Path, file: File, len: u64) -> Result<Manifest, ManifestError> {
        let not_a_manifest = || ManifestError::NotAManifest { path: path.to_owned() };
        let damaged = |what, offset| ManifestError::Damaged { path: path.to_owned(), what, offset };
        let map_len = usize::try_from(len).map_err(|_| not_a_manifest())?;
        if map_len == 0 {
            return Err(damaged("it is empty", 0));
        }
        let map = sys::map(&file, map_len)
            .map_err(|source| ManifestError::Open { path: path.to_owned(), source })?;

        let magic = &map[..map_len.min(format::MAGIC.len())];
        if magic != &format::MAGIC[..magic.len()] {
            return Err(not_a_manifest());
        }
        let Some(header) = map.first_chunk::<HEADER_LEN>() else {
            return Err(damaged("it ends inside its header", len));
        };
        let version = format::u32_at(header, 8);
        if version != format::VERSION {
            return Err(ManifestError::Version { path: path.to_owned(), found: version });
        }
        let counts = Counts::parse(header);
        if !counts.sound() {
            return Err(damaged("the header's counts contradict each other", 20));
        }
        let layout = counts
            .layout()
            .ok_or_else(|| damaged("the header's counts are beyond any file's size", 20))?;
        let expected = counts.header(&layout);
        if let Some(at) = (0..format::CHECKSUM_AT).find(|&i| header[i] != expected[i]) {
            return Err(damaged("the header contradicts itself", at as u64));
        }
        if layout.end != len {
            return Err(damaged("its length differs from what its header says", len));
        }
        // `end` equals the length of the map, which is a usize, and `body` is below it.
        let body = usize::try_from(layout.body).map_err(|_| not_a_manifest())?;
        let id = format::head_checksum(header, &map[HEADER_LEN..body]);
        if id.as_bytes()[..] != header[format::CHECKSUM_AT..] {
            return Err(damaged("the header's checksum differs", format::CHECKSUM_AT as u64));
        }
        let words = usize::try_from(layout.chunks.div_ceil(64)).map_err(|_| not_a_manifest())?;
        let checked = (0..words).map(|_| AtomicU64::new(0)).collect();
        Ok(Manifest { path: path.to_owned(), map, _file: file, id, counts, layout, body, checked })
    }

    /// The manifest's name: the hash of its head, which holds the hash of every other part.
    #[must_use]
    pub fn id(&self) -> Hash {
        self.id
    }

    /// Where the manifest was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of nodes, the root included; never 0.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a manifest always holds its root")]
    pub fn len(&self) -> u32 {
        self.counts.nodes
    }

    /// Number of names of regular files.
    #[must_use]
    pub fn files(&self) -> u32 {
        self.counts.files
    }

    /// Number of directories, the root included.
    #[must_use]
    pub fn directories(&self) -> u32 {
        self.counts.directories
    }

    /// Number of symbolic links.
    #[must_use]
    pub fn symlinks(&self) -> u32 {
        self.counts.symlinks
    }

    /// Number of different blobs that the files need.
    #[must_use]
    pub fn blobs(&self) -> u32 {
        self.counts.blobs
    }

    /// Bytes in regular files, hard links counted once.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.counts.total_bytes
    }

    /// Length of the manifest's own file.
    #[must_use]
    pub fn file_len(&self) -> u64 {
        self.layout.end
    }

    /// The node `id`.
    ///
    /// # Errors
    /// No such node, or the part of the file that describes it is damaged.
    pub fn node(&self, id: NodeId) -> Result<Node<'_>, ManifestError> {
        let record = self.record(id)?;
        self.decode(id, &record)
    }

    /// The entry `name` of the directory `dir`; None when there is none, or `dir` is no directory.
    /// A name that isn't there usually costs one cache line of the Bloom filter.
    ///
    /// # Errors
    /// `dir` doesn't exist, or a part of the file that had to be read is damaged.
    pub fn child(&self, dir: NodeId, name: &[u8]) -> Result<Option<NodeId>, ManifestError> {
        if dir >= self.counts.nodes {
            return Err(ManifestError::NoSuchNode { id: dir, len: self.counts.nodes });
        }
        let hash = index::entry_hash(dir, name);
        let block = index::bloom_block(hash, self.counts.bloom_blocks);
        let block = self.array::<BLOOM_BLOCK_LEN>(self.layout.bloom, block)?;
        let mask = index::bloom_mask(hash);
        if mask.iter().enumerate().any(|(i, bit)| format::u32_at(block, i * 4) & bit == 0) {
            return Ok(None);
        }
        let wrap = self.counts.slots - 1;
        let mut slot = index::low(hash) & wrap;
        for _ in 0..self.counts.slots {
            let content = self.array::<SLOT_LEN>(self.layout.slots, slot)?;
            let id = format::u32_at(content, 0);
            if id == ROOT {
                return Ok(None);
            }
            if format::u32_at(content, 4) == index::tag(hash) {
                let record = self.record(id)?;
                if record.parent == dir && self.name_of(&record)? == name {
                    return Ok(Some(id));
                }
            }
            slot = (slot + 1) & wrap;
        }
        Err(self.damaged("the index has no free slot", self.layout.slots))
    }

    /// Number of entries of `dir`, without `.` and `..`; 0 for what isn't a directory.
    ///
    /// # Errors
    /// `dir` doesn't exist, or a part of the file that had to be read is damaged.
    pub fn child_count(&self, dir: NodeId) -> Result<u32, ManifestError> {
        let children = self.children(dir)?;
        Ok(children.end - children.start)
    }

    /// Entry number `i` of `dir`, in byte order of the names.
    ///
    /// # Errors
    /// `dir` doesn't exist or has no entry `i`, or a part of the file is damaged.
    pub fn child_at(&self, dir: NodeId, i: u32) -> Result<NodeId, ManifestError> {
        let children = self.children(dir)?;
        match children.start.checked_add(i) {
            Some(id) if id < children.end => Ok(id),
            _ => {
                let count = children.end - children.start;
                Err(ManifestError::NoSuchChild { dir, index: i, count })
            }
        }
    }

    /// The ids of all entries of `dir`, in byte order of the names; empty for what isn't a
    /// directory.
    ///
    /// # Errors
    /// `dir` doesn't exist, or a part of the file that had to be read is damaged.
    pub fn children(&self, dir: NodeId) -> Result<std::ops::Range<NodeId>, ManifestError> {
        let record = self.record(dir)?;
        if record.kind != NodeKind::Directory.code() || record.b == 0 {
            return Ok(0..0);
        }
        match record.a.checked_add(record.b) {
            Some(end) if record.a > dir && end <= self.counts.nodes => Ok(record.a..end),
            _ => Err(self.damaged("a directory's entries lie outside the tree", self.node_at(dir))),
        }
    }

    /// Every file node with this content, in ascending order.
    ///
    /// # Errors
    /// A part of the file that had to be read is damaged.
    pub fn by_blob(&self, blob: &Hash) -> Result<impl Iterator<Item = NodeId> + '_, ManifestError> {
        let (mut low, mut high) = (0, self.counts.blobs);
        let mut found = None;
        while low < high {
            let middle = low + (high - low) / 2;
            match self.blob(middle)?.cmp(blob) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => {
                    found = Some(middle);
                    break;
                }
            }
        }
        let ids = found.map_or(Ok(&[][..]), |blob| self.blob_nodes(blob))?;
        Ok(ids.chunks_exact(4).map(|id| format::u32_at(id, 0)))
    }

    /// Blob number `i` of this manifest, in ascending order of the hashes; for [`Self::blobs`].
    ///
    /// # Errors
    /// There are not so many, or a part of the file is damaged.
    pub fn blob(&self, i: u32) -> Result<Hash, ManifestError> {
        if i >= self.counts.blobs {
            return Err(self.damaged("a file's blob isn't in the table", self.layout.blobs));
        }
        Ok(Hash::from_bytes(*self.array::<HASH_LEN>(self.layout.blobs, i)?))
    }

    /// Checks every chunk against its hash.
    ///
    /// # Errors
    /// The first damage found.
    pub fn check_chunks(&self) -> Result<(), ManifestError> {
        self.bytes(self.layout.body, self.layout.end - self.layout.body).map(|_| ())
    }

    /// The encoded ids of all nodes with the content of blob number `blob`.
    fn blob_nodes(&self, blob: u32) -> Result<&[u8], ManifestError> {
        let first = format::u32_at(self.array::<4>(self.layout.blob_first, blob)?, 0);
        let end = format::u32_at(self.array::<4>(self.layout.blob_first, blob + 1)?, 0);
        if first > end || end > self.counts.files {
            let at = self.layout.blob_first + u64::from(blob) * 4;
            return Err(self.damaged("a blob's list of files lies outside the table", at));
        }
        self.bytes(self.layout.blob_nodes + u64::from(first) * 4, u64::from(end - first) * 4)
    }

    fn node_at(&self, id: NodeId) -> u64 {
        self.layout.nodes + u64::from(id) * NODE_LEN as u64
    }

    fn record(&self, id: NodeId) -> Result<Record, ManifestError> {
        if id >= self.counts.nodes {
            return Err(ManifestError::NoSuchNode { id, len: self.counts.nodes });
        }
        Ok(Record::parse(self.array::<NODE_LEN>(self.layout.nodes, id)?))
    }

    fn name_of(&self, record: &Record) -> Result<&[u8], ManifestError> {
        self.string(record.name_at, u32::from(record.name_len))
    }

    /// A piece of the strings section.
    fn string(&self, at: u32, len: u32) -> Result<&[u8], ManifestError> {
        if u64::from(at) + u64::from(len) > self.counts.strings_len {
            return Err(self.damaged("a string lies outside its section", self.layout.strings));
        }
        self.bytes(self.layout.strings + u64::from(at), u64::from(len))
    }

    /// Element `i` of the array of `N`-byte elements at `section`. The caller has compared `i`
    /// with the section's count; the end of the file is checked here all the same.
    fn array<const N: usize>(&self, section: u64, i: u32) -> Result<&[u8; N], ManifestError> {
        let at = section + u64::from(i) * N as u64;
        match self.bytes(at, N as u64)?.first_chunk() {
            Some(bytes) => Ok(bytes),
            None => Err(self.damaged("a table ends early", at)),
        }
    }

    /// The bytes from `at`, after the chunks they lie in were checked. The only way to the map.
    #[inline]
    fn bytes(&self, at: u64, len: u64) -> Result<&[u8], ManifestError> {
        let outside = || self.damaged("an offset lies outside the file", at);
        let start = usize::try_from(at).map_err(|_| outside())?;
        let len = usize::try_from(len).map_err(|_| outside())?;
        let Some(first) = start.checked_sub(self.body) else { return Err(outside()) };
        let bytes = self.map.get(start..).and_then(|rest| rest.get(..len)).ok_or_else(outside)?;
        if len > 0 {
            for chunk in first / CHUNK..=(first + len - 1) / CHUNK {
                self.check_chunk(chunk)?;
            }
        }
        Ok(bytes)
    }

    #[inline]
    fn check_chunk(&self, chunk: usize) -> Result<(), ManifestError> {
        let word = &self.checked[chunk / 64];
        let bit = 1 << (chunk % 64);
        if word.load(Ordering::Acquire) & bit == 0 {
            self.hash_chunk(chunk)?;
            word.fetch_or(bit, Ordering::Release);
        }
        Ok(())
    }

    #[cold]
    fn hash_chunk(&self, chunk: usize) -> Result<(), ManifestError> {
        let at = self.body + chunk * CHUNK;
        let end = self.map.len().min(at + CHUNK);
        let table = HEADER_LEN + chunk * HASH_LEN;
        if Hash::of(&self.map[at..end]).as_bytes()[..] == self.map[table..table + HASH_LEN] {
            Ok(())
        } else {
            Err(self.damaged("its bytes don't match their checksum", at as u64))
        }
    }

    #[cold]
    fn damaged(&self, what: &'static str, offset: u64) -> ManifestError {
        ManifestError::Damaged { path: self.path.clone(), what, offset }
    }
}
