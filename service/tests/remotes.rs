//! Trees that are pushed to a directory and pulled from it: what is promised of any remote.

#![allow(clippy::tests_outside_test_module, reason = "this whole file is tests")]

mod common;

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use common::{Place, Ran, assert_whole, blobs, write};
use vrift_store::{Hash, Store};

/// A store with the tree `t`, an empty directory for a remote, and a second store's place.
struct Scene {
    here: Place,
    there: Place,
    remote: PathBuf,
}

impl Scene {
    fn new() -> Scene {
        let (here, there) = (Place::new(), Place::new());
        let tree = here.dir("tree");
        write(&tree.join("empty"), "");
        write(&tree.join("sub/a"), "content of a");
        write(&tree.join("sub/b"), "content of b");
        write(&tree.join("large"), vec![b'x'; 3 << 20]);
        std::os::unix::fs::symlink("sub/a", tree.join("link")).expect("symlink");
        here.ingest(&tree, "t/one");
        let remote = here.path("remote");
        Scene { here, there, remote }
    }

    fn push(&self, reference: &str) -> Ran {
        self.here.vrift(&["push".as_ref(), reference.as_ref(), self.remote.as_os_str()])
    }

    fn pull(&self, reference: &str) -> Ran {
        self.there.vrift(&["pull".as_ref(), self.remote.as_os_str(), reference.as_ref()])
    }

    fn manifest(&self) -> Hash {
        self.here.store().resolve("t/one").expect("the tree")
    }

    fn on_remote(&self, content: &str) -> PathBuf {
        self.remote.join(Store::blob_path(&Hash::of(content.as_bytes())))
    }
}

/// There is no ref, no manifest, and nothing half-done.
#[track_caller]
fn assert_nothing(place: &Place) {
    if place.store_root().exists() {
        assert_whole(&place.store_root());
        assert_eq!(place.store().refs().expect("refs").len(), 0);
        assert_eq!(place.store().manifests().expect("manifests").len(), 0);
    }
}

#[test]
fn a_tree_goes_to_a_directory_and_comes_from_it() {
    let scene = Scene::new();
    let said = scene.push("t/one").fine();
    assert!(said.contains("4 blobs, 4 sent, 3.0 MiB"), "{said}");
    assert_eq!(std::fs::read(scene.remote.join("format")).expect("format"), b"vrift remote 1\n");
    let named = std::fs::read_to_string(scene.remote.join("refs/t/one")).expect("ref");
    assert_eq!(named, format!("{}\n", scene.manifest()));
    assert!(scene.push("t/one").fine().contains("4 blobs, 0 sent, 0 B"));

    let said = scene.pull("t/one:mine").fine();
    assert!(said.contains("4 blobs, 4 fetched, 3.0 MiB"), "{said}");
    assert!(said.contains(&format!("mine -> {}", scene.manifest())), "{said}");
    assert_whole(&scene.there.store_root());
    assert!(scene.there.vrift(&["verify"]).fine().contains("all whole"));
    assert!(scene.pull("t/one:mine").fine().contains("4 blobs, 0 fetched, 0 B"));
    let copy = scene.there.path("copy");
    scene.there.vrift(&["export".as_ref(), "mine".as_ref(), copy.as_os_str()]).fine();
    assert_eq!(std::fs::read(copy.join("sub/a")).expect("a"), b"content of a");
    assert_eq!(std::fs::read(copy.join("large")).expect("large"), vec![b'x'; 3 << 20]);

    let json = scene.there.vrift(&[
        "--json".as_ref(),
        "pull".as_ref(),
        scene.remote.as_os_str(),
        "t/one".as_ref(),
    ]);
    let json: serde_json::Value = serde_json::from_str(&json.fine()).expect("JSON");
    assert_eq!((&json["ref"], &json["blobs"]), (&"t/one".into(), &4.into()));
    assert_eq!(json["manifest"], scene.manifest().to_string());
}

