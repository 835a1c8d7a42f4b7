//! Making a manifest from parts of another one: what comes out is what building it from nothing
//! gives, to the byte.

#![allow(clippy::tests_outside_test_module, reason = "this whole file is tests")]

use std::collections::BTreeMap;
use std::time::Instant;

use proptest::prelude::*;
use vrift_store::manifest::{BuildError, Entry, LinkKey, ManifestBuilder, ROOT};
use vrift_store::{Hash, Manifest, ManifestError, NodeId, StoreError};

fn dir() -> Entry {
    Entry::directory(0o755, (1_700_000_000, 5))
}

fn file(content: &[u8]) -> Entry {
    Entry::file(0o644, (-1, 999_999_999), content.len() as u64, Hash::of(content))
}

fn linked(content: &[u8], key: u64) -> Entry {
    Entry { link: Some(LinkKey::new(0, key)), ..file(content) }
}

/// A manifest in a file of its own, which may go when it is open.
fn open(bytes: &[u8]) -> Manifest {
    let temp = tempfile::tempdir().expect("tempdir");
    let path = temp.path().join("manifest");
    std::fs::write(&path, bytes).expect("write");
    Manifest::open(&path).expect("open")
}

fn finish(builder: ManifestBuilder) -> Manifest {
    let manifest = open(&builder.finish().expect("finish").0);
    manifest.check().expect("check");
    manifest
}

fn find(m: &Manifest, path: &str) -> NodeId {
    m.find(path.as_bytes()).expect("readable").unwrap_or_else(|| panic!("no {path}"))
}

/// The number of names and the first one's path of the inode at `path`.
fn links(m: &Manifest, path: &str) -> (u32, String) {
    let node = m.node(find(m, path)).expect("node");
    let first = m.path_of(node.inode).expect("path");
    (node.nlink, String::from_utf8(first).expect("UTF-8"))
}

/// `a/one`, `b/two` and `three` are one inode; `b/alone`, `a/link` and `a/deep/x` aren't.
fn base() -> Manifest {
    let mut root = dir();
    root.xattrs = vec![(b"user.z".to_vec(), b"1".to_vec()), (b"user.a".to_vec(), vec![])];
    let mut builder = ManifestBuilder::new(root).expect("root");
    let a = builder.add(0, b"a", Entry { mode: 0o2700, ..dir() }).expect("a");
    let b = builder.add(0, b"b", dir()).expect("b");
    let deep = builder.add(a, b"deep", dir()).expect("deep");
    let mut x = file(b"x");
    x.xattrs = vec![(b"user.k".to_vec(), vec![0xff; 300])];
    builder.add(deep, b"x", x).expect("x");
    builder.add(a, b"one", linked(b"shared", 7)).expect("one");
    builder.add(b, b"two", linked(b"shared", 7)).expect("two");
    builder.add(0, b"three", linked(b"shared", 7)).expect("three");
    builder.add(b, b"alone", file(b"shared")).expect("alone");
    builder.add(a, b"link", Entry::symlink(b"../b/two".to_vec(), (3, 4))).expect("link");
    finish(builder)
}

/// A tree with the root of `base`, in which nothing stands yet.
fn like(base: &Manifest) -> ManifestBuilder {
    ManifestBuilder::new(Entry::of(base, ROOT).expect("root")).expect("root")
}

fn graft(builder: &mut ManifestBuilder, parent: u32, name: &str, base: &Manifest) -> u32 {
    let id = find(base, name);
    let last = name.rsplit('/').next().unwrap_or(name);
    builder.graft(parent, last.as_bytes(), base, id).expect("graft")
}

#[test]
fn all_parts_of_a_tree_make_the_same_tree() {
    let base = base();
    let mut builder = like(&base);
    for name in ["three", "b", "a"] {
        graft(&mut builder, 0, name, &base);
    }
    assert_eq!(builder.finish().expect("finish").1, base.id());

    // Its root under a name of its own.
    let mut builder = ManifestBuilder::new(dir()).expect("root");
    builder.graft(0, b"all", &base, ROOT).expect("graft");
    let deeper = finish(builder);
    assert_eq!(deeper.len(), base.len() + 1);
    assert_eq!(links(&deeper, "all/b/two"), (3, "all/three".into()));
    assert_eq!(deeper.node(1).expect("node").xattrs().count(), 2);
}

