//! Which of the blobs that are there are named by the manifests that stay.
//!
//! Blobs are taken group by group, a group being so many directories `blobs/ab` that their blobs are
//! about a million: a hash and a byte for each is all that is kept in memory, however large the store
//! is and however many manifests name the same blob. A manifest has its blobs in ascending order, so
//! finding them in a group goes through both once. In a store of more groups each manifest is opened
//! once for each.

use std::collections::{HashMap, HashSet};

use rustix::fs::FileType;

use crate::error::StoreError;
use crate::hash::Hash;
use crate::store::Store;

/// A group is full when it has so many blobs: 32 MiB of hashes, and a directory's more.
const GROUP: usize = 1 << 20;
/// What `blobs` holds at most: directories 00 to ff.
const DIRECTORIES: usize = 256;

/// There is a blob of this hash.
const BLOB: u8 = 1;
/// A manifest that stays names it.
const MARKED: u8 = 2;

/// The manifests that stay, and how far the store was looked through.
pub(super) struct Marks<'s> {
    store: &'s Store,
    manifests: Vec<Hash>,
    known: HashSet<Hash>,
    /// The first directory of blobs that was in no group yet.
    next: usize,
    full: usize,
}

/// Some of the blobs that are there, in ascending order, and hashes of which something else is there.
#[derive(Default)]
pub(super) struct Group {
    hashes: Vec<Hash>,
    flags: Vec<u8>,
    /// What goes with a blob: names below the root.
    leftovers: HashMap<Hash, Vec<String>>,
}

impl<'s> Marks<'s> {
    pub fn new(store: &'s Store, manifests: Vec<Hash>) -> Marks<'s> {
        let known = manifests.iter().copied().collect();
        Marks { store, manifests, known, next: 0, full: GROUP }
    }

    /// The next group, with all that is named in it marked; None after the last one. Before the first
    /// one is given, all manifests are read whole as far as their blobs are concerned.
    pub fn group(&mut self) -> Result<Option<Group>, StoreError> {
        let first = self.next;
        if first == DIRECTORIES {
            return Ok(None);
        }
        let mut group = Group::default();
        while self.next < DIRECTORIES && (self.next == first || group.hashes.len() < self.full) {
            group.list(self.store, self.next)?;
            self.next += 1;
        }
        group.add_leftovers(self.store, first..self.next)?;
        for manifest in &self.manifests {
            group.mark(self.store, manifest, first == 0)?;
        }
        Ok(Some(group))
    }

    /// Another manifest that stays. What it names in `group` is marked.
    pub fn add(&mut self, manifest: Hash, group: &mut Group) -> Result<(), StoreError> {
        if !self.known.contains(&manifest) {
            group.mark(self.store, &manifest, true)?;
            self.known.insert(manifest);
            self.manifests.push(manifest);
        }
        Ok(())
    }

    /// Manifests that were published since are manifests that stay.
    pub fn catch_up(&mut self, group: &mut Group) -> Result<(), StoreError> {
        for manifest in self.store.manifests()? {
            self.add(manifest, group)?;
        }
        Ok(())
    }
}

impl Group {
    /// The places of blobs, or of what goes with them, that nothing names.
    pub fn unnamed(&self) -> Vec<usize> {
        (0..self.flags.len()).filter(|&i| self.flags[i] & MARKED == 0).collect()
    }

    /// How many blobs are named.
    pub fn named(&self) -> u64 {
        self.flags.iter().filter(|&&flags| flags == BLOB | MARKED).count() as u64
    }

    pub fn is_named(&self, at: usize) -> bool {
        self.flags[at] & MARKED != 0
    }

    pub fn is_blob(&self, at: usize) -> bool {
        self.flags[at] & BLOB != 0
    }

    pub fn hash(&self, at: usize) -> Hash {
        self.hashes[at]
    }

    /// What goes with a blob.
    pub fn leftovers(&self, hash: &Hash) -> &[String] {
        self.leftovers.get(hash).map_or(&[], Vec::as_slice)
    }

    /// Adds the blobs of one directory; they follow those before.
    fn list(&mut self, store: &Store, directory: usize) -> Result<(), StoreError> {
        for (name, kind) in store.list(&format!("blobs/{directory:02x}"))? {
            // What doesn't belong there is none of ours; `verify` tells of it.
            if let Some(hash) = hash_of(&name, name.len())
                && usize::from(hash.as_bytes()[0]) == directory
                && matches!(kind, FileType::RegularFile | FileType::Unknown)
            {
                self.hashes.push(hash);
                self.flags.push(BLOB);
            }
        }
        Ok(())
    }

    /// Adds notes of checks and runnable copies, also of blobs that aren't there.
    fn add_leftovers(
        &mut self,
        store: &Store,
        directories: std::ops::Range<usize>,
    ) -> Result<(), StoreError> {
        let mut without = HashSet::new();
        for dir in ["checked", "exec"] {
            for (name, _) in store.list(dir)? {
                let Some(hash) = hash_of(&name, 64) else { continue };
                let Ok(name) = String::from_utf8(name) else { continue };
                if directories.contains(&usize::from(hash.as_bytes()[0])) {
                    if self.hashes.binary_search(&hash).is_err() {
                        without.insert(hash);
                    }
                    self.leftovers.entry(hash).or_default().push(format!("{dir}/{name}"));
                }
            }
        }
        if !without.is_empty() {
            let blobs = self.hashes.iter().copied().zip(self.flags.iter().copied());
            let mut all: Vec<(Hash, u8)> = blobs.chain(without.iter().map(|h| (*h, 0))).collect();
            all.sort_unstable_by_key(|(hash, _)| *hash);
            (self.hashes, self.flags) = all.into_iter().unzip();
        }
        Ok(())
    }

