//! From ordered nodes to the bytes of the file.

use std::collections::HashMap;

use super::BuildError;
use super::entry::{Content, Span, Strings};
use super::tree::Tree;
use crate::hash::Hash;
use crate::manifest::format::{
    self, BLOOM_BLOCK_LEN, CHUNK, Counts, HEADER_LEN, Layout, NODE_LEN, Record, SLOT_LEN,
};
use crate::manifest::index;
use crate::manifest::node::DIRECTORY_SIZE;

/// Gathers the sections while the records are made.
pub(super) struct Encoder<'a> {
    source: &'a Strings,
    /// `index.js` stands in a thousand directories, and once in the file.
    known: HashMap<&'a [u8], u32, foldhash::fast::RandomState>,
    strings: Vec<u8>,
    blobs: Vec<Hash>,
    /// Where each blob's files begin in `blob_nodes`; one more for the end.
    blob_first: Vec<u32>,
    blob_nodes: Vec<u32>,
}

impl<'a> Encoder<'a> {
    pub fn new(source: &'a Strings, nodes: usize) -> Encoder<'a> {
        Encoder {
            source,
            known: HashMap::with_capacity_and_hasher(nodes, foldhash::fast::RandomState::default()),
            strings: Vec::new(),
            blobs: Vec::new(),
            blob_first: Vec::new(),
            blob_nodes: Vec::new(),
        }
    }

    /// Number of different contents.
    pub fn blobs(&self) -> Result<u32, BuildError> {
        u32::try_from(self.blobs.len()).map_err(|_| BuildError::TooLarge)
    }

    /// Length of all strings.
    pub fn strings_len(&self) -> u64 {
        self.strings.len() as u64
    }

    pub fn records(&mut self, tree: &Tree<'a>) -> Result<Vec<Record>, BuildError> {
        let mut records = Vec::with_capacity(tree.nodes.len());
        for node in &tree.nodes {
            let inode = &node.item.inode;
            let name_at = self.intern(node.item.name)?;
            let names = tree.nodes[node.inode as usize].names;
            let (a, b, size, nlink) = match inode.content {
                Content::Directory => {
                    (node.first_child, node.children, DIRECTORY_SIZE, 2 + node.subdirectories)
                }
                // The blob's number is known when all have been seen.
                Content::File { size, .. } => (0, 0, size, names),
                Content::Symlink { target } => {
                    (self.intern(target)?, target.len(), u64::from(target.len()), names)
                }
            };
            let xattr_len = inode.xattrs.len();
            let xattr_at = if xattr_len == 0 { 0 } else { self.intern(inode.xattrs)? };
            records.push(Record {
                parent: node.parent,
                a,
                b,
                nlink,
                inode: node.inode,
                mtime_nsec: inode.mtime_nsec,
                mtime_sec: inode.mtime_sec,
                size,
                name_at,
                name_len: u16::try_from(node.item.name.len()).map_err(|_| BuildError::TooLarge)?,
                mode: inode.mode,
                kind: inode.content.kind().code(),
                xattr_at,
                xattr_len,
            });
        }
        self.number_blobs(tree, &mut records)?;
        Ok(records)
    }

    /// Sorts the blobs, each once, and the files of each.
    fn number_blobs(&mut self, tree: &Tree<'a>, records: &mut [Record]) -> Result<(), BuildError> {
        let mut files: Vec<(u64, &Hash, u32)> = Vec::with_capacity(records.len());
        for (id, node) in (0u32..).zip(&tree.nodes) {
            if let Content::File { blob, .. } = &node.item.inode.content {
                files.push((first_bytes(blob), blob, id));
            }
        }
        // The first bytes nearly always tell, and stand right here.
        files.sort_unstable_by(|x, y| (x.0, x.1, x.2).cmp(&(y.0, y.1, y.2)));
        self.blob_nodes.reserve(files.len());
        for (_, blob, id) in files {
            if self.blobs.last() != Some(blob) {
                let at = self.blob_nodes.len();
                self.blob_first.push(u32::try_from(at).map_err(|_| BuildError::TooLarge)?);
                self.blobs.push(*blob);
            }
            self.blob_nodes.push(id);
            records[id as usize].a = self.blobs()? - 1;
        }
        let end = u32::try_from(self.blob_nodes.len()).map_err(|_| BuildError::TooLarge)?;
        self.blob_first.push(end);
        Ok(())
    }

    fn intern(&mut self, span: Span) -> Result<u32, BuildError> {
        use std::collections::hash_map::Entry::{Occupied, Vacant};
        let string = self.source.get(span);
        match self.known.entry(string) {
            Occupied(known) => Ok(*known.get()),
            Vacant(free) => {
                let at = u32::try_from(self.strings.len()).map_err(|_| BuildError::TooLarge)?;
                self.strings.extend_from_slice(string);
                u32::try_from(self.strings.len()).map_err(|_| BuildError::TooLarge)?;
                Ok(*free.insert(at))
            }
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "everything here fits into the memory")]
    pub fn assemble(
        &self,
        tree: &Tree<'_>,
        records: &[Record],
        counts: &Counts,
        layout: &Layout,
    ) -> (Vec<u8>, Hash) {
        let mut file = vec![0u8; layout.end as usize];
        self.put_index(&mut file, tree, counts, layout);
        let nodes = file[layout.nodes as usize..].chunks_exact_mut(NODE_LEN);
        for (place, record) in nodes.zip(records) {
            place.copy_from_slice(&record.encode());
        }
        let strings = layout.strings as usize;
        file[strings..strings + self.strings.len()].copy_from_slice(&self.strings);
        let blobs = file[layout.blobs as usize..].chunks_exact_mut(32);
        for (place, blob) in blobs.zip(&self.blobs) {
            place.copy_from_slice(blob.as_bytes());
        }
        put_numbers(&mut file[layout.blob_first as usize..], &self.blob_first);
        put_numbers(&mut file[layout.blob_nodes as usize..], &self.blob_nodes);

        let (head, body) = file.split_at_mut(layout.body as usize);
        head[..HEADER_LEN].copy_from_slice(&counts.header(layout));
        for (entry, chunk) in head[HEADER_LEN..].chunks_exact_mut(32).zip(body.chunks(CHUNK)) {
            entry.copy_from_slice(Hash::of(chunk).as_bytes());
        }
        let id = format::head_checksum(&head[..HEADER_LEN], &head[HEADER_LEN..]);
        head[format::CHECKSUM_AT..HEADER_LEN].copy_from_slice(id.as_bytes());
        (file, id)
    }

    /// The Bloom filter and the hash index over all entries.
    #[expect(clippy::cast_possible_truncation, reason = "everything here fits into the memory")]
    fn put_index(&self, file: &mut [u8], tree: &Tree<'_>, counts: &Counts, layout: &Layout) {
        let mut bloom = vec![[0u32; index::BLOOM_WORDS]; counts.bloom_blocks as usize];
        let mut slots = vec![(0u32, 0u32); counts.slots as usize];
        for (id, node) in (0u32..).zip(&tree.nodes).skip(1) {
            let hash = index::entry_hash(node.parent, self.source.get(node.item.name));
            let block = &mut bloom[index::bloom_block(hash, counts.bloom_blocks) as usize];
            for (word, bit) in block.iter_mut().zip(index::bloom_mask(hash)) {
                *word |= bit;
            }
            let mut slot = index::low(hash) & (counts.slots - 1);
            while slots[slot as usize].0 != 0 {
                slot = (slot + 1) & (counts.slots - 1);
            }
            slots[slot as usize] = (id, index::tag(hash));
        }
        let places = file[layout.bloom as usize..].chunks_exact_mut(BLOOM_BLOCK_LEN);
        for (place, block) in places.zip(&bloom) {
            put_numbers(place, block);
        }
        let places = file[layout.slots as usize..].chunks_exact_mut(SLOT_LEN);
        for (place, (id, tag)) in places.zip(&slots) {
            put_numbers(place, &[*id, *tag]);
        }
    }
}

/// The first eight bytes as a number that sorts as they do.
fn first_bytes(hash: &Hash) -> u64 {
    hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

fn put_numbers(to: &mut [u8], numbers: &[u32]) {
    for (place, number) in to.chunks_exact_mut(4).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
}
