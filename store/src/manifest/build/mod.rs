//! Making a manifest: entries go in, in any order as long as a directory comes before what it
//! holds; the bytes of the file come out. Parts of another manifest can be taken over whole.
//!
//! The bytes depend on the tree alone, not on the order of insertion, so that the same tree has
//! the same manifest hash. Nothing is written here. `entry` is what goes in, `graft` takes from
//! another manifest, `links` knows which names share an inode, `tree` puts the nodes in order, and
//! `encode` makes the bytes.

mod encode;
mod entry;
mod graft;
mod links;
mod tree;

use super::format::{self, Counts};
use super::{NodeKind, index};
use crate::hash::Hash;
use encode::Encoder;
use entry::{Content, Inode, Span, Strings};
use links::Links;
use tree::Tree;

pub use entry::{Entry, LinkKey};

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
    /// Names of one inode that don't say the same about it.
    #[error("{0:?} differs from another name of its inode")]
    Links(String),
    /// A name of an inode of which no other name was stored.
    #[error("a hard link's file was never stored")]
    MissingLink,
    /// More than the format can count.
    #[error("the tree is too large for one manifest: more than 2^31 nodes or 4 GiB of names")]
    TooLarge,
}

struct Item {
    parent: u32,
    /// The names of one inode have the same number here.
    links: Option<u32>,
    name: Span,
    inode: Inode,
}

impl Item {
    fn is_directory(&self) -> bool {
        matches!(self.inode.content, Content::Directory)
    }
}

/// Collects a tree; see the module's text.
pub struct ManifestBuilder {
    items: Vec<Item>,
    strings: Strings,
    links: Links,
}

impl ManifestBuilder {
    /// Starts a tree with its root directory, whose number here is 0.
    ///
    /// # Errors
    /// The entry isn't a directory, or its mode, time or attributes are out of range.
    #[expect(clippy::needless_pass_by_value, reason = "an entry is made for this one use")]
    pub fn new(root: Entry) -> Result<ManifestBuilder, BuildError> {
        if root.kind != NodeKind::Directory {
            return Err(BuildError::Entry { name: String::new(), what: "to be a directory" });
        }
        let mut strings = Strings::default();
        let inode = Inode::new(&mut strings, b"", &root)?;
        let items = vec![Item { parent: 0, links: None, name: Span::EMPTY, inode }];
        Ok(ManifestBuilder { items, strings, links: Links::default() })
    }

    /// Adds an entry to the directory `parent` and returns its number, which is good as a `parent`
    /// here and means nothing in the finished manifest.
    ///
    /// # Errors
    /// The name or the entry isn't possible, or `parent` isn't a directory.
    #[expect(clippy::needless_pass_by_value, reason = "an entry is made for this one use")]
    pub fn add(&mut self, parent: u32, name: &[u8], entry: Entry) -> Result<u32, BuildError> {
        self.check_place(parent, name)?;
        let inode = Inode::new(&mut self.strings, name, &entry)?;
        let key = entry.link.filter(|_| entry.kind != NodeKind::Directory);
        let links = key.map(|key| self.links.number(key)).transpose()?;
        let name = self.strings.add(name)?;
        self.push(Item { parent, links, name, inode })
    }

    /// Says that the inode `key` is now `entry`, whatever its names said or will say, those that
    /// are grafted included: so a base's file changes for all its names at once. The entry's own
    /// `link` is ignored. An inode without a name in the tree is in no manifest.
    ///
    /// # Errors
    /// The entry isn't possible, or is a directory, which has one name only.
    #[expect(clippy::needless_pass_by_value, reason = "an entry is made for this one use")]
    pub fn change_inode(&mut self, key: LinkKey, entry: Entry) -> Result<(), BuildError> {
        if entry.kind == NodeKind::Directory {
            let what = "to be a file or a symbolic link, as one of several names";
            return Err(BuildError::Entry { name: String::new(), what });
        }
        let inode = Inode::new(&mut self.strings, b"", &entry)?;
        self.links.change(key, inode)
    }

    /// May `parent` have an entry of this name?
    fn check_place(&self, parent: u32, name: &[u8]) -> Result<(), BuildError> {
        if !format::is_entry_name(name) {
            return Err(BuildError::Name(lossy(name)));
        }
        match self.items.get(parent as usize) {
            Some(item) if item.is_directory() => Ok(()),
            _ => Err(BuildError::Parent(lossy(name))),
        }
    }

    fn push(&mut self, item: Item) -> Result<u32, BuildError> {
        let number = u32::try_from(self.items.len()).map_err(|_| BuildError::TooLarge)?;
        self.items.push(item);
        Ok(number)
    }

    /// The finished file's bytes and its name.
    ///
    /// # Errors
    /// Two entries of a directory have the same name, names of one inode differ, or the tree is
    /// too large.
    pub fn finish(mut self) -> Result<(Vec<u8>, Hash), BuildError> {
        self.links.apply_changes(&mut self.items);
        let tree = Tree::order(&self.items, &self.strings, self.links.count())?;
        let mut encoder = Encoder::new(&self.strings, tree.nodes.len());
        let records = encoder.records(&tree)?;
        let nodes = u32::try_from(records.len()).map_err(|_| BuildError::TooLarge)?;
        let count = |kind: NodeKind| {
            let of_kind = records.iter().filter(|record| record.kind == kind.code()).count();
            u32::try_from(of_kind).map_err(|_| BuildError::TooLarge)
        };
        let counts = Counts {
            nodes,
            files: count(NodeKind::File)?,
            directories: count(NodeKind::Directory)?,
            symlinks: count(NodeKind::Symlink)?,
            blobs: encoder.blobs()?,
            slots: index::slots_for(nodes).ok_or(BuildError::TooLarge)?,
            bloom_blocks: nodes.div_ceil(index::KEYS_PER_BLOCK),
            strings_len: encoder.strings_len(),
            total_bytes: tree.total_bytes(),
        };
        let layout = counts.layout().ok_or(BuildError::TooLarge)?;
        Ok(encoder.assemble(&tree, &records, &counts, &layout))
    }
}

fn lossy(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}
