//! What tar, rsync and find go by: devices, inodes, links, sizes, times; and long listings.

#![expect(clippy::tests_outside_test_module, reason = "an integration test is one test module")]

mod trees;

use std::collections::HashSet;
use std::io::Write;

use trees::{entries, find, manifest, project};
use vrift_projection::{FIRST_MINOR, Kind, Manifest, Projection};
use vrift_store::Hash;
use vrift_store::manifest::{Entry, ManifestBuilder};

#[test]
fn names_of_one_file_are_one_inode_and_equal_contents_are_not() {
    let tree = manifest("a=same#1 b=same#1 c=same d/ d/e=same#1");
    let p = project(&[("/v", &tree)], &["/"]);
    let attr = |path| p.attr(find(&p, path).expect(path)).expect(path);
    let (a, b, c, e) = (attr("/v/a"), attr("/v/b"), attr("/v/c"), attr("/v/d/e"));
    assert!(a.ino == b.ino && a.ino == e.ino && a.ino != c.ino);
    assert_eq!((a.nlink, c.nlink, e.nlink), (3, 1, 3));
    assert_eq!(attr("/v").ino, 1);
    assert!([a, b, c, e].iter().all(|attr| attr.dev == a.dev && attr.ino > 1));
}

#[test]
fn numbers_do_not_depend_on_the_run_or_the_other_mounts() {
    let tree = manifest("a=1 d/ d/b=2");
    let alone = project(&[("/w/v", &tree)], &["/"]);
    let other = manifest("x=1");
    let among = project(&[("/w/u", &other), ("/w/z", &tree), ("/w/v", &tree)], &["/"]);
    for path in ["/w", "/w/v", "/w/v/a", "/w/v/d/b"] {
        let attr = |p: &Projection| p.attr(find(p, path).expect(path)).expect(path);
        assert_eq!((attr(&alone).dev, attr(&alone).ino), (attr(&among).dev, attr(&among).ino));
    }
    let devices: HashSet<u64> = among.mounts().iter().map(|mount| mount.dev()).collect();
    assert_eq!(devices.len(), 3, "one for each mount, of one manifest or not");
    let minor = among.attr(find(&among, "/w/z").expect("z")).expect("attr").dev_minor();
    assert!(minor >= FIRST_MINOR);
}

#[test]
fn attributes_are_the_manifests() {
    let mut builder =
        ManifestBuilder::new(Entry::directory(0o2755, (-5, 999_999_999))).expect("root");
    let blob = Hash::of(b"");
    let mut file = Entry::file(0o4711, (1_700_000_000, 123_456_789), 5000, blob);
    file.xattrs = vec![(b"user.b".to_vec(), b"\0\xff".to_vec()), (b"user.a".to_vec(), Vec::new())];
    builder.add(0, b"f", file).expect("f");
    builder.add(0, b"empty", Entry::file(0o600, (0, 0), 0, blob)).expect("empty");
    builder.add(0, b"\xff\xfe", Entry::symlink(b"\xffx".to_vec(), (1, 2))).expect("link");
    let tree = trees::open(builder);
    let p = project(&[("/v", &tree)], &["/"]);
    let root = find(&p, "/v").expect("root");

    let f = find(&p, "/v/f").expect("f");
    let attr = p.attr(f).expect("attr");
    assert_eq!((attr.kind, attr.mode, attr.file_type()), (Kind::File, 0o4711, 0o100_000));
    assert_eq!((attr.size, attr.blocks, attr.blksize), (5000, 16, 4096));
    assert_eq!((attr.mtime_sec, attr.mtime_nsec), (1_700_000_000, 123_456_789));
    assert_eq!(p.xattr(f, b"user.b").expect("xattr"), Some(b"\0\xff".as_slice()));
    assert_eq!(p.xattr(f, b"user.a").expect("xattr"), Some(b"".as_slice()));
    assert_eq!(p.xattr(f, b"user.c").expect("xattr"), None);
    let all: Vec<&[u8]> = p.xattrs(f).expect("xattrs").map(|(name, _)| name).collect();
    assert_eq!(all, [b"user.a".as_slice(), b"user.b"]);

    let attr = p.attr(root).expect("attr");
    assert_eq!((attr.mode, attr.file_type(), attr.blocks), (0o2755, 0o040_000, 8));
    assert_eq!((attr.mtime_sec, attr.mtime_nsec), (-5, 999_999_999));
    let empty = p.lookup(root, b"empty").expect("look-up").expect("empty");
    assert_eq!((p.attr(empty).expect("attr").blocks, p.attr(empty).expect("attr").size), (0, 0));

    let link = p.lookup(root, b"\xff\xfe").expect("look-up").expect("a name of bytes");
    assert_eq!(p.path(link).expect("path"), b"/v/\xff\xfe");
    let attr = p.attr(link).expect("attr");
    assert_eq!((attr.size, attr.blocks, attr.mode, attr.file_type()), (2, 0, 0o777, 0o120_000));
    assert_eq!(*p.link_target(link).expect("target"), *b"\xffx");
}

