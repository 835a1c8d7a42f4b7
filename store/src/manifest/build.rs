//! Making a manifest: entries go in, in any order as long as a directory comes before what it
//! holds; the bytes of the file come out.
//!
//! The bytes depend on the tree alone, not on the order of insertion, so that the same tree has
//! the same manifest hash. Nothing is written here.

use std::collections::HashMap;

use super::format::{self, BLOOM_BLOCK_LEN, CHUNK, Counts, HEADER_LEN, Layout, Record};
use super::node::{DIRECTORY_SIZE, MODE_MASK, TARGET_MAX, encode_xattr};
use super::{NodeKind, index};
use crate::hash::Hash;

/// Marks entries that are names of one inode: equal keys are hard links of each other. What the
/// two numbers mean is the caller's affair (device and inode, say).
pub type LinkKey = (u64, u64);

/// What the builder wants to know of one file, directory or symbolic link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// File, directory or symbolic link.
    pub kind: NodeKind,
    /// Permission, set-id and sticky bits (07777).
    pub mode: u32,
    /// Bytes in a file; ignored for others.
    pub size: u64,
    /// Modification time, seconds since 1970.
    pub mtime_sec: i64,
    /// Modification time, nanoseconds.
    pub mtime_nsec: u32,
    /// A file's content; required for files, ignored for others.
    pub blob: Option<Hash>,
    /// A symbolic link's target; ignored for others.
    pub target: Vec<u8>,
    /// Extended attributes, in any order.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Set when other names of the same inode may be in the tree; ignored for directories.
    pub link: Option<LinkKey>,
}

impl Entry {
    /// A directory, modified at the given time.
    #[must_use]
    pub fn directory(mode: u32, mtime: (i64, u32)) -> Entry {
        Entry {
            kind: NodeKind::Directory,
            mode,
            size: 0,
            mtime_sec: mtime.0,
            mtime_nsec: mtime.1,
            blob: None,
            target: Vec::new(),
            xattrs: Vec::new(),
            link: None,
        }
    }

    /// A regular file of `size` bytes.
    #[must_use]
    pub fn file(mode: u32, mtime: (i64, u32), size: u64, blob: Hash) -> Entry {
        Entry { kind: NodeKind::File, size, blob: Some(blob), ..Entry::directory(mode, mtime) }
    }

    /// A symbolic link; its mode is 0777, as Linux shows it.
    #[must_use]
    pub fn symlink(target: Vec<u8>, mtime: (i64, u32)) -> Entry {
        Entry { kind: NodeKind::Symlink, target, ..Entry::directory(0o777, mtime) }
    }
}

/// Why a tree can't be made a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The name is empty, `.`, `..`, too long, or holds `/` or NUL.
    #[error("{0:?} can't be the name of a directory entry")]
    Name(String),
    /// Two entries of a directory have the same name.
    #[error("two entries of one directory are called {0:?}")]
    Duplicate(String),
    /// The parent was never added or isn't a directory.
    #[error("the parent of {0:?} is not a directory of this tree")]
    Parent(String),
    /// A mode, time, target, attribute or missing blob.
    #[error("{name:?} has {what}")]
    Entry {
        /// The entry's name.
        name: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A name of an inode of which no other name was stored.
    #[error("a hard link's file was never stored")]
    MissingLink,
    /// More than the format can count.
    #[error("the tree is too large for one manifest: more than 2^31 nodes or 4 GiB of names")]
    TooLarge,
}

struct Item {
    parent: u32,
    name: Box<[u8]>,
    entry: Entry,
}

/// Collects a tree; see the module's text.
pub struct ManifestBuilder {
    items: Vec<Item>,
}

impl ManifestBuilder {
    /// Starts a tree with its root directory, whose number here is 0.
    ///
    /// # Errors
    /// The entry isn't a directory, or its mode, time or attributes are out of range.
    pub fn new(root: Entry) -> Result<ManifestBuilder, BuildError> {
        if root.kind != NodeKind::Directory {
            return Err(BuildError::Entry { name: String::new(), what: "to be a directory" });
        }
        validate(b"", &root)?;
        Ok(ManifestBuilder { items: vec![Item { parent: 0, name: Box::default(), entry: root }] })
    }

