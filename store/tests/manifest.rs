//! The manifest format against a model, and against damage.

#![allow(clippy::tests_outside_test_module, reason = "this whole file is tests")]

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Instant;

use proptest::prelude::*;
use vrift_store::manifest::{BuildError, Entry, LinkKey, ManifestBuilder, ROOT};
use vrift_store::{Hash, Manifest, ManifestError, NodeKind};

fn dir() -> Entry {
    Entry::directory(0o755, (1_700_000_000, 5))
}

fn file(content: &[u8]) -> Entry {
    Entry::file(0o644, (-1, 999_999_999), content.len() as u64, Hash::of(content))
}

fn write(at: &Path, bytes: &[u8]) -> PathBuf {
    let path = at.join("manifest");
    std::fs::write(&path, bytes).expect("write the manifest");
    path
}

fn sample() -> (Vec<u8>, Hash) {
    let mut root = dir();
    root.xattrs = vec![(b"user.z".to_vec(), b"1".to_vec()), (b"user.a".to_vec(), vec![])];
    let mut b = ManifestBuilder::new(root).expect("root");
    let sub = b.add(0, b"sub", dir()).expect("sub");
    let deep = b.add(sub, b"deep", dir()).expect("deep");
    b.add(0, b"z\xff\n", file(b"z")).expect("z");
    b.add(deep, b"same", file(b"z")).expect("same");
    let hard = Entry { link: Some(LinkKey::new(1, 2)), ..file(b"linked") };
    b.add(deep, b"hard2", hard.clone()).expect("hard2");
    b.add(0, b"hard1", hard).expect("hard1");
    b.add(sub, b"link", Entry::symlink(b"../z".to_vec(), (3, 4))).expect("link");
    b.add(sub, b"empty", dir()).expect("empty");
    b.finish().expect("finish")
}

#[test]
fn what_goes_in_comes_out() {
    let temp = tempfile::tempdir().expect("tempdir");
    let (bytes, id) = sample();
    let m = Manifest::open(&write(temp.path(), &bytes)).expect("open");
    m.check().expect("check");
    assert_eq!(m.id(), id);
    assert_eq!((m.len(), m.files(), m.directories(), m.symlinks(), m.blobs()), (9, 4, 4, 1, 2));
    assert_eq!(m.total_bytes(), 1 + 1 + 6);

    let root = m.node(ROOT).expect("root");
    assert_eq!((root.parent, root.nlink, root.size, root.mode), (ROOT, 3, 4096, 0o755));
    let xattrs: Vec<_> = root.xattrs().collect();
    assert_eq!(xattrs, [(&b"user.a"[..], &b""[..]), (b"user.z", b"1")]);
    assert_eq!((root.mtime_sec, root.mtime_nsec), (1_700_000_000, 5));

    let names: Vec<_> = (0..m.child_count(ROOT).expect("count"))
        .map(|i| m.node(m.child_at(ROOT, i).expect("child")).expect("node").name.to_vec())
        .collect();
    assert_eq!(names, [&b"hard1"[..], b"sub", b"z\xff\n"]);

    let sub = m.child(ROOT, b"sub").expect("lookup").expect("sub");
    assert_eq!(m.node(sub).expect("sub").nlink, 4);
    let link = m.node(m.child(sub, b"link").expect("lookup").expect("link")).expect("link");
    assert_eq!((link.kind, link.target, link.size), (NodeKind::Symlink, &b"../z"[..], 4));
    assert_eq!((link.mode, link.blob, link.nlink), (0o777, None, 1));
    let deep = m.child(sub, b"deep").expect("lookup").expect("deep");
    let hard1 = m.child(ROOT, b"hard1").expect("lookup").expect("hard1");
    let hard2 = m.child(deep, b"hard2").expect("lookup").expect("hard2");
    let (one, two) = (m.node(hard1).expect("hard1"), m.node(hard2).expect("hard2"));
    assert_eq!((one.nlink, two.nlink, one.inode, two.inode), (2, 2, hard1, hard1));
    assert_eq!((one.mtime_sec, one.mtime_nsec, one.mode), (-1, 999_999_999, 0o644));

    let z = m.child(ROOT, b"z\xff\n").expect("lookup").expect("z");
    let same = m.child(deep, b"same").expect("lookup").expect("same");
    assert_eq!(m.by_blob(&Hash::of(b"z")).expect("by_blob").collect::<Vec<_>>(), [z, same]);
    assert_eq!(m.by_blob(&Hash::of(b"no")).expect("by_blob").count(), 0);
    assert_eq!(m.child(z, b"x").expect("lookup in a file"), None);
    assert_eq!(m.child_count(z).expect("count of a file"), 0);
    assert!(matches!(m.node(9), Err(ManifestError::NoSuchNode { id: 9, len: 9 })));
    assert!(matches!(m.child(9, b"x"), Err(ManifestError::NoSuchNode { .. })));
    assert!(matches!(m.child_at(ROOT, 3), Err(ManifestError::NoSuchChild { count: 3, .. })));
}

