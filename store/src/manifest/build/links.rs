//! Which entries are names of one inode. Every inode that may have several gets a number; nearly
//! all come from a grafted manifest, so those are found by position and not by hashing.

use std::collections::HashMap;

use super::entry::{Inode, Key};
use super::{BuildError, Item, LinkKey};
use crate::hash::Hash;

/// The numbers given out so far.
#[derive(Default)]
pub(super) struct Links {
    own: HashMap<(u64, u64), u32>,
    bases: Vec<Base>,
    count: u32,
    changed: HashMap<u32, Inode>,
}

/// The inodes of one manifest that parts were taken from.
struct Base {
    id: Hash,
    /// By the inode's number in it.
    numbers: Vec<Option<u32>>,
}

impl Links {
    /// How many numbers were given out.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The number that stands for `key`, always the same.
    pub fn number(&mut self, key: LinkKey) -> Result<u32, BuildError> {
        let known = match key.0 {
            Key::Own(first, second) => self.own.get(&(first, second)).copied(),
            Key::Of(id, inode) => *self.place(&id, inode),
        };
        if let Some(number) = known {
            return Ok(number);
        }
        let number = self.count;
        self.count = number.checked_add(1).ok_or(BuildError::TooLarge)?;
        match key.0 {
            Key::Own(first, second) => {
                self.own.insert((first, second), number);
            }
            Key::Of(id, inode) => *self.place(&id, inode) = Some(number),
        }
        Ok(number)
    }

    fn place(&mut self, id: &Hash, inode: u32) -> &mut Option<u32> {
        let at = self.bases.iter().position(|base| base.id == *id).unwrap_or_else(|| {
            self.bases.push(Base { id: *id, numbers: Vec::new() });
            self.bases.len() - 1
        });
        let numbers = &mut self.bases[at].numbers;
        let at = inode as usize;
        if numbers.len() <= at {
            numbers.resize(at + 1, None);
        }
        &mut numbers[at]
    }

    /// All names of `key` are to be `inode`.
    pub fn change(&mut self, key: LinkKey, inode: Inode) -> Result<(), BuildError> {
        let number = self.number(key)?;
        self.changed.insert(number, inode);
        Ok(())
    }

    /// Gives the names of changed inodes what their inode is now.
    pub fn apply_changes(&self, items: &mut [Item]) {
        if self.changed.is_empty() {
            return;
        }
        for item in items {
            if let Some(inode) = item.links.and_then(|number| self.changed.get(&number)) {
                item.inode = *inode;
            }
        }
    }
}