#[test]
fn a_store_is_pulled_from_and_never_pushed_to() {
    let scene = Scene::new();
    let from = scene.here.store_root();
    let url = format!("file://{}", from.display());
    scene.there.vrift(&["pull", &url, "t/one"]).fine();
    scene.there.vrift(&["verify"]).fine();
    let before = blobs(&from);
    let said = scene.there.vrift(&["push", "t/one:other", &url]).refused();
    assert!(said.contains("is a store itself: pull from there into it"), "{said}");
    assert_eq!(blobs(&from), before);
    assert_eq!(scene.here.store().refs().expect("refs").len(), 1);
}

#[test]
fn what_is_no_remote_is_refused_in_one_line() {
    let scene = Scene::new();
    let other = scene.here.dir("other");
    write(&other.join("format"), "something else\n");
    for (args, says) in [
        (&["pull", "ftp://host/x", "t"][..], "can't use ftp://host/x as a remote"),
        (&["pull", "s3://user:secret@bucket/x", "t"], "credentials belong into the environment"),
        (&["pull", "https://host/x?sig=1", "t"], "it has a query or a fragment"),
        (&["pull", "/nowhere/at/all", "t"], "/nowhere/at/all is not a remote"),
        (&["pull", "/tmp", "t:-x"], "can't be a ref's name"),
        (&["push", "nothing", "/tmp/never-made"], "nothing is no ref"),
        (&["push", "t/one", "http://127.0.0.1:9/x"], "can only be pulled from"),
        (&["push", "t/one"], "required arguments"),
    ] {
        let said = scene.here.vrift(args).refused();
        assert!(said.contains(says), "{args:?}: {said}");
        assert!(!said.contains("secret"), "{said}");
    }
    assert!(!Path::new("/tmp/never-made").exists());
    let other = other.to_str().expect("UTF-8");
    let said = scene.here.vrift(&["push", "t/one", other]).refused();
    assert!(said.contains("its format is \"something else\""), "{said}");
    assert_eq!(std::fs::read_dir(other).expect("list").count(), 1, "something was written");
    let said = scene.there.vrift(&["pull", other, "t/one"]).refused();
    assert!(said.contains("its format is"), "{said}");
    assert!(!scene.there.store_root().exists(), "a store was made for nothing");
}

#[test]
fn junk_from_a_remote_is_refused_and_leaves_nothing() {
    let scene = Scene::new();
    scene.push("t/one").fine();
    let (reference, manifest) = (
        scene.remote.join("refs/t/one"),
        scene.remote.join(format!("manifests/{}", scene.manifest())),
    );
    let (a, large) = (scene.on_remote("content of a"), {
        let hash = Hash::of(&vec![b'x'; 3 << 20]);
        scene.remote.join(Store::blob_path(&hash))
    });
    let pull = ["pull".as_ref(), scene.remote.as_os_str(), "t/one".as_ref()];
    let whole = std::fs::read(&manifest).expect("manifest");
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        bytes
    };
    let mut large_but_wrong = vec![b'x'; 3 << 20];
    large_but_wrong[2 << 20] = b'y';
    for (file, content, says) in [
        (&a, b"content of A".to_vec(), "its content has another hash"),
        (&a, b"content of a and more".to_vec(), "it has 21 bytes, the manifest says 12"),
        (&a, Vec::new(), "it has 0 bytes"),
        (&large, large_but_wrong, "its content has another hash"),
        (&large, vec![b'x'; 1 << 20], "the manifest says 3145728"),
        (&manifest, whole[..whole.len() - 1].to_vec(), "is refused"),
        (&manifest, whole[..100].to_vec(), "is refused"),
        (&manifest, Vec::new(), "is refused"),
        (&manifest, flipped(20), "is refused"),
        (&manifest, flipped(whole.len() - 70), "is refused"),
        (&manifest, b"#!/bin/sh\n".to_vec(), "is refused"),
        (&reference, b"nonsense\n".to_vec(), "its content is not a manifest's hash"),
        (&reference, b"\xff\xfe".to_vec(), "its content is not a manifest's hash"),
        (&reference, format!("{}", scene.manifest()).into(), "not a manifest's hash"),
        (&reference, vec![b'0'; 1 << 20], "it has 1048576 bytes"),
        (&reference, format!("{}\n", Hash::of(b"?")).into(), "it isn't there, and a ref names it"),
    ] {
        let before = std::fs::read(file).expect("read");
        std::fs::write(file, &content).expect("junk");
        let there = Place::new();
        let said = there.vrift(&pull).refused();
        assert!(said.contains(says), "{}: {said}", file.display());
        assert_nothing(&there);
        std::fs::write(file, before).expect("as it was");
    }
    for file in [&a, &manifest, &reference] {
        let aside = scene.remote.join("aside");
        std::fs::rename(file, &aside).expect("away");
        let there = Place::new();
        there.vrift(&pull).refused();
        assert_nothing(&there);
        std::fs::rename(&aside, file).expect("back");
    }
    scene.pull("t/one").fine();
    scene.there.vrift(&["verify"]).fine();
}

