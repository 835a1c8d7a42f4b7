//! Packs: many small blobs in one object, so that a tree of them doesn't cost a request for each.
//!
//! A pack is its blobs one after the other, named by the hash of that, and an index beside it says
//! which they are. What of a tree lies in packs stands beside its manifest, so that who pulls has to
//! list nothing: a web server can't. On the disk of a store nothing is packed, as a job is handed the
//! descriptor of a blob.
//!
//! `format` knows the bytes, `make` fills packs for a push, `see` finds out which the remote has,
//! `take` gets blobs out of them.

mod format;
mod make;
mod see;
mod take;

use std::collections::HashMap;

use vrift_store::Hash;

pub(super) use make::{send, send_map};
pub(super) use see::see;
pub(super) use take::{Stretch, download, map_of};

/// Largest blob that is packed, in bytes.
pub(super) const SMALL: u64 = 64 << 10;
/// So many small blobs are worth packs.
pub(super) const WORTH: usize = 1000;

/// A blob in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub blob: Hash,
    /// Where it begins in the pack.
    pub at: u32,
    pub size: u32,
}

impl Piece {
    fn end(&self) -> u64 {
        u64::from(self.at) + u64::from(self.size)
    }
}

/// Where blobs of a tree lie in packs.
#[derive(Debug, Default)]
pub(super) struct PackMap {
    /// Packs, each with those of its pieces that matter, in the order of their places.
    packs: Vec<(Hash, Vec<Piece>)>,
    places: HashMap<Hash, (usize, usize)>,
}

impl PackMap {
    /// Adds a pack. A blob that lies in two is taken from the first.
    pub fn add(&mut self, pack: Hash, mut pieces: Vec<Piece>) {
        pieces.retain(|piece| !self.places.contains_key(&piece.blob));
        pieces.sort_by_key(|piece| piece.at);
        let at = self.packs.len();
        for (i, piece) in pieces.iter().enumerate() {
            self.places.insert(piece.blob, (at, i));
        }
        if !pieces.is_empty() {
            self.packs.push((pack, pieces));
        }
    }

    pub fn holds(&self, blob: &Hash) -> bool {
        self.places.contains_key(blob)
    }

    pub fn is_empty(&self) -> bool {
        self.packs.is_empty()
    }
}
