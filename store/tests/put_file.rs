//! Storing one open file, as a job's end does with what the job changed.

#![allow(clippy::tests_outside_test_module, reason = "this whole file is tests")]

mod common;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::sync::atomic::{AtomicBool, Ordering};

use common::{Place, assert_whole, blobs, write};
use vrift_store::{Hash, NodeKind, PutError, Store};

fn place() -> (Place, Store) {
    let place = Place::new();
    let store = Store::open_or_create(&place.store_root()).expect("store");
    (place, store)
}

#[test]
fn a_file_is_stored_as_it_is() {
    let (place, store) = place();
    // In memory, in one large read, and across several.
    for len in [0usize, 1, 100, 128 << 10, (2 << 20) + 1, 5 << 20] {
        let content: Vec<u8> = (0..len).map(|i| (i >> 8).to_le_bytes()[0] ^ 0x5a).collect();
        let path = place.path("file");
        write(&path, &content);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o4751)).expect("chmod");
        let mut file = File::open(&path).expect("open");
        file.seek(SeekFrom::Start(1)).expect("seek");
        let put = store.put_file(&file).expect("put");
        assert!(put.new, "{len} bytes");
        assert!(!store.put_file(&file).expect("again").new, "{len} bytes");
        assert_eq!(file.stream_position().expect("offset"), 1);

        let meta = file.metadata().expect("metadata");
        let entry = put.entry;
        assert_eq!((entry.kind, entry.mode, entry.link), (NodeKind::File, 0o4751, None));
        assert_eq!((entry.size, entry.blob), (len as u64, Some(Hash::of(&content))));
        assert_eq!(
            (entry.mtime_sec, i64::from(entry.mtime_nsec)),
            (meta.mtime(), meta.mtime_nsec())
        );
        assert_eq!(meta.nlink(), 1, "never a hard link");
        let mut stored = Vec::new();
        let mut blob = store.open_blob(&Hash::of(&content)).expect("blob");
        blob.read_to_end(&mut stored).expect("read");
        assert_eq!(stored, content);
        assert_eq!(blob.metadata().expect("metadata").mode() & 0o7777, 0o444);

        // What becomes of the file afterwards is nothing to the blob.
        File::options()
            .write(true)
            .open(&path)
            .expect("open")
            .write_all_at(b"x", 0)
            .expect("write");
        assert_whole(store.root());
        std::fs::remove_file(&path).expect("remove");
    }
    assert_eq!(blobs(store.root()).len(), 6);
}

#[test]
fn an_unlinked_file_with_attributes_and_holes() {
    let (place, store) = place();
    let path = place.path("file");
    let file = File::options().create_new(true).read(true).write(true).open(&path).expect("open");
    file.set_len(64 << 20).expect("set_len");
    file.write_all_at(b"in the middle", 30 << 20).expect("write");
    let flags = rustix::fs::XattrFlags::empty();
    let attributes = rustix::fs::fsetxattr(&file, "user.k", b"v", flags).is_ok();
    std::fs::remove_file(&path).expect("remove");
    let put = store.put_file(&file).expect("put");
    let expected = if attributes { vec![(b"user.k".to_vec(), b"v".to_vec())] } else { vec![] };
    assert_eq!(put.entry.xattrs, expected);
    let blob = store.open_blob(&put.entry.blob.expect("a file")).expect("blob");
    let meta = blob.metadata().expect("metadata");
    assert_eq!(meta.len(), 64 << 20);
    assert!(meta.blocks() * 512 < 1 << 20, "{} bytes on disk", meta.blocks() * 512);
    assert_whole(store.root());
}

#[test]
fn a_file_that_changes_meanwhile_is_told_and_can_be_tried_again() {
    let (place, store) = place();
    let path = place.path("file");
    write(&path, vec![1u8; 16 << 20]);
    let file = File::open(&path).expect("open");
    let writer = File::options().write(true).open(&path).expect("open");
    let stop = AtomicBool::new(false);
    let refused = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut i = 0u64;
            while !stop.load(Ordering::Relaxed) {
                writer.write_all_at(&i.to_le_bytes(), i * 4096 % (16 << 20)).expect("write");
                i += 1;
            }
        });
        // On a busy machine the writer may not get its turn while the file is read.
        let refused = (0..200).find_map(|_| store.put_file(&file).err());
        stop.store(true, Ordering::Relaxed);
        refused
    });
    assert!(matches!(refused, Some(PutError::Changed)), "{refused:?}");
    let put = store.put_file(&file).expect("it rests now");
    assert_eq!(put.entry.blob, Some(Hash::of(&std::fs::read(&path).expect("read"))));
    assert_whole(store.root());
}

#[test]
fn what_has_no_content_is_refused() {
    let (place, store) = place();
    let dir = File::open(place.dir("dir")).expect("open");
    let refused = store.put_file(&dir).expect_err("a directory");
    assert_eq!(refused.to_string(), "can't store it: not a regular file");
    let path = place.path("file");
    let unreadable = File::create(&path).expect("create");
    unreadable.write_all_at(b"x", 0).expect("write");
    let refused = store.put_file(&unreadable).expect_err("open for writing only");
    assert!(matches!(refused, PutError::Source { what: "read", .. }), "{refused}");
    assert!(blobs(store.root()).is_empty());
}
