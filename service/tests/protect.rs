//! Damaged blobs put aside, and blobs protected: on file systems that can, and on those that can't.

#![allow(clippy::tests_outside_test_module, reason = "this whole file is tests")]

mod common;
#[path = "common/daemon.rs"]
mod daemon;

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Place, assert_whole, blobs, is_root, skipped, write};
use daemon::Daemon;
use vrift_store::{Hash, Store};

fn blob(place: &Place, content: &[u8]) -> PathBuf {
    place.store_root().join(Store::blob_path(&Hash::of(content)))
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("chmod");
}

fn damage(path: &Path, content: &[u8]) {
    set_mode(path, 0o644);
    std::fs::write(path, content).expect("write");
    set_mode(path, 0o444);
}

#[test]
fn damaged_blobs_are_put_aside_and_come_back_with_their_content() {
    let place = Place::new();
    let dir = place.dir("source");
    let names = ["a", "b", "c", "d"];
    names.iter().for_each(|name| write(&dir.join(name), format!("content of {name}")));
    place.ingest(&dir, "t");
    place.ingest(&dir, "other");
    let [a, b, ..] = names.map(|name| Hash::of(format!("content of {name}").as_bytes()));
    let at = |hash: &Hash| place.store_root().join(Store::blob_path(hash));
    damage(&at(&a), b"content of A");
    damage(&at(&b), b"cut");
    write(&place.store_root().join(format!("exec/{a}-0123456789abcdef")), "a copy");

    let said = place.vrift(&["verify"]);
    assert!(said.status == 1 && said.stdout.contains("--quarantine"), "{said:?}");
    assert!(at(&a).exists() && !place.store_root().join("quarantine").exists());
    let said = place.vrift(&["verify", "--quarantine", "--json", "t"]);
    assert_eq!(said.status, 1, "{said:?}");
    let moved = said.stdout.lines().filter(|line| line.contains("\"quarantined\":true"));
    assert_eq!(moved.count(), 2, "{said:?}");
    for (hash, content) in [(&a, &b"content of A"[..]), (&b, b"cut")] {
        assert!(!at(hash).exists());
        let aside = place.store_root().join(format!("quarantine/{hash}"));
        assert_eq!(std::fs::read(aside).expect("aside"), content);
    }
    assert_eq!(std::fs::read_dir(place.store_root().join("exec")).expect("exec").count(), 0);
    let said = place.vrift(&["verify", "--quarantine"]);
    assert!(said.status == 1 && said.stdout.contains("is missing"), "{said:?}");
    assert!(place.vrift(&["cat", "t:a"]).refused().contains("is missing"));
    assert!(place.vrift(&["stats"]).fine().contains("2 damaged blobs in quarantine/"));

    // Ingested again, it is whole again; a collection has nothing to do with it.
    place.ingest(&dir, "t");
    place.vrift(&["verify", "--quarantine"]).fine();
    place.vrift(&["gc", "--grace", "0"]).fine();
    assert_whole(&place.store_root());
    assert_eq!(place.vrift(&["cat", "other:a"]).fine(), "content of a");
    // Damaged once more, it takes the place of what was put aside before.
    damage(&at(&a), b"worse");
    assert_eq!(place.vrift(&["verify", "--quarantine"]).status, 1);
    let aside = place.store_root().join(format!("quarantine/{a}"));
    assert_eq!(std::fs::read(aside).expect("aside"), b"worse");
}

/// Mounts a file system of this kind; the value unmounts it.
struct Mounted(PathBuf);