#[test]
fn a_graft_can_be_renamed_and_added_to() {
    let base = base();
    let mut builder = like(&base);
    let a = builder.graft(0, b"new name", &base, find(&base, "a")).expect("graft");
    builder.add(a, b"also", file(b"also")).expect("add");
    let twice = builder.graft(a, b"a", &base, find(&base, "a/deep")).expect("graft");
    builder.graft(twice, b"y", &base, find(&base, "a/deep/x")).expect("graft");
    let m = finish(builder);
    for path in ["new name/also", "new name/a/x", "new name/a/y", "new name/deep/x"] {
        find(&m, path);
    }
    assert_eq!(m.node(find(&m, "new name")).expect("node").mode, 0o2700);
}

#[test]
fn names_of_one_inode_stay_names_of_one_inode() {
    let base = base();
    let mut builder = like(&base);
    graft(&mut builder, 0, "three", &base);
    graft(&mut builder, 0, "b", &base);
    // One name is gone, one is new, and the caller's own key has the same numbers as all others.
    let three = LinkKey::of(&base, find(&base, "three")).expect("key");
    builder.add(0, b"z", Entry { link: Some(three), ..file(b"shared") }).expect("new name");
    builder.add(0, b"own", linked(b"other", 7)).expect("own");
    let inode = base.node(find(&base, "three")).expect("node").inode;
    builder.add(0, b"own2", linked(b"third", u64::from(inode))).expect("own");
    // A file that had one name gets another.
    let alone = Entry::of(&base, find(&base, "b/alone")).expect("entry");
    builder.add(0, b"alone2", alone.clone()).expect("alone2");
    builder.add(0, b"copy", Entry { link: None, ..alone }).expect("copy");
    let m = finish(builder);
    for path in ["three", "b/two", "z"] {
        assert_eq!(links(&m, path), (3, "three".into()), "{path}");
    }
    for path in ["own", "own2", "copy"] {
        assert_eq!(links(&m, path), (1, path.into()));
    }
    assert_eq!(links(&m, "b/alone"), (2, "alone2".into()));
}

#[test]
fn inodes_of_two_manifests_are_different_ones() {
    let base = base();
    let mut builder = ManifestBuilder::new(dir()).expect("root");
    builder.add(0, b"a", linked(b"elsewhere", 1)).expect("a");
    builder.add(0, b"three", linked(b"elsewhere", 1)).expect("three");
    let other = finish(builder);
    let mut builder = like(&base);
    for (name, from) in [("base", &base), ("other", &other)] {
        builder.graft(0, name.as_bytes(), from, ROOT).expect("graft");
    }
    let m = finish(builder);
    assert_eq!(links(&m, "base/a/one"), (3, "base/three".into()));
    assert_eq!(links(&m, "other/three"), (2, "other/a".into()));
}

#[test]
fn a_changed_inode_changes_under_all_its_names() {
    let base = base();
    let mut builder = like(&base);
    graft(&mut builder, 0, "a", &base);
    let key = LinkKey::of(&base, find(&base, "b/two")).expect("key");
    builder.change_inode(key, file(b"rewritten")).expect("change");
    graft(&mut builder, 0, "b", &base);
    graft(&mut builder, 0, "three", &base);
    let m = finish(builder);
    for path in ["a/one", "b/two", "three"] {
        let node = m.node(find(&m, path)).expect("node");
        assert_eq!((node.blob, node.nlink), (Some(Hash::of(b"rewritten")), 3), "{path}");
    }
    let alone = m.node(find(&m, "b/alone")).expect("node");
    assert_eq!(alone.blob, Some(Hash::of(b"shared")));
    assert_eq!(m.total_bytes(), 9 + 6 + 1);

    let mut builder = like(&base);
    let refused = builder.change_inode(key, dir()).expect_err("a directory has one name");
    assert!(matches!(refused, BuildError::Entry { .. }));
}