/// Manifests are compared and shared by their ids: a change of the format needs a new version.
#[test]
fn the_same_tree_has_the_id_it_always_had() {
    let id = "673b3b5cb96002b169acd26fb9166428599232681ececf408bf44c24314d04ee";
    assert_eq!(sample().1.to_string(), id);
    let bytes = "03b834f1523f8e037f221ec782f879ce286125bbcc5538e76deb54691c86f4c2";
    assert_eq!(Hash::of(&large(60_000).0).to_string(), bytes);
}

#[test]
fn the_smallest_tree() {
    let temp = tempfile::tempdir().expect("tempdir");
    let (bytes, _) = ManifestBuilder::new(dir()).expect("root").finish().expect("finish");
    let m = Manifest::open(&write(temp.path(), &bytes)).expect("open");
    m.check().expect("check");
    assert_eq!((m.len(), m.child(ROOT, b"x").expect("lookup")), (1, None));
    assert_eq!(m.by_blob(&Hash::of(b"")).expect("by_blob").count(), 0);
}

#[test]
fn order_of_insertion_does_not_matter() {
    let build = |names: &[&[u8]]| {
        let mut b = ManifestBuilder::new(dir()).expect("root");
        for name in names {
            b.add(0, name, file(name)).expect("add");
        }
        b.finish().expect("finish").1
    };
    assert_eq!(build(&[b"a", b"b", b"c"]), build(&[b"c", b"a", b"b"]));
    assert_ne!(build(&[b"a", b"b"]), build(&[b"a", b"c"]));
}

#[test]
fn impossible_trees_are_refused() {
    let mut b = ManifestBuilder::new(dir()).expect("root");
    for name in [&b""[..], b".", b"..", b"a/b", b"a\0b", &[b'x'; 256]] {
        assert!(matches!(b.add(0, name, dir()), Err(BuildError::Name(_))), "{name:?}");
    }
    let f = b.add(0, &[b'x'; 255], file(b"")).expect("255 bytes are fine");
    assert!(matches!(b.add(f, b"x", dir()), Err(BuildError::Parent(_))));
    assert!(matches!(b.add(99, b"x", dir()), Err(BuildError::Parent(_))));
    let bad = [
        Entry { mode: 0o10000, ..dir() },
        Entry { mtime_nsec: 1_000_000_000, ..dir() },
        Entry { blob: None, ..file(b"") },
        Entry::symlink(vec![], (0, 0)),
        Entry::symlink(b"a\0b".to_vec(), (0, 0)),
        Entry::symlink(vec![b'x'; 4096], (0, 0)),
    ];
    for entry in bad {
        assert!(matches!(b.add(0, b"bad", entry), Err(BuildError::Entry { .. })));
    }
    b.add(0, b"twice", dir()).expect("once");
    b.add(0, b"twice", file(b"")).expect("noticed at the end");
    assert_eq!(b.finish().expect_err("twice"), BuildError::Duplicate("twice".into()));
    assert!(matches!(ManifestBuilder::new(file(b"")), Err(BuildError::Entry { .. })));
}

/// Uses every accessor; the answers may be errors but never differ from the sound manifest's.
fn same_or_error(sound: &Manifest, other: &Manifest) -> usize {
    let mut errors = 0;
    let mut check = |same: Option<bool>| match same {
        Some(same) => assert!(same, "damage changed an answer"),
        None => errors += 1,
    };
    for id in 0..sound.len() {
        let node = sound.node(id).expect("sound");
        check(other.node(id).ok().map(|n| n == node && n.xattrs().eq(node.xattrs())));
        check(other.children(id).ok().map(|c| c == sound.children(id).expect("sound")));
        check(other.child(node.parent, node.name).ok().map(|c| c == (id != ROOT).then_some(id)));
        check(other.child(id, b"nothing").ok().map(|c| c.is_none()));
        if let Some(blob) = node.blob {
            let ids: Vec<_> = sound.by_blob(&blob).expect("sound").collect();
            check(other.by_blob(&blob).ok().map(|i| i.collect::<Vec<_>>() == ids));
        }
    }
    errors
}