    /// Adds an entry to the directory `parent` and returns its number, which is good as a `parent`
    /// here and means nothing in the finished manifest.
    ///
    /// # Errors
    /// The name or the entry isn't possible, or `parent` isn't a directory.
    pub fn add(&mut self, parent: u32, name: &[u8], entry: Entry) -> Result<u32, BuildError> {
        if !format::is_entry_name(name) {
            return Err(BuildError::Name(lossy(name)));
        }
        match self.items.get(parent as usize) {
            Some(item) if item.entry.kind == NodeKind::Directory => {}
            _ => return Err(BuildError::Parent(lossy(name))),
        }
        validate(name, &entry)?;
        let id = u32::try_from(self.items.len()).map_err(|_| BuildError::TooLarge)?;
        self.items.push(Item { parent, name: name.into(), entry });
        Ok(id)
    }

    /// The finished file's bytes and its name.
    ///
    /// # Errors
    /// Two entries of a directory have the same name, or the tree is too large.
    pub fn finish(self) -> Result<(Vec<u8>, Hash), BuildError> {
        let tree = Tree::order(&self.items)?;
        let mut encoder = Encoder::default();
        let records = encoder.records(&tree)?;
        let nodes = u32::try_from(records.len()).map_err(|_| BuildError::TooLarge)?;
        let count = |kind| {
            let of_kind = tree.nodes.iter().filter(|node| node.item.entry.kind == kind).count();
            u32::try_from(of_kind).map_err(|_| BuildError::TooLarge)
        };
        let counts = Counts {
            nodes,
            files: count(NodeKind::File)?,
            directories: count(NodeKind::Directory)?,
            symlinks: count(NodeKind::Symlink)?,
            blobs: u32::try_from(encoder.blobs.len()).map_err(|_| BuildError::TooLarge)?,
            slots: index::slots_for(nodes).ok_or(BuildError::TooLarge)?,
            bloom_blocks: nodes.div_ceil(index::KEYS_PER_BLOCK),
            strings_len: encoder.strings.len() as u64,
            total_bytes: tree.total_bytes(),
        };
        let layout = counts.layout().ok_or(BuildError::TooLarge)?;
        Ok(encoder.assemble(&tree, &records, &counts, &layout))
    }
}

fn lossy(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

fn validate(name: &[u8], entry: &Entry) -> Result<(), BuildError> {
    let wrong = |what| Err(BuildError::Entry { name: lossy(name), what });
    if entry.mode > MODE_MASK {
        return wrong("mode bits beyond 07777");
    }
    if entry.mtime_nsec >= 1_000_000_000 {
        return wrong("a time with a billion nanoseconds or more");
    }
    if entry.kind == NodeKind::File && entry.blob.is_none() {
        return wrong("no content");
    }
    if entry.kind == NodeKind::Symlink {
        let target = &entry.target;
        if target.is_empty() || target.len() > TARGET_MAX || target.contains(&0) {
            return wrong("an impossible link target");
        }
    }
    for (key, value) in &entry.xattrs {
        if key.is_empty() || key.len() > 255 || key.contains(&0) || value.len() > 65536 {
            return wrong("an impossible extended attribute");
        }
    }
    Ok(())
}

/// A node in its final place.
struct Ordered<'a> {
    item: &'a Item,
    parent: u32,
    first_child: u32,
    children: u32,
    subdirectories: u32,
    inode: u32,
    names: u32,
}

struct Tree<'a> {
    nodes: Vec<Ordered<'a>>,
}