#[test]
fn a_remote_heals_by_a_push() {
    let scene = Scene::new();
    scene.push("t/one").fine();
    std::fs::remove_file(scene.on_remote("content of a")).expect("lost");
    std::fs::write(scene.on_remote("content of b"), "con").expect("cut short");
    assert!(scene.push("t/one").fine().contains("2 sent"));
    scene.pull("t/one").fine();
    scene.there.vrift(&["verify"]).fine();
}

fn damage(path: &Path, content: &[u8]) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).expect("chmod");
    std::fs::write(path, content).expect("damage");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o444)).expect("chmod");
}

#[test]
fn damage_here_is_not_spread() {
    let scene = Scene::new();
    let hash = Hash::of(b"content of a");
    damage(&scene.here.store_root().join(Store::blob_path(&hash)), b"content of A");
    let said = scene.push("t/one").refused();
    assert!(said.contains(&format!("blob {hash} is damaged here")), "{said}");
    assert!(!scene.on_remote("content of a").exists());
    assert!(!scene.remote.join("refs/t/one").exists());
    assert!(!scene.remote.join("manifests").exists());
}

#[test]
fn damage_is_repaired_from_a_remote() {
    let scene = Scene::new();
    scene.push("t/one").fine();
    let root = scene.here.store_root();
    let blob = |content: &[u8]| root.join(Store::blob_path(&Hash::of(content)));
    let repair =
        || scene.here.vrift(&["verify".as_ref(), "--repair".as_ref(), scene.remote.as_os_str()]);
    assert!(repair().fine().contains("all whole"));
    damage(&blob(b"content of a"), b"content of A");
    damage(&blob(b"content of b"), b"con");
    std::fs::remove_file(blob(&vec![b'x'; 3 << 20])).expect("lost");
    let said = repair().fine();
    assert!(said.contains("3 repaired"), "{said}");
    assert!(scene.here.vrift(&["verify"]).fine().contains("all whole"));
    assert_whole(&root);

    // The manifest, and with it nothing says any more which blobs there have to be.
    let manifest = root.join(format!("manifests/{}", scene.manifest()));
    let whole = std::fs::read(&manifest).expect("manifest");
    damage(&manifest, &whole[..whole.len() / 2]);
    std::fs::remove_file(blob(b"content of a")).expect("lost");
    let said = repair().fine();
    assert!(said.contains("2 repaired"), "{said}");
    assert!(scene.here.vrift(&["verify"]).fine().contains("all whole"));

    std::fs::remove_file(&manifest).expect("lost");
    let said = repair().fine();
    assert!(said.contains("refs/t/one: repaired"), "{said}");
    assert!(scene.here.vrift(&["verify"]).fine().contains("all whole"));

    // What the remote hasn't either is left, and told.
    std::fs::remove_file(blob(b"content of a")).expect("lost");
    damage(&blob(b"content of b"), b"content of B");
    std::fs::write(scene.on_remote("content of b"), "content of B").expect("damage there too");
    std::fs::remove_file(scene.on_remote("content of a")).expect("lost there too");
    let ran = repair();
    assert_eq!(ran.status, 1, "{ran:?}");
    assert_eq!(ran.stdout.matches("not repaired").count(), 2, "{}", ran.stdout);
    assert!(ran.stdout.contains("2 damaged"), "{}", ran.stdout);
    assert_eq!(std::fs::read(blob(b"content of b")).expect("as it was"), b"content of B");
}