#[test]
fn each_flipped_byte_is_noticed() {
    let temp = tempfile::tempdir().expect("tempdir");
    let (bytes, _) = sample();
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            let path = write(temp.path(), &damaged);
            let error = Manifest::open(&path).expect_err("every byte is covered");
            let text = error.to_string();
            assert!(text.contains(path.to_str().expect("utf-8")), "{text}");
            let expected = match at {
                0..8 => matches!(error, ManifestError::NotAManifest { .. }),
                8..12 => matches!(error, ManifestError::Version { .. }),
                _ => matches!(error, ManifestError::Damaged { .. }),
            };
            assert!(expected, "byte {at}: {text}");
        }
    }
}

#[test]
fn each_truncation_is_noticed() {
    let temp = tempfile::tempdir().expect("tempdir");
    let (bytes, _) = sample();
    for len in 0..bytes.len() {
        let path = write(temp.path(), &bytes[..len]);
        let error = Manifest::open(&path).expect_err("too short");
        assert!(matches!(error, ManifestError::Damaged { .. }), "{len}: {error}");
    }
    let longer = [&bytes[..], b"x"].concat();
    Manifest::open(&write(temp.path(), &longer)).expect_err("too long");
}

#[test]
fn other_files_are_refused() {
    let temp = tempfile::tempdir().expect("tempdir");
    let path = write(temp.path(), &b"#!/bin/sh\n".repeat(100));
    assert!(matches!(Manifest::open(&path), Err(ManifestError::NotAManifest { .. })));
    assert!(matches!(Manifest::open(temp.path()), Err(ManifestError::NotAManifest { .. })));
    let missing = temp.path().join("missing");
    assert!(matches!(Manifest::open(&missing), Err(ManifestError::Open { .. })));
    let mut newer = sample().0;
    newer[8] = 2;
    assert!(matches!(
        Manifest::open(&write(temp.path(), &newer)),
        Err(ManifestError::Version { found: 2, .. })
    ));
}

/// Directory number and name to content.
type Model = HashMap<(u32, Vec<u8>), Hash>;

/// A tree of `count` files, a hundred to a directory, and its paths.
fn large(count: u32) -> (Vec<u8>, Model) {
    let mut b = ManifestBuilder::new(dir()).expect("root");
    let mut model = HashMap::new();
    let mut parent = 0;
    for i in 0..count {
        if i % 100 == 0 {
            parent = b.add(0, format!("dir-{:05}", i / 100).as_bytes(), dir()).expect("dir");
        }
        let name = format!("some-source-file-{i}.c").into_bytes();
        let blob = Hash::of(&(i / 2).to_le_bytes());
        b.add(parent, &name, Entry::file(0o644, (0, 0), 4, blob)).expect("file");
        model.insert((i / 100, name), blob);
    }
    (b.finish().expect("finish").0, model)
}

#[test]
fn two_hundred_thousand_files() {
    let temp = tempfile::tempdir().expect("tempdir");
    let (bytes, model) = large(200_000);
    let path = write(temp.path(), &bytes);
    let best = (0..5)
        .map(|_| {
            let start = Instant::now();
            let m = Manifest::open(&path).expect("open");
            m.child(ROOT, b"dir-00017").expect("lookup").expect("there");
            start.elapsed()
        })
        .min()
        .expect("five tries");
    assert!(best.as_millis() < 5, "open took {best:?}");

    let m = Manifest::open(&path).expect("open");
    assert_eq!((m.files(), m.directories(), m.blobs()), (200_000, 2001, 100_000));
    for ((dir, name), blob) in &model {
        let dir = m.child_at(ROOT, *dir).expect("directory");
        let id = m.child(dir, name).expect("lookup").expect("file");
        assert_eq!(m.node(id).expect("node").blob, Some(*blob));
        assert_eq!(m.child(ROOT, name).expect("lookup"), None);
        assert_eq!(m.child(dir, &name[1..]).expect("lookup"), None);
    }
    let start = Instant::now();
    m.check().expect("check");
    assert!(start.elapsed().as_secs() < 20, "check took {:?}", start.elapsed());
}