/// More than 4 MiB of manifest, which the store checks piece by piece as it is used.
fn crowd(count: u32) -> (Vec<u8>, Hash) {
    let mut builder = ManifestBuilder::new(Entry::directory(0o755, (0, 0))).expect("root");
    let dir = builder.add(0, b"crowd", Entry::directory(0o755, (0, 0))).expect("dir");
    for i in 0..count {
        let file = Entry::file(0o644, (0, 0), 1, Hash::of(&i.to_le_bytes()));
        builder.add(dir, format!("file-{i}").as_bytes(), file).expect("file");
    }
    builder.finish().expect("a manifest")
}

fn open(bytes: &[u8]) -> std::sync::Arc<Manifest> {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(bytes).expect("write");
    std::sync::Arc::new(Manifest::open(file.path()).expect("open"))
}

#[test]
fn a_hundred_thousand_entries_come_once_each_from_any_position() {
    const COUNT: u32 = 100_000;
    let (bytes, _) = crowd(COUNT);
    // An inner mount adds one name and covers none.
    let (tree, inner) = (open(&bytes), manifest("x=1"));
    let p = project(&[("/v", &tree), ("/v/crowd/zz", &inner)], &["/"]);
    let dir = find(&p, "/v/crowd").expect("crowd");
    let mut seen = HashSet::new();
    let mut offsets = Vec::new();
    for entry in entries(&p, dir, 0) {
        assert!(seen.insert(entry.name.to_vec()), "twice: {:?}", entry.name);
        offsets.push(entry.next);
        if offsets.len() % 5000 == 0 {
            let node =
                p.lookup(dir, &entry.name).expect("look-up").expect("a name that was listed");
            let attr = p.attr(node).expect("attr");
            assert_eq!((attr.ino, attr.kind), (entry.ino, entry.kind));
        }
    }
    assert_eq!(seen.len(), COUNT as usize + 3);
    assert!(seen.contains(b"zz".as_slice()));
    assert!(offsets.is_sorted() && offsets[0] > 0);
    // telldir and seekdir: going on from any offset gives the rest.
    for i in [0, 1, 2, 777, 50_000, offsets.len() - 2, offsets.len() - 1] {
        let rest = entries(&p, dir, offsets[i]).len();
        assert_eq!(rest, offsets.len() - 1 - i);
    }
    assert_eq!(entries(&p, dir, u64::MAX).len(), 0);
}

#[test]
fn damage_is_an_error_and_never_an_answer() {
    let (bytes, _) = crowd(60_000);
    assert!(bytes.len() > 4 << 20, "{} bytes are checked when it is opened", bytes.len());
    let whole = open(&bytes);
    let sound = project(&[("/v", &whole)], &["/"]);
    let dir = find(&sound, "/v/crowd").expect("crowd");
    let (mut failed, mut answered) = (0, 0);
    for at in (bytes.len() / 20..bytes.len()).step_by(bytes.len() / 20) {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x40;
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(&bytes).expect("write");
        let Ok(tree) = Manifest::open(file.path()) else { continue };
        let p = project(&[("/v", &std::sync::Arc::new(tree))], &["/"]);
        for i in (0..60_000).step_by(500) {
            let name = format!("file-{i}");
            match p
                .lookup(dir, name.as_bytes())
                .and_then(|node| node.map(|node| p.attr(node)).transpose())
            {
                Ok(attr) => {
                    let node = sound.lookup(dir, name.as_bytes()).expect("look-up").expect("node");
                    let right = sound.attr(node).expect("attr");
                    assert_eq!(
                        attr.map(|attr| (attr.ino, attr.size)),
                        Some((right.ino, right.size))
                    );
                    answered += 1;
                }
                Err(error) => {
                    assert!(error.to_string().starts_with("the manifest mounted at \"/v\": "));
                    failed += 1;
                }
            }
        }
    }
    assert!(failed > 0 && answered > 0, "{failed} failed, {answered} answered");
}
