//! What the store is after a kill, a full disk, two writers at once, and damage of every kind.

#![allow(clippy::tests_outside_test_module, reason = "this whole file is tests")]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{Place, Ran, assert_whole, blobs, is_root, skipped, write};
use vrift_store::{Hash, Store, StoreError};

/// 3,000 small files and a few large ones, all different.
fn source(place: &Place) -> PathBuf {
    let source = place.dir("source");
    for i in 0..3000u32 {
        write(&source.join(format!("dir{}/file{i}", i % 30)), format!("content {i}").repeat(10));
    }
    for i in 0..3u8 {
        write(&source.join(format!("large{i}")), vec![i; 5 << 20]);
    }
    source
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("chmod");
}

/// Changes a file of the store in place, as a failing disk would.
fn damage(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).expect("read");
    change(&mut bytes);
    set_mode(path, 0o644);
    std::fs::write(path, bytes).expect("write");
    set_mode(path, 0o444);
}

#[test]
fn killed_at_any_moment_the_store_is_whole() {
    let place = Place::new();
    let dir = source(&place);
    let args = ["ingest", dir.to_str().expect("utf-8"), "--name", "t"];
    let start = Instant::now();
    place.vrift(&args).fine();
    let whole_run = start.elapsed();
    let wanted = place.vrift(&["refs"]).fine();

    let mut killed = 0;
    for round in 0..20u32 {
        // A fresh store each time: the more there is to write, the more there is to interrupt.
        if place.store_root().exists() {
            std::fs::remove_dir_all(place.store_root()).expect("remove the store");
        }
        let mut child = place.command(&args).stdout(Stdio::null()).spawn().expect("spawn");
        // Spread over the whole run, the very beginning included.
        std::thread::sleep(whole_run * round / 20);
        child.kill().expect("kill");
        killed += u32::from(!child.wait().expect("wait").success());
        if !place.store_root().exists() {
            continue;
        }
        let ran = place.vrift(&["verify"]);
        // So early that there is no store yet is fine; damage isn't.
        assert!(
            ran.status == 0 || ran.stderr.contains("no `format` file"),
            "round {round}: {ran:?}"
        );
        place.vrift(&args).fine();
        assert_eq!(place.vrift(&["refs"]).fine(), wanted, "round {round}");
        assert_whole(&place.store_root());
    }
    assert!(killed >= 10, "only {killed} of 20 were interrupted: the test tests nothing");
}

#[test]
fn any_number_of_ingests_at_once() {
    let place = Place::new();
    let dir = source(&place);
    for round in 0..3 {
        let _ = std::fs::remove_dir_all(place.store_root());
        let children: Vec<_> = (0..4)
            .map(|i| {
                let name = format!("t{}", i % 2);
                let args = ["ingest", dir.to_str().expect("utf-8"), "--name", &name];
                place.command(&args).stdout(Stdio::null()).spawn().expect("spawn")
            })
            .collect();
        for mut child in children {
            assert!(child.wait().expect("wait").success(), "round {round}");
        }
        assert_whole(&place.store_root());
        assert_eq!(place.vrift(&["diff", "t0", "t1"]).fine(), "");
    }
    assert!(place.vrift(&["verify"]).fine().contains("all whole"));
}

#[test]
fn a_full_disk_is_told_and_leaves_the_store_whole() {
    const NAME: &str = "a_full_disk_is_told_and_leaves_the_store_whole";
    let place = Place::new();
    let dir = source(&place);
    let mount = place.dir("store");
    let tmpfs = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=8m,mode=755", "vrift-test"])
        .arg(&mount)
        .output();
    if !is_root() || !tmpfs.is_ok_and(|out| out.status.success()) {
        skipped(NAME, "only root may mount a small tmpfs");
        return;
    }
    let result = std::panic::catch_unwind(|| {
        let said = place.vrift(&["ingest", dir.to_str().expect("utf-8"), "--name", "t"]).refused();
        assert!(said.contains("No space left") && said.contains("free some space"), "{said}");
        assert_eq!(place.vrift(&["refs"]).fine(), "");
        assert!(place.vrift(&["verify"]).fine().contains("all whole"));
        assert_whole(&mount);
    });
    let out = std::process::Command::new("umount").arg(&mount).output().expect("umount");
    assert!(out.status.success(), "{out:?}");
    result.expect("the test on the mounted file system");
}