/// Files of a directory of the remote with this ending; an index has one, a pack none.
fn objects(remote: &Path, dir: &str, ending: Option<&str>) -> Vec<PathBuf> {
    let Ok(found) = std::fs::read_dir(remote.join(dir)) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = found.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().and_then(OsStr::to_str) == ending);
    paths.sort();
    paths
}

/// `n` small files, each with a content of its own, and one that is too large for a pack.
fn many(scene: &Scene, name: &str, n: u32) -> PathBuf {
    let tree = scene.here.dir(name);
    for i in 0..n {
        write(&tree.join(format!("d{}/{i}", i % 9)), format!("small content {i}"));
    }
    write(&tree.join("empty"), "");
    write(&tree.join("large"), vec![b'y'; (64 << 10) + 1]);
    scene.here.ingest(&tree, name);
    tree
}

#[test]
fn many_small_blobs_travel_in_packs() {
    let scene = Scene::new();
    let tree = many(&scene, "many", 4200);
    assert!(scene.push("many").fine().contains("4202 blobs, 4202 sent"));
    let packs = objects(&scene.remote, "packs", None);
    // 4,096 blobs in each.
    assert_eq!((packs.len(), objects(&scene.remote, "packs", Some("index")).len()), (2, 2));
    assert_eq!(blobs(&scene.remote).len(), 1, "the large one");
    assert!(scene.push("many").fine().contains("4202 blobs, 0 sent"));
    assert!(scene.pull("many").fine().contains("4202 blobs, 4202 fetched"));
    assert_whole(&scene.there.store_root());
    assert!(scene.there.vrift(&["verify"]).fine().contains("all whole"));

    // Another tree, most of which is in packs that others made.
    write(&tree.join("one more"), "one more");
    std::fs::remove_file(tree.join("d0/0")).expect("remove");
    scene.here.ingest(&tree, "other");
    assert!(scene.push("other").fine().contains("4202 blobs, 1 sent, 8 B"));
    let fresh = Place::new();
    let remote = scene.remote.as_os_str();
    let args = ["pull".as_ref(), remote, "other".as_ref()];
    assert!(fresh.vrift(&args).fine().contains("4202 blobs, 4202 fetched"));
    let content = Hash::of(b"small content 0");
    assert!(!fresh.store_root().join(Store::blob_path(&content)).exists(), "not of this tree");
    assert!(fresh.vrift(&["verify"]).fine().contains("all whole"));

    // What is damaged or lost in the store comes out of a pack again.
    let root = scene.there.store_root();
    let blob = |i| root.join(Store::blob_path(&Hash::of(format!("small content {i}").as_bytes())));
    damage(&blob(7), b"Small content 7");
    std::fs::remove_file(blob(4199)).expect("lost");
    let said = scene.there.vrift(&["verify".as_ref(), "--repair".as_ref(), remote]).fine();
    assert!(said.contains("2 repaired"), "{said}");
    assert!(scene.there.vrift(&["verify"]).fine().contains("all whole"));
}

#[test]
fn damaged_packs_are_refused_and_healed_by_a_push() {
    let scene = Scene::new();
    many(&scene, "many", 1000);
    scene.push("many").fine();
    let of = |dir, ending| objects(&scene.remote, dir, ending).remove(0);
    let (pack, index, map) =
        (of("packs", None), of("packs", Some("index")), of("manifests", Some("packs")));
    let refused = |why: &str| {
        let said = scene.pull("many").refused();
        assert!(said.contains(why), "{said}");
        assert_nothing(&scene.there);
    };
    let change = |path: &Path, change: &dyn Fn(&mut Vec<u8>)| {
        let mut content = std::fs::read(path).expect("read");
        change(&mut content);
        std::fs::write(path, content).expect("write");
    };
    // A bit flips, which a push can't see: it compares lengths.
    change(&pack, &|content| content[100] ^= 1);
    refused("its content has another hash");
    change(&pack, &|content| content[100] ^= 1);
    for (what, file) in [("cut", &pack), ("gone", &pack), ("gone", &index), ("junk", &index)] {
        match what {
            "cut" => change(file, &|content| content.truncate(500)),
            "gone" => std::fs::remove_file(file).expect("remove"),
            _ => change(file, &|content| *content = b"<html>".to_vec()),
        }
        if file == &pack {
            refused("packs/");
        }
        assert!(scene.push("many").fine().contains(", 1001 sent"), "{what}");
    }
    change(&map, &|content| content.truncate(100));
    refused("it is cut short");
    change(&map, &|content| *content = b"<html>".to_vec());
    refused("it is no map of packs");
    assert!(scene.push("many").fine().contains(" 0 sent"));
    assert!(scene.pull("many").fine().contains("1002 blobs, "));
    scene.there.vrift(&["verify"]).fine();
}