impl<'a> Tree<'a> {
    /// Numbers the items breadth first, children in byte order of names.
    fn order(items: &'a [Item]) -> Result<Tree<'a>, BuildError> {
        let count = u32::try_from(items.len()).map_err(|_| BuildError::TooLarge)?;
        // All children of one directory side by side and sorted; the root is no child.
        let mut sorted: Vec<u32> = (1..count).collect();
        sorted.sort_unstable_by_key(|&i| {
            let item = &items[i as usize];
            (item.parent, &item.name)
        });
        let mut ranges = vec![(0u32, 0u32); items.len()];
        for (at, &i) in (0u32..).zip(&sorted) {
            let item = &items[i as usize];
            let range = &mut ranges[item.parent as usize];
            if range.1 == 0 {
                range.0 = at;
            } else if items[sorted[at as usize - 1] as usize].name == item.name {
                return Err(BuildError::Duplicate(lossy(&item.name)));
            }
            range.1 += 1;
        }

        let mut nodes: Vec<Ordered<'a>> = Vec::with_capacity(items.len());
        let mut originals = Vec::with_capacity(items.len());
        let place = |item: &'a Item, parent| Ordered {
            item,
            parent,
            first_child: 0,
            children: 0,
            subdirectories: 0,
            inode: 0,
            names: 1,
        };
        nodes.push(place(&items[0], 0));
        originals.push(0u32);
        let mut next = 0u32;
        while let Some(&original) = originals.get(next as usize) {
            let (start, len) = ranges[original as usize];
            if len > 0 {
                let first = u32::try_from(nodes.len()).map_err(|_| BuildError::TooLarge)?;
                let children = &sorted[start as usize..][..len as usize];
                let is_dir = |&&i: &&u32| items[i as usize].entry.kind == NodeKind::Directory;
                let subdirectories = u32::try_from(children.iter().filter(is_dir).count())
                    .map_err(|_| BuildError::TooLarge)?;
                for &child in children {
                    nodes.push(place(&items[child as usize], next));
                    originals.push(child);
                }
                let node = &mut nodes[next as usize];
                (node.first_child, node.children) = (first, len);
                node.subdirectories = subdirectories;
            }
            next += 1;
        }
        let mut tree = Tree { nodes };
        tree.join_links();
        Ok(tree)
    }

    fn join_links(&mut self) {
        let mut groups: HashMap<LinkKey, (u32, u32)> = HashMap::new();
        for (id, node) in (0u32..).zip(&mut self.nodes) {
            node.inode = id;
            if let Some(key) = link_key(node) {
                let group = groups.entry(key).or_insert((id, 0));
                group.1 += 1;
                node.inode = group.0;
            }
        }
        for node in &mut self.nodes {
            if let Some(group) = link_key(node).and_then(|key| groups.get(&key)) {
                node.names = group.1;
            }
        }
    }

    fn total_bytes(&self) -> u64 {
        let own = |(id, node): &(u32, &Ordered<'_>)| {
            node.item.entry.kind == NodeKind::File && node.inode == *id
        };
        let files = (0u32..).zip(&self.nodes).filter(own);
        files.fold(0u64, |sum, (_, node)| sum.saturating_add(node.item.entry.size))
    }
}

fn link_key(node: &Ordered<'_>) -> Option<LinkKey> {
    node.item.entry.link.filter(|_| node.item.entry.kind != NodeKind::Directory)
}

/// Gathers the sections while the records are made.
#[derive(Default)]
struct Encoder {
    strings: Vec<u8>,
    /// Sorted, each once.
    blobs: Vec<Hash>,
}

impl Encoder {
    fn records(&mut self, tree: &Tree<'_>) -> Result<Vec<Record>, BuildError> {
        let files = tree.nodes.iter().filter(|node| node.item.entry.kind == NodeKind::File);
        self.blobs = files.filter_map(|node| node.item.entry.blob).collect();
        self.blobs.sort_unstable();
        self.blobs.dedup();

        // `index.js` stands in a thousand directories, and once in the file.
        let mut known: HashMap<Vec<u8>, u32> = HashMap::new();
        let mut records = Vec::with_capacity(tree.nodes.len());
        for node in &tree.nodes {
            let entry = &node.item.entry;
            let name_at = self.intern(&mut known, &node.item.name)?;
            let (a, b, size, nlink) = match entry.kind {
                NodeKind::Directory => {
                    (node.first_child, node.children, DIRECTORY_SIZE, 2 + node.subdirectories)
                }
                NodeKind::File => {
                    let blob = entry.blob.and_then(|blob| self.blobs.binary_search(&blob).ok());
                    let blob = blob.and_then(|i| u32::try_from(i).ok());
                    (blob.ok_or(BuildError::TooLarge)?, 0, entry.size, node.names)
                }
                NodeKind::Symlink => {
                    let at = self.intern(&mut known, &entry.target)?;
                    let len =
                        u32::try_from(entry.target.len()).map_err(|_| BuildError::TooLarge)?;
                    (at, len, u64::from(len), node.names)
                }
            };
            let mut xattrs = Vec::new();
            let mut sorted: Vec<_> = entry.xattrs.iter().collect();
            sorted.sort();
            for (key, value) in sorted {
                encode_xattr(&mut xattrs, key, value).ok_or(BuildError::TooLarge)?;
            }
            let xattr_len = u32::try_from(xattrs.len()).map_err(|_| BuildError::TooLarge)?;
            let xattr_at = if xattrs.is_empty() { 0 } else { self.intern(&mut known, &xattrs)? };
            records.push(Record {
                parent: node.parent,
                a,
                b,
                nlink,
                inode: node.inode,
                mtime_nsec: entry.mtime_nsec,
                mtime_sec: entry.mtime_sec,
                size,
                name_at,
                name_len: u16::try_from(node.item.name.len()).map_err(|_| BuildError::TooLarge)?,
                mode: u16::try_from(entry.mode).map_err(|_| BuildError::TooLarge)?,
                kind: entry.kind.code(),
                xattr_at,
                xattr_len,
            });
        }
        Ok(records)
    }