#[test]
fn names_of_one_inode_that_differ_are_refused() {
    let base = base();
    let mut one = Entry::of(&base, find(&base, "a/one")).expect("entry");
    one.mode = 0o600;
    let mut builder = like(&base);
    graft(&mut builder, 0, "b", &base);
    builder.add(0, b"x", one.clone()).expect("add");
    let refused = builder.finish().expect_err("one inode, two modes");
    assert_eq!(refused, BuildError::Links("two".into()));
    // Parted from the others, it may differ.
    let mut builder = like(&base);
    graft(&mut builder, 0, "b", &base);
    builder.add(0, b"x", Entry { link: None, ..one }).expect("add");
    assert_eq!(links(&finish(builder), "x"), (1, "x".into()));
}

#[test]
fn what_cannot_be_grafted_is_refused() {
    let base = base();
    let mut builder = like(&base);
    let three = graft(&mut builder, 0, "three", &base);
    let refused = builder.graft(three, b"x", &base, ROOT).expect_err("a file holds nothing");
    assert!(matches!(refused, StoreError::Build(BuildError::Parent(_))));
    let refused = builder.graft(0, b"a/b", &base, ROOT).expect_err("not a name");
    assert!(matches!(refused, StoreError::Build(BuildError::Name(_))));
    let refused = builder.graft(0, b"x", &base, base.len()).expect_err("no node");
    assert!(matches!(refused, StoreError::Manifest(ManifestError::NoSuchNode { .. })));
    Entry::of(&base, base.len()).expect_err("no node");
    LinkKey::of(&base, base.len()).expect_err("no node");
    graft(&mut builder, 0, "three", &base);
    assert_eq!(builder.finish().expect_err("twice"), BuildError::Duplicate("three".into()));
}

/// `count` files, a hundred to a directory.
fn large(count: u32) -> ManifestBuilder {
    let mut builder = ManifestBuilder::new(dir()).expect("root");
    let mut parent = 0;
    for i in 0..count {
        if i % 100 == 0 {
            parent = builder.add(0, format!("dir-{:05}", i / 100).as_bytes(), dir()).expect("dir");
        }
        let blob = Hash::of(&(i / 2).to_le_bytes());
        let entry = Entry::file(0o644, (0, 0), 4, blob);
        builder.add(parent, format!("some-source-file-{i}.c").as_bytes(), entry).expect("file");
    }
    builder
}

#[test]
fn damage_in_the_base_stops_a_graft() {
    let (bytes, _) = large(60_000).finish().expect("finish");
    assert!(bytes.len() > 4 << 20, "checked lazily only beyond 4 MiB");
    let mut damaged = bytes.clone();
    damaged[bytes.len() / 2] ^= 1;
    let base = open(&damaged);
    let mut builder = ManifestBuilder::new(dir()).expect("root");
    let refused = builder.graft(0, b"all", &base, ROOT).expect_err("damaged");
    assert!(matches!(refused, StoreError::Manifest(ManifestError::Damaged { .. })), "{refused}");
}

#[test]
fn ten_changes_among_two_hundred_thousand_files() {
    let base = finish(large(200_000));
    let start = Instant::now();
    let mut builder = like(&base);
    for (i, id) in base.children(ROOT).expect("children").enumerate() {
        let node = base.node(id).expect("node");
        if i % 200 != 7 {
            builder.graft(0, node.name, &base, id).expect("graft");
            continue;
        }
        let entry = Entry::of(&base, id).expect("entry");
        let parent = builder.add(0, node.name, entry).expect("directory");
        for (j, id) in base.children(id).expect("children").enumerate() {
            let node = base.node(id).expect("node");
            if j == 50 {
                builder.add(parent, node.name, file(b"changed")).expect("file");
            } else {
                builder.graft(parent, node.name, &base, id).expect("graft");
            }
        }
    }
    let (bytes, id) = builder.finish().expect("finish");
    // An unoptimised build takes about a second; `cargo bench -p vrift-store` measures.
    assert!(start.elapsed().as_secs() < 20, "took {:?}", start.elapsed());
    let changed = open(&bytes);
    assert_eq!((changed.id(), changed.len()), (id, base.len()));
    let differences = vrift_store::diff::diff(&base, &changed).expect("diff");
    assert_eq!(differences.len(), 10);
}