#[test]
fn a_lazily_pulled_tree_is_there_without_its_blobs() {
    let scene = Scene::new();
    scene.push("t/one").fine();
    let said = scene.there.vrift(&[
        "pull".as_ref(),
        "--lazy".as_ref(),
        scene.remote.as_os_str(),
        "t/one".as_ref(),
    ]);
    let said = said.fine();
    assert!(said.contains("4 blobs, 0 fetched, 0 B, 4 left at"), "{said}");
    assert_eq!(blobs(&scene.there.store_root()).len(), 0);
    assert_eq!(scene.there.vrift(&["ls", "t/one", "-R"]).fine().lines().count(), 6);
    let said = scene.there.vrift(&["verify"]).fine();
    assert!(said.contains("4 blobs not fetched yet: all whole"), "{said}");
    let origin = scene.there.store().origin(&scene.manifest()).expect("read").expect("noted");
    assert_eq!(Path::new(std::str::from_utf8(&origin.place).expect("UTF-8")), scene.remote);
    assert_eq!(origin.tree, scene.manifest());

    assert!(scene.pull("t/one").fine().contains("4 fetched"));
    assert_eq!(scene.there.store().origin(&scene.manifest()).expect("read"), None);
    let said = scene.there.vrift(&["verify"]).fine();
    assert!(!said.contains("not fetched"), "{said}");
}

#[test]
fn a_collection_beside_a_pull_takes_nothing_of_it() {
    let scene = Scene::new();
    let tree = scene.here.dir("many");
    for i in 0..400 {
        write(&tree.join(format!("{}/{i}", i % 7)), format!("content {i}"));
    }
    scene.here.ingest(&tree, "many");
    scene.push("many").fine();
    scene.pull("many:mine").fine();
    scene.there.vrift(&["rm", "mine"]).fine();
    let over = AtomicBool::new(false);
    let (pulled, collected) = std::thread::scope(|scope| {
        let collecting = scope.spawn(|| {
            let mut removed = 0;
            while !over.load(Ordering::Relaxed) {
                let said = scene.there.vrift(&["gc", "--grace", "0", "--json"]).fine();
                let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
                removed += said["removed_blobs"].as_u64().expect("a number");
            }
            removed
        });
        let pulls = scope.spawn(|| {
            for _ in 0..8 {
                scene.pull("many:mine").fine();
                scene.there.vrift(&["verify", "mine"]).fine();
                scene.there.vrift(&["rm", "mine"]).fine();
            }
        });
        let pulled = pulls.join();
        over.store(true, Ordering::Relaxed);
        (pulled, collecting.join().expect("collections"))
    });
    pulled.expect("pulls");
    assert!(collected >= 400, "{collected}");
    scene.there.vrift(&["verify"]).fine();
    scene.there.vrift(&["gc", "--grace", "0"]).fine();
    // The note of where a lazy tree's blobs are goes with its manifest.
    let lazily = [OsStr::new("pull"), OsStr::new("--lazy"), scene.remote.as_os_str()];
    scene.there.vrift(&[&lazily[..], &[OsStr::new("many")]].concat()).fine();
    let origins =
        || std::fs::read_dir(scene.there.store_root().join("origins")).expect("it is there");
    assert_eq!(origins().count(), 1);
    scene.there.vrift(&["gc", "--grace", "0"]).fine();
    assert_eq!(origins().count(), 1, "a ref names it");
    scene.there.vrift(&["rm", "many"]).fine();
    scene.there.vrift(&["gc", "--grace", "0"]).fine();
    assert_eq!(origins().count(), 0);
}