impl Mounted {
    fn new(place: &Place, kind: &str) -> Result<Mounted, String> {
        if !is_root() {
            return Err("needs root".into());
        }
        let run = |program: &str, args: &[&OsStr]| {
            let out = Command::new(program).args(args).output();
            let out = out.map_err(|error| format!("{program}: {error}"))?;
            let said = String::from_utf8_lossy(&out.stderr).trim().to_owned();
            if out.status.success() { Ok(()) } else { Err(format!("{program}: {said}")) }
        };
        let at = place.dir(kind);
        if kind == "tmpfs" {
            run("mount", &["-t".as_ref(), kind.as_ref(), kind.as_ref(), at.as_ref()])?;
            return Ok(Mounted(at));
        }
        let image = place.path(format!("{kind}.image"));
        std::fs::File::create(&image).and_then(|file| file.set_len(400 << 20)).expect("image");
        run(&format!("mkfs.{kind}"), &["-q".as_ref(), image.as_ref()])?;
        run("mount", &["-o".as_ref(), "loop".as_ref(), image.as_ref(), at.as_ref()])?;
        Ok(Mounted(at))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let root = self.0.join("store");
        if let Ok(store) = Store::open(&root) {
            let _ = store.blobs().and_then(|blobs| store.unprotect(&blobs));
        }
        let status = Command::new("umount").arg(&self.0).status();
        if !status.is_ok_and(|status| status.success()) && !std::thread::panicking() {
            panic!("umount {}", self.0.display());
        }
    }
}