#[derive(Debug, Clone, PartialEq)]
enum Tree {
    /// Files of equal content are names of one inode.
    File(u8),
    Link(u8),
    Dir(u8, Entries),
}

type Entries = BTreeMap<Vec<u8>, Tree>;

fn entries(depth: u32) -> impl Strategy<Value = Entries> {
    let name = || prop::collection::vec(prop::sample::select(&b"ab\xff"[..]), 1..3);
    let leaf = prop_oneof![(0u8..6).prop_map(Tree::File), (0u8..3).prop_map(Tree::Link)];
    let tree = leaf.prop_recursive(depth, 60, 6, move |inner| {
        (0u8..2, prop::collection::btree_map(name(), inner, 0..6))
            .prop_map(|(mode, entries)| Tree::Dir(mode, entries))
    });
    prop::collection::btree_map(name(), tree, 0..6)
}

fn entry(tree: &Tree) -> Entry {
    match tree {
        Tree::File(content) => linked(&[*content], u64::from(*content)),
        Tree::Link(target) => Entry::symlink(vec![*target + 1], (0, 0)),
        Tree::Dir(mode, _) => Entry { mode: 0o700 + u32::from(*mode), ..dir() },
    }
}

fn insert(builder: &mut ManifestBuilder, parent: u32, entries: &Entries) {
    for (name, tree) in entries {
        let id = builder.add(parent, name, entry(tree)).expect("add");
        if let Tree::Dir(_, below) = tree {
            insert(builder, id, below);
        }
    }
}

/// As a commit does it: what is the same is grafted, what isn't is entered or added.
fn commit(
    builder: &mut ManifestBuilder,
    parent: u32,
    (base, at): (&Manifest, NodeId),
    (old, new): (&Entries, &Entries),
) {
    for (name, tree) in new {
        let node = base.child(at, name).expect("look-up");
        let (id, below) = match (node, old.get(name)) {
            (Some(node), Some(same)) if same == tree => {
                builder.graft(parent, name, base, node).expect("graft");
                continue;
            }
            (Some(node), Some(Tree::Dir(_, below))) => (node, below),
            _ => (at, &Entries::new()),
        };
        let mut entry = entry(tree);
        if let (Tree::File(content), Some(known)) = (tree, first_of(base, tree)) {
            // The caller doesn't mix its own keys with the base's for one inode.
            assert_eq!(base.node(known).expect("node").blob, Some(Hash::of(&[*content])));
            entry.link = Some(LinkKey::of(base, known).expect("key"));
        }
        let number = builder.add(parent, name, entry).expect("add");
        if let Tree::Dir(_, inside) = tree {
            if id == at {
                insert_new(builder, number, base, inside);
            } else {
                commit(builder, number, (base, id), (below, inside));
            }
        }
    }
}

fn insert_new(builder: &mut ManifestBuilder, parent: u32, base: &Manifest, entries: &Entries) {
    commit(builder, parent, (base, ROOT), (&Entries::new(), entries));
}

fn first_of(base: &Manifest, tree: &Tree) -> Option<NodeId> {
    let Tree::File(content) = tree else { return None };
    base.by_blob(&Hash::of(&[*content])).expect("by_blob").next()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_commit_is_what_an_ingest_would_be(
        old in entries(4),
        fresh in entries(3),
        kept in prop::collection::vec(any::<bool>(), 6),
    ) {
        // Some of the old entries stay, some are replaced or joined by new ones.
        let mut new = fresh;
        for ((name, tree), keep) in old.iter().zip(kept) {
            if keep {
                new.insert(name.clone(), tree.clone());
            }
        }
        let whole = |entries: &Entries| {
            let mut builder = ManifestBuilder::new(dir()).expect("root");
            insert(&mut builder, 0, entries);
            finish(builder)
        };
        let base = whole(&old);
        let mut builder = ManifestBuilder::new(Entry::of(&base, ROOT).expect("root")).expect("root");
        commit(&mut builder, 0, (&base, ROOT), (&old, &new));
        prop_assert_eq!(builder.finish().expect("finish").1, whole(&new).id());
    }
}