#[test]
fn damage_in_a_large_manifest_is_found_where_it_is_touched() {
    let temp = tempfile::tempdir().expect("tempdir");
    let (bytes, _) = large(60_000);
    assert!(bytes.len() > 4 << 20, "checked lazily only beyond 4 MiB");
    let sound_path = temp.path().join("sound");
    std::fs::write(&sound_path, &bytes).expect("write");
    let sound = Manifest::open(&sound_path).expect("open");
    // One byte in each of a few chunks spread over the body, each on its own.
    for at in (100_000..bytes.len()).step_by(bytes.len() / 7) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        let m = Manifest::open(&write(temp.path(), &damaged)).expect("the head is sound");
        m.check_chunks().expect_err("one chunk is damaged");
        assert!(same_or_error(&sound, &m) > 0, "byte {at} was never touched");
    }
}

#[derive(Debug, Clone)]
enum Tree {
    File(Vec<u8>),
    Link(Vec<u8>),
    Dir(BTreeMap<Vec<u8>, Tree>),
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    // A small alphabet makes shared prefixes, shared names and bytes beyond ASCII likely.
    prop::collection::vec(prop::sample::select(&b"ab.\xff\n "[..]), 1..12)
        .prop_filter("names the kernel refuses", |name| name != b"." && name != b"..")
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..4).prop_map(Tree::File),
        prop::collection::vec(1u8.., 1..30).prop_map(Tree::Link),
    ];
    leaf.prop_recursive(5, 200, 12, |inner| {
        prop::collection::btree_map(name(), inner, 0..12).prop_map(Tree::Dir)
    })
}

fn insert(b: &mut ManifestBuilder, parent: u32, entries: &BTreeMap<Vec<u8>, Tree>) {
    for (name, tree) in entries.iter().rev() {
        let entry = match tree {
            Tree::File(content) => file(content),
            Tree::Link(target) => Entry::symlink(target.clone(), (0, 0)),
            Tree::Dir(_) => dir(),
        };
        let id = b.add(parent, name, entry).expect("add");
        if let Tree::Dir(entries) = tree {
            insert(b, id, entries);
        }
    }
}

fn compare(m: &Manifest, dir: u32, entries: &BTreeMap<Vec<u8>, Tree>, seen: &mut u32) {
    assert_eq!(m.child_count(dir).expect("count"), u32::try_from(entries.len()).expect("small"));
    for (i, (name, tree)) in (0..).zip(entries) {
        *seen += 1;
        let id = m.child_at(dir, i).expect("child_at");
        assert_eq!(m.child(dir, name).expect("child"), Some(id));
        let node = m.node(id).expect("node");
        assert_eq!((node.name, node.parent), (&name[..], dir));
        match tree {
            Tree::File(content) => assert_eq!(node.blob, Some(Hash::of(content))),
            Tree::Link(target) => assert_eq!(node.target, target),
            Tree::Dir(entries) => compare(m, id, entries, seen),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn random_trees(entries in prop::collection::btree_map(name(), tree(), 0..12), probe in name()) {
        let mut b = ManifestBuilder::new(dir()).expect("root");
        insert(&mut b, 0, &entries);
        let (bytes, _) = b.finish().expect("finish");
        let temp = tempfile::tempdir().expect("tempdir");
        let m = Manifest::open(&write(temp.path(), &bytes)).expect("open");
        m.check().expect("check");
        let mut seen = 1;
        compare(&m, ROOT, &entries, &mut seen);
        prop_assert_eq!(m.len(), seen);
        prop_assert_eq!(m.child(ROOT, &probe).expect("probe").is_some(), entries.contains_key(&probe));
    }

    #[test]
    fn random_damage(at in 0usize..6000, len in 1usize..64, with in any::<u8>()) {
        let (bytes, _) = sample();
        let at = at % bytes.len();
        let mut damaged = bytes.clone();
        let end = bytes.len().min(at + len);
        damaged[at..end].fill(with);
        let temp = tempfile::tempdir().expect("tempdir");
        let opened = Manifest::open(&write(temp.path(), &damaged));
        prop_assert_eq!(opened.is_ok(), damaged == bytes);
    }
}