fn protect_on(kind: &str) {
    let place = Place::new();
    let mounted = match Mounted::new(&place, kind) {
        Ok(mounted) => mounted,
        Err(reason) => return skipped(&format!("protect_on_{kind}"), &reason),
    };
    // Where the store would be.
    std::fs::create_dir(mounted.0.join("store")).expect("mkdir");
    std::os::unix::fs::symlink(mounted.0.join("store"), place.store_root()).expect("link");
    let dir = place.dir("source");
    write(&dir.join("in/a"), "a");
    write(&dir.join("in/b"), "b");
    write(&dir.join("c"), "c");
    place.ingest(&dir, "t");
    let store = place.store_root();
    let probe = mounted.0.join("probe");
    write(&probe, "");
    let can = Command::new("chattr").arg("+i").arg(&probe).output();
    let can = can.is_ok_and(|out| out.status.success());
    if !can {
        let line = place.vrift(&["protect", "t"]).refused();
        assert!(line.contains("has no immutable files"), "{line}");
        place.vrift(&["unprotect", "t"]).fine();
        return skipped(&format!("protect_on_{kind}"), "it has no immutable files");
    }
    Command::new("chattr").arg("-i").arg(&probe).status().expect("chattr");

    let said = place.vrift(&["protect", "t:in"]).fine();
    assert_eq!(said, "protected 2 blobs; 0 were so before\n");
    assert_eq!(place.vrift(&["protect", "t:in/a"]).fine(), "protected 0 blobs; 1 was so before\n");
    for content in [b"a", b"b"] {
        let blob = blob(&place, content);
        assert!(std::fs::OpenOptions::new().write(true).open(&blob).is_err(), "root may not write");
        assert!(std::fs::remove_file(&blob).is_err() && std::fs::rename(&blob, &probe).is_err());
    }
    assert!(place.vrift(&["stats"]).fine().contains("protected  2 blobs"));
    assert!(place.vrift(&["verify"]).fine().contains("2 blobs protected"));
    place.vrift(&["cat", "t:in/a"]).fine();
    place.ingest(&dir, "again");

    // A collection leaves them, and takes the rest.
    ["t", "again"].iter().for_each(|name| drop(place.vrift(&["rm", name]).fine()));
    let said = place.vrift(&["gc", "--grace", "0"]).fine();
    assert!(said.contains("1 blob (1 B)") && said.contains("2 that are protected"), "{said}");
    assert_eq!(blobs(&store).len(), 2);
    assert_whole(&store);
    assert_eq!(
        place.vrift(&["unprotect", "--all"]).fine(),
        "unprotected 2 blobs; 0 were so before\n"
    );
    place.vrift(&["gc", "--grace", "0"]).fine();
    assert_eq!(blobs(&store).len(), 0);

    // One that can't be protected: the others aren't either.
    place.ingest(&dir, "t");
    std::fs::remove_file(blob(&place, b"c")).expect("rm");
    assert!(place.vrift(&["protect", "t"]).refused().contains("is missing"));
    assert!(!place.vrift(&["stats"]).fine().contains("protected"));
    // A link in a blob's place, or in its directory's, leads to nothing that is protected.
    let outside = mounted.0.join("outside");
    write(&outside.join(Hash::of(b"c").to_string()), "c");
    let c = blob(&place, b"c");
    std::os::unix::fs::symlink(outside.join(Hash::of(b"c").to_string()), &c).expect("link");
    place.vrift(&["protect", "t:c"]).refused();
    let fan = c.parent().expect("fan-out").to_owned();
    std::fs::rename(&fan, mounted.0.join("fan")).expect("mv");
    std::os::unix::fs::symlink(&outside, &fan).expect("link");
    place.vrift(&["protect", "t:c"]).refused();
    std::fs::write(outside.join(Hash::of(b"c").to_string()), "still mine").expect("not protected");
    std::fs::remove_file(&fan).expect("rm");
    std::fs::rename(mounted.0.join("fan"), &fan).expect("mv");
    std::fs::remove_file(&c).expect("rm");
    place.ingest(&dir, "t");

    // A protected blob that is damaged all the same is put aside. (Only a disk can do that: here the
    // flag is taken away for the moment.)
    place.vrift(&["protect", "t"]).fine();
    let a = blob(&place, b"a");
    Command::new("chattr").arg("-i").arg(&a).status().expect("chattr");
    damage(&a, b"?");
    Command::new("chattr").arg("+i").arg(&a).status().expect("chattr");
    let said = place.vrift(&["verify", "--quarantine"]);
    assert!(said.status == 1 && said.stdout.contains("is in quarantine/ now"), "{said:?}");
    place.ingest(&dir, "t");
    place.vrift(&["verify"]).fine();

    // Who isn't root is told, be the store another user's or their own.
    place.vrift(&["unprotect", "t"]).fine();
    for (owner, told) in [("0:0", "its daemon isn't running"), ("65534:65534", "it takes root")] {
        let chown = Command::new("chown").args(["-RH", owner]).arg(place.store_root()).status();
        assert!(chown.expect("chown").success());
        let nobody = place.as_nobody(place.command(&["protect", "t"]));
        let line = common::run(&mut { nobody }).refused();
        assert!(line.contains(told), "{line}");
    }
    // Their daemon may, if it was given the right, as it is by the unit for the whole system.
    let mut daemon = Command::new("setpriv");
    daemon.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    daemon.args(["--inh-caps=+linux_immutable", "--ambient-caps=+linux_immutable"]);
    daemon.arg(place.path("vrift")).args(["daemon", "run"]);
    daemon.env("VR_THE_SOURCE", place.store_root());
    let daemon = Daemon::by(&place, &mut daemon);
    let nobody = |args: &[&str]| common::run(&mut place.as_nobody(place.command(args)));
    assert!(nobody(&["protect", "t"]).fine().starts_with("protected"));
    let said = nobody(&["unprotect", "--all"]).fine();
    assert!(said.starts_with("unprotected") && !said.starts_with("unprotected 0"), "{said}");
    drop(daemon);
    place.vrift(&["verify"]).fine();
    // Few kernels and file systems have it; the others are named.
    let verity = place.vrift(&["protect", "t", "--verity"]);
    if verity.status != 0 {
        assert!(verity.refused().contains("fs-verity"));
    }
}

#[test]
fn protect_on_ext4() {
    protect_on("ext4");
}

#[test]
fn protect_on_btrfs() {
    protect_on("btrfs");
}

#[test]
fn protect_on_xfs() {
    protect_on("xfs");
}

#[test]
fn protect_on_tmpfs() {
    protect_on("tmpfs");
}