/// A store with one tree of three files.
fn small(place: &Place) -> Hash {
    let dir = place.dir("source");
    for name in ["one", "two", "sub/three"] {
        write(&dir.join(name), name.repeat(100));
    }
    place.ingest(&dir, "t");
    place.store().resolve("t").expect("t")
}

fn blob(place: &Place, content: &str) -> PathBuf {
    place.store_root().join(Store::blob_path(&Hash::of(content.repeat(100).as_bytes())))
}

/// `verify` has status 1 and names `path` with `what` on one line.
#[track_caller]
fn assert_found(ran: &Ran, path: &str, what: &str) {
    assert_eq!(ran.status, 1, "{ran:?}");
    assert_eq!(ran.stdout.lines().count(), 2, "one damage and the summary: {}", ran.stdout);
    let line = ran.stdout.lines().next().expect("line");
    assert!(line.starts_with(path) && line.contains(what), "{line}");
    assert!(ran.stdout.ends_with("1 damaged\n"), "{}", ran.stdout);
}

#[test]
fn verify_names_every_damage() {
    let place = Place::new();
    let manifest = small(&place);
    let two = blob(&place, "two");
    let two_name = format!(
        "blobs/{}",
        two.strip_prefix(place.store_root().join("blobs")).expect("below").display()
    );
    let verify = || place.vrift(&["verify"]);
    assert!(verify().fine().contains("3 blobs"));

    damage(&two, |bytes| bytes[5] ^= 1);
    assert_found(&verify(), &two_name, "another hash");
    assert_found(&place.vrift(&["verify", "t"]), &two_name, "another hash");
    damage(&two, |bytes| bytes[5] ^= 1);

    set_mode(&two, 0o644);
    assert_found(&verify(), &two_name, "mode 0644 instead of 0444");
    set_mode(&two, 0o444);

    let aside = place.path("aside");
    std::fs::rename(&two, &aside).expect("rename");
    assert_found(&verify(), &two_name, &format!("is missing; two of manifest {manifest} needs it"));
    assert_found(&place.vrift(&["verify", "t"]), &two_name, "is missing");
    std::fs::rename(&aside, &two).expect("rename");

    let foreign = place.store_root().join("blobs/readme");
    std::fs::write(&foreign, "x").expect("write");
    assert_found(&verify(), "blobs/readme", "doesn't belong here");
    std::fs::remove_file(&foreign).expect("remove");

    let stored = place.store_root().join(format!("manifests/{manifest}"));
    let manifest_name = format!("manifests/{manifest}");
    let len = std::fs::metadata(&stored).expect("metadata").len();
    for at in (0..usize::try_from(len).expect("small")).step_by(97) {
        damage(&stored, |bytes| bytes[at] ^= 0x40);
        let ran = verify();
        assert_eq!(ran.status, 1, "byte {at}: {ran:?}");
        assert!(ran.stdout.starts_with(&manifest_name), "byte {at}: {ran:?}");
        // Whoever only reads is told in one line and gets nothing.
        let said = place.vrift(&["ls", "t"]);
        assert_eq!(said.stdout, "");
        let said = said.refused();
        assert!(said.contains(&manifest_name), "byte {at}: {said}");
        damage(&stored, |bytes| bytes[at] ^= 0x40);
    }

    std::fs::rename(&stored, &aside).expect("rename");
    assert_found(&verify(), "refs/t", &format!("names manifest {manifest}, which is missing"));
    let said = place.vrift(&["ls", "t"]).refused();
    assert!(said.contains(&format!("manifest {manifest} is missing")), "{said}");
    std::fs::rename(&aside, &stored).expect("rename");

    let other = place.store_root().join(format!("manifests/{}", Hash::of(b"other")));
    std::fs::copy(&stored, &other).expect("copy");
    assert_found(&verify(), "manifests/", "holds another manifest");
    std::fs::remove_file(&other).expect("remove");

    damage(&place.store_root().join("refs/t"), |bytes| bytes[0] = b'x');
    assert_found(&verify(), "refs/t", "not a manifest's hash");
    let ran = place.vrift(&["refs"]);
    assert!(ran.status == 1 && ran.stderr.contains("ref \"t\" is damaged"), "{ran:?}");
}