    /// Marks what a manifest names. `check`: the part of it that speaks of other groups is read too.
    fn mark(&mut self, store: &Store, manifest: &Hash, check: bool) -> Result<(), StoreError> {
        let manifest = store.manifest(manifest)?;
        let mut first = 0;
        if !check && let Some(lowest) = self.hashes.first() {
            let mut end = manifest.blobs();
            while first < end {
                let middle = first.midpoint(end);
                if manifest.blob(middle)? < *lowest { first = middle + 1 } else { end = middle }
            }
        }
        let mut at = 0;
        for i in first..manifest.blobs() {
            let blob = manifest.blob(i)?;
            at = self.reach(at, &blob);
            match self.hashes.get(at) {
                Some(hash) if *hash == blob => self.flags[at] |= MARKED,
                Some(_) => {}
                None if check => {}
                None => break,
            }
        }
        Ok(())
    }

    /// The first place from `at` on whose hash isn't lower than `hash`: by steps that double, so that
    /// a manifest of few blobs costs little, and one of many is gone through in order.
    fn reach(&self, at: usize, hash: &Hash) -> usize {
        let rest = self.hashes.get(at..).unwrap_or_default();
        let mut end = 1;
        while end < rest.len() && rest[end - 1] < *hash {
            end *= 2;
        }
        let (start, end) = (end / 2, end.min(rest.len()));
        at + start + rest[start..end].partition_point(|other| other < hash)
    }
}

/// The hash that the first `digits` bytes of a name are.
fn hash_of(name: &[u8], digits: usize) -> Option<Hash> {
    std::str::from_utf8(name.get(..digits)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Entry, ManifestBuilder, ROOT};

    /// Stores a tree of these contents, and gives its manifest.
    fn tree(store: &Store, contents: std::ops::Range<u32>) -> Hash {
        let directory = Entry::directory(0o755, (0, 0));
        let mut builder = ManifestBuilder::new(directory).expect("root");
        for i in contents {
            let content = i.to_le_bytes();
            let (blob, _) = store.put_blob(&content).expect("blob");
            let entry = Entry::file(0o644, (0, 0), 4, blob);
            builder.add(ROOT, format!("{i}").as_bytes(), entry).expect("entry");
        }
        let (bytes, id) = builder.finish().expect("finish");
        store.put_manifest(&bytes, &id).expect("manifest");
        id
    }

    #[test]
    fn every_blob_is_in_one_group_and_marked_if_it_is_named() {
        let temp = tempfile::tempdir().expect("tempdir");
        let store = Store::open_or_create(&temp.path().join("s")).expect("store");
        let manifests = vec![tree(&store, 0..700), tree(&store, 650..1000), tree(&store, 3..4)];
        for i in 1000..1500u32 {
            store.put_blob(&i.to_le_bytes()).expect("blob");
        }
        let named: HashSet<Hash> = (0..1000u32).map(|i| Hash::of(&i.to_le_bytes())).collect();
        // A twin of a blob that is there, of one that isn't, and one of a real program.
        let (here, gone) = (Hash::of(&7u32.to_le_bytes()), Hash::of(b"gone"));
        std::fs::create_dir(store.root().join("exec")).expect("mkdir");
        for name in [format!("{here}-0123456789abcdef"), gone.to_string(), format!("real-{gone}")] {
            std::fs::write(store.root().join("exec").join(name), "").expect("twin");
        }
        for full in [1, 100, 1_000_000] {
            let mut marks = Marks::new(&store, manifests.clone());
            marks.full = full;
            let (mut seen, mut groups) = (HashSet::new(), 0);
            while let Some(group) = marks.group().expect("group") {
                groups += 1;
                assert!(group.hashes.is_sorted());
                for at in 0..group.hashes.len() {
                    let hash = group.hash(at);
                    assert!(seen.insert(hash), "twice");
                    assert_eq!(group.is_named(at), named.contains(&hash));
                    assert_eq!(group.is_blob(at), hash != gone);
                    let twins = usize::from(hash == here || hash == gone);
                    assert_eq!(group.leftovers(&hash).len(), twins);
                }
            }
            assert_eq!(seen.len(), 1501);
            assert!(if full == 1 { groups > 200 } else { groups >= 1 }, "{groups}");
        }
    }

    #[test]
    fn a_damaged_manifest_shows_before_the_first_group() {
        let temp = tempfile::tempdir().expect("tempdir");
        let store = Store::open_or_create(&temp.path().join("s")).expect("store");
        let manifest = tree(&store, 0..10);
        let path = store.root().join(format!("manifests/{manifest}"));
        let mut bytes = std::fs::read(&path).expect("read");
        bytes[400] ^= 1;
        std::fs::remove_file(&path).expect("rm");
        std::fs::write(&path, bytes).expect("write");
        assert!(Marks::new(&store, vec![manifest]).group().is_err());
    }
}