    fn intern(
        &mut self,
        known: &mut HashMap<Vec<u8>, u32>,
        string: &[u8],
    ) -> Result<u32, BuildError> {
        if let Some(&at) = known.get(string) {
            return Ok(at);
        }
        let at = u32::try_from(self.strings.len()).map_err(|_| BuildError::TooLarge)?;
        self.strings.extend_from_slice(string);
        u32::try_from(self.strings.len()).map_err(|_| BuildError::TooLarge)?;
        known.insert(string.to_vec(), at);
        Ok(at)
    }

    #[expect(clippy::cast_possible_truncation, reason = "everything here fits into the memory")]
    fn assemble(
        &self,
        tree: &Tree<'_>,
        records: &[Record],
        counts: &Counts,
        layout: &Layout,
    ) -> (Vec<u8>, Hash) {
        let mut file = vec![0u8; layout.end as usize];
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);

        let mut bloom = vec![[0u32; index::BLOOM_WORDS]; counts.bloom_blocks as usize];
        let mut slots = vec![(0u32, 0u32); counts.slots as usize];
        for (id, node) in (0u32..).zip(&tree.nodes).skip(1) {
            let hash = index::entry_hash(node.parent, &node.item.name);
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
        for (i, block) in bloom.iter().enumerate() {
            for (j, word) in block.iter().enumerate() {
                put(layout.bloom as usize + i * BLOOM_BLOCK_LEN + j * 4, &word.to_le_bytes());
            }
        }
        for (i, (id, tag)) in slots.iter().enumerate() {
            let at = layout.slots as usize + i * format::SLOT_LEN;
            put(at, &id.to_le_bytes());
            put(at + 4, &tag.to_le_bytes());
        }
        for (i, record) in records.iter().enumerate() {
            put(layout.nodes as usize + i * format::NODE_LEN, &record.encode());
        }
        put(layout.strings as usize, &self.strings);

        let mut by_blob: Vec<(u32, u32)> = (0u32..)
            .zip(records)
            .filter(|(_, record)| record.kind == NodeKind::File.code())
            .map(|(id, record)| (record.a, id))
            .collect();
        by_blob.sort_unstable();
        let mut at = 0;
        for (i, blob) in self.blobs.iter().enumerate() {
            put(layout.blobs as usize + i * 32, blob.as_bytes());
            put(layout.blob_first as usize + i * 4, &(at as u32).to_le_bytes());
            at += by_blob[at..].iter().take_while(|(blob, _)| *blob as usize == i).count();
        }
        put(layout.blob_first as usize + self.blobs.len() * 4, &(at as u32).to_le_bytes());
        for (i, (_, id)) in by_blob.iter().enumerate() {
            put(layout.blob_nodes as usize + i * 4, &id.to_le_bytes());
        }

        let (head, body) = file.split_at_mut(layout.body as usize);
        head[..HEADER_LEN].copy_from_slice(&counts.header(layout));
        for (entry, chunk) in head[HEADER_LEN..].chunks_exact_mut(32).zip(body.chunks(CHUNK)) {
            entry.copy_from_slice(Hash::of(chunk).as_bytes());
        }
        let id = format::head_checksum(&head[..HEADER_LEN], &head[HEADER_LEN..]);
        head[format::CHECKSUM_AT..HEADER_LEN].copy_from_slice(id.as_bytes());
        (file, id)
    }
}