#[test]
fn damaged_content_is_never_passed_on() {
    let place = Place::new();
    small(&place);
    damage(&blob(&place, "two"), |bytes| bytes[5] ^= 1);
    let said = place.vrift(&["cat", "t:two"]).refused();
    assert!(said.contains("is damaged"), "{said}");
    let out = place.path("out");
    let out = out.to_str().expect("utf-8");
    let said = place.vrift(&["export", "t", out, "--link", "copy"]).refused();
    assert!(said.contains("is damaged"), "{said}");
    // What is there now is only a part, and is known as such.
    let said = place.vrift(&["export", "t", out]).refused();
    assert!(
        said.contains("an earlier export there was interrupted; remove the directory"),
        "{said}"
    );
    assert_eq!(place.vrift(&["cat", "t:one"]).fine(), "one".repeat(100));
}

#[test]
fn a_blob_cut_short_by_a_power_failure_is_stored_again() {
    let place = Place::new();
    small(&place);
    damage(&blob(&place, "two"), |bytes| bytes.truncate(10));
    assert_eq!(place.vrift(&["verify"]).status, 1);
    let said = place.ingest(&place.path("source"), "t");
    assert!(said.contains("1 new blob"), "{said}");
    assert!(place.vrift(&["verify"]).fine().contains("all whole"));
    assert_whole(&place.store_root());
}

#[test]
fn a_killed_export_is_not_taken_for_a_whole_one() {
    let place = Place::new();
    let dir = source(&place);
    place.ingest(&dir, "t");
    let out = place.path("out");
    let args = ["export", "t", out.to_str().expect("utf-8")];
    let mut child = place.command(&args).stdout(Stdio::null()).spawn().expect("spawn");
    let deadline = Instant::now() + Duration::from_secs(30);
    // As soon as the first directory is there, most is still to come.
    while !out.join("dir0").exists() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_micros(200));
    }
    child.kill().expect("kill");
    assert!(!child.wait().expect("wait").success(), "it was through before it was killed");
    let said = place.vrift(&args).refused();
    assert!(said.contains("an earlier export there was interrupted"), "{said}");
    std::fs::remove_dir_all(&out).expect("remove");
    place.vrift(&args).fine();
    assert!(place.vrift(&["verify"]).fine().contains("all whole"));
}

#[test]
fn what_killed_processes_left_is_swept_by_the_next_ingest() {
    let place = Place::new();
    small(&place);
    let left = place.store_root().join("tmp/4711-0-0");
    std::fs::write(&left, "half a blob").expect("write");
    // One that is still in use: its owner holds the lock.
    let used = place.store_root().join("tmp/4711-0-1");
    let owner = std::fs::File::create(&used).expect("create");
    owner.lock().expect("lock");
    place.ingest(&place.path("source"), "t");
    assert!(!left.exists() && used.exists());
    drop(owner);
    place.ingest(&place.path("source"), "t");
    assert_whole(&place.store_root());
}

#[test]
fn only_a_store_is_a_store() {
    let place = Place::new();
    let said = place.vrift(&["ls", "t"]).refused();
    assert!(said.contains("no store at") && said.contains("`vrift ingest` makes one"), "{said}");

    write(&place.path("store/thesis.tex"), "precious");
    let dir = place.dir("source");
    let ingest = ["ingest", dir.to_str().expect("utf-8"), "--name", "t"];
    for args in [&["refs"][..], &ingest] {
        let said = place.vrift(args).refused();
        assert!(said.contains("is not a store"), "{said}");
    }
    let entries = std::fs::read_dir(place.path("store")).expect("list").count();
    assert_eq!(entries, 1, "nothing was put there");

    std::fs::remove_file(place.path("store/thesis.tex")).expect("remove");
    place.vrift(&ingest).fine();
    damage(&place.path("store/format"), |bytes| *bytes = b"vrift store 99\n".to_vec());
    for args in [&["refs"][..], &ingest] {
        let said = place.vrift(args).refused();
        assert!(said.contains("vrift store 99") && said.contains("knows format 1"), "{said}");
    }
    std::fs::remove_dir_all(place.path("store")).expect("remove");
    std::fs::write(place.path("store"), "a file").expect("write");
    let said = place.vrift(&["refs"]).refused();
    assert!(said.contains("it is not a directory"), "{said}");
    place.vrift(&ingest).refused();
}

#[test]
fn half_made_stores_are_completed() {
    let place = Place::new();
    let dir = place.dir("source");
    // As left by a kill before the `format` file was there.
    std::fs::create_dir_all(place.path("store/blobs")).expect("mkdir");
    std::fs::create_dir_all(place.path("store/tmp")).expect("mkdir");
    assert!(matches!(Store::open(&place.store_root()), Err(StoreError::NotAStore { .. })));
    place.ingest(&dir, "t");
    assert!(blobs(&place.store_root()).is_empty());
    place.store();
}
