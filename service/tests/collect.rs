//! What a collection takes and what it leaves, alone, beside others, and killed.

#![allow(clippy::tests_outside_test_module, reason = "this whole file is tests")]

mod common;

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use common::{Place, assert_whole, blobs, write};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use vrift_store::collect::CollectOptions;
use vrift_store::manifest::{Entry, ManifestBuilder, ROOT};
use vrift_store::{Hash, IngestOptions, Progress, Store};

const NO_GRACE: CollectOptions = CollectOptions { grace: Duration::ZERO, dry_run: false };

/// One test at a time: a child that another one starts just now has a copy of our descriptors until its
/// exec, and what is open then is in use.
fn in_turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A directory of files `from..to`, each of its own content, ingested as `name`.
fn tree(place: &Place, name: &str, numbers: std::ops::Range<u32>) -> PathBuf {
    let dir = place.dir(name);
    for i in numbers {
        write(&dir.join(format!("d{}/f{i}", i % 7)), format!("content {i}"));
    }
    place.ingest(&dir, name);
    dir
}

/// Every file of a directory and below, by path, with its inode.
fn listing(dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).expect("list").flatten() {
            let meta = entry.path().symlink_metadata().expect("metadata");
            if meta.is_dir() {
                dirs.push(entry.path());
            } else {
                found.push((entry.path(), meta.ino()));
            }
        }
    }
    found.sort();
    found
}

fn number(json: &str, key: &str) -> u64 {
    let value: serde_json::Value = serde_json::from_str(json).expect("JSON");
    value[key].as_u64().unwrap_or_else(|| panic!("{key} in {json}"))
}

#[track_caller]
fn verified(place: &Place) {
    let report = place.store().verify(&Progress::default()).expect("verify");
    assert_eq!(report.damage, []);
}

#[test]
fn what_a_ref_names_stays_and_the_rest_goes() {
    let _turn = in_turn();
    let place = Place::new();
    let kept = tree(&place, "kept", 0..40);
    tree(&place, "gone", 30..100);
    place.store().put_blob(b"of no manifest").expect("put");
    // What goes with blobs: one that stays, one that goes, one that is gone already.
    let store = place.store_root();
    let [stays, goes, absent] =
        [b"content 35", b"content 50", b"content ??"].map(|content| Hash::of(content));
    for dir in ["exec", "checked"] {
        std::fs::create_dir(store.join(dir)).expect("mkdir");
        for hash in [stays, goes, absent] {
            std::fs::write(store.join(dir).join(hash.to_string()), "x").expect("write");
        }
    }
    let twin = store.join(format!("exec/{goes}-0123456789abcdef"));
    std::fs::write(&twin, "x").expect("write");
    let real = store.join(format!("exec/real-{goes}"));
    std::fs::write(&real, "x").expect("write");

    place.vrift(&["rm", "gone"]).fine();
    let before = listing(&store);
    let said = place.vrift(&["gc", "--grace", "0", "--dry-run", "--json"]).fine();
    assert_eq!(listing(&store), before, "only looked at");
    let keys = ["removed_manifests", "removed_blobs", "blobs", "manifests", "removed_leftovers"];
    assert_eq!(keys.map(|key| number(&said, key)), [1, 61, 40, 1, 5]);
    let said = place.vrift(&["gc", "--grace", "0", "--json"]).fine();
    assert_eq!(keys.map(|key| number(&said, key)), [1, 61, 40, 1, 5]);
    assert_eq!(blobs(&store).len(), 40);
    for dir in ["exec", "checked"] {
        let is_there = |hash: &Hash| store.join(dir).join(hash.to_string()).exists();
        assert_eq!([stays, goes, absent].map(|hash| is_there(&hash)), [true, false, false]);
    }
    assert!(!twin.exists() && real.exists());
    verified(&place);
    assert_whole(&store);
    let out = place.path("out");
    place.vrift(&["export", "kept", out.to_str().expect("utf-8")]).fine();
    let last = |said: String| said.lines().last().map(ToOwned::to_owned);
    let again = last(place.ingest(&out, "again"));
    assert_eq!(again, last(place.ingest(&kept, "again")), "all there");

    let said = place.vrift(&["gc", "--grace", "0"]).fine();
    assert!(said.starts_with("removed: 0 manifests, 0 blobs"), "{said}");
}

#[test]
fn the_time_of_grace_spares_what_is_young() {
    let _turn = in_turn();
    let place = Place::new();
    tree(&place, "kept", 0..10);
    tree(&place, "gone", 10..20);
    place.vrift(&["rm", "gone"]).fine();
    let store = place.store_root();
    let before = listing(&store);
    let said = place.vrift(&["gc", "--json"]).fine();
    assert_eq!(listing(&store), before);
    assert_eq!((number(&said, "young_manifests"), number(&said, "blobs")), (1, 20));
    // Its blobs are old, and it isn't: it stays whole.
    let set_age = |path: &Path, age: u64| {
        let time = SystemTime::now() - Duration::from_secs(age);
        File::open(path).and_then(|file| file.set_modified(time)).expect("utimes");
    };
    blobs(&store).iter().for_each(|blob| set_age(blob, 7200));
    let young = place.store().put_blob(b"young").expect("put").0;
    place.vrift(&["gc", "--grace", "1h"]).fine();
    assert_eq!(blobs(&store).len(), 21);
    for manifest in std::fs::read_dir(store.join("manifests")).expect("list").flatten() {
        set_age(&manifest.path(), 7200);
    }
    // A tree that is wanted again is young again.
    let wanted = place.store();
    wanted
        .ingest(&place.path("gone"), &IngestOptions::default(), &Progress::default())
        .expect("in");
    place.vrift(&["gc", "--grace", "1h"]).fine();
    assert_eq!(blobs(&store).len(), 21);
    for manifest in std::fs::read_dir(store.join("manifests")).expect("list").flatten() {
        set_age(&manifest.path(), 7200);
    }
    let said = place.vrift(&["gc", "--grace", "1h", "--json"]).fine();
    assert_eq!((number(&said, "removed_blobs"), number(&said, "young_blobs")), (10, 1));
    place.store().open_blob(&young).expect("young");
    verified(&place);
}

#[test]
fn what_cannot_be_read_ends_it_before_anything_goes() {
    let _turn = in_turn();
    let place = Place::new();
    tree(&place, "kept", 0..10);
    tree(&place, "gone", 10..20);
    place.vrift(&["rm", "gone"]).fine();
    let store = place.store_root();
    let manifest = place.store().ref_target("kept").expect("readable").expect("a ref");
    let manifest = store.join(format!("manifests/{manifest}"));
    let unnamed = listing(&store.join("manifests"));
    let unnamed = unnamed.into_iter().find(|(path, _)| *path != manifest).expect("two").0;
    let unnamed = unnamed.file_name().and_then(|name| name.to_str()).expect("a hash").to_owned();
    let replace = |path: &Path, content: &[u8]| {
        let _ = std::fs::remove_file(path);
        write(path, content);
    };
    let refused = |what: &str, path: &Path, content: &[u8], says: &str| {
        let good = std::fs::read(path).ok();
        replace(path, content);
        let before = listing(&store);
        for args in [&["gc", "--grace", "0"][..], &["gc", "--grace", "0", "--dry-run"]] {
            let line = place.vrift(args).refused();
            assert!(
                line.contains(says) && line.contains("nothing was collected"),
                "{what}: {line}"
            );
            assert_eq!(listing(&store), before, "{what}");
        }
        match good {
            Some(good) => replace(path, &good),
            None => std::fs::remove_file(path).expect("ours"),
        }
    };
    refused("a damaged ref", &store.join("refs/kept"), b"12", "ref \"kept\" is damaged");
    refused("no ref's name", &store.join("refs/a b"), b"12", "a b");
    let nothing = format!("{}\n", Hash::of(b"nothing"));
    refused("a ref to nothing", &store.join("refs/x"), nothing.as_bytes(), "which is missing");
    let mut bytes = std::fs::read(&manifest).expect("read");
    let end = bytes.len() - 1;
    bytes[end] ^= 1;
    refused("a damaged manifest", &manifest, &bytes, "don't match their checksum");
    refused("half a manifest", &manifest, &bytes[..500], "manifests/");
    let other = format!("{unnamed}\n");
    refused(
        "another's manifest",
        &store.join("refs/y"),
        other.as_bytes().get(..30).expect("30"),
        "y",
    );
    refused("a damaged upper", &store.join("uppers/1-2/upper"), b"vrift upper 1\n?", "uppers/1-2");
    refused("a damaged note", &store.join("uppers/at-12"), b"?", "uppers/at-12");
    let head = format!("vrift upper 1\n{}\n", Hash::of(b"nothing"));
    write(&store.join("uppers/1-2/journal"), "a change");
    refused("changes to nothing", &store.join("uppers/1-2/upper"), head.as_bytes(), "uppers/1-2");

    // Changes to a tree keep it, whoever names it.
    let head = format!("vrift upper 1\n{unnamed}\n");
    write(&store.join("uppers/1-2/upper"), head);
    place.vrift(&["gc", "--grace", "0"]).fine();
    assert_eq!(blobs(&store).len(), 20);
    std::fs::remove_dir_all(store.join("uppers/1-2")).expect("ours");
    place.vrift(&["gc", "--grace", "0"]).fine();
    assert_eq!(blobs(&store).len(), 10);
    verified(&place);
}

#[test]
fn a_manifest_that_is_open_stays_with_all_its_blobs() {
    let _turn = in_turn();
    let place = Place::new();
    tree(&place, "old", 0..20);
    let store = place.store();
    let open = store.open_manifest("old").expect("open");
    place.vrift(&["rm", "old"]).fine();
    let said = place.vrift(&["gc", "--grace", "0", "--json"]).fine();
    assert_eq!((number(&said, "in_use_manifests"), number(&said, "removed_blobs")), (1, 0));
    verified(&place);
    drop(open);
    place.vrift(&["gc", "--grace", "0"]).fine();
    assert_eq!(blobs(&place.store_root()).len(), 0);
    let error = store.open_manifest("old").expect_err("gone");
    assert!(error.to_string().contains("is no ref"), "{error}");
}

#[test]
fn blobs_that_were_collected_before_their_manifest_is_there_are_noticed() {
    let _turn = in_turn();
    let place = Place::new();
    let store = Store::open_or_create(&place.store_root()).expect("store");
    let build = || {
        let mut builder = ManifestBuilder::new(Entry::directory(0o755, (0, 0))).expect("root");
        for content in [b"a", b"b"] {
            let (blob, _) = store.put_blob(content).expect("put");
            builder.add(ROOT, content, Entry::file(0o644, (0, 0), 1, blob)).expect("add");
        }
        builder.finish().expect("finish")
    };
    let (bytes, id) = build();
    store.collect(&NO_GRACE, &Progress::default()).expect("collect");
    let hold = store.hold().expect("hold");
    assert!(store.put_tree(&hold, &bytes, &id, None).expect("readable").is_none());
    assert!(!store.root().join(format!("manifests/{id}")).exists());
    build();
    let open = store.put_tree(&hold, &bytes, &id, None).expect("readable").expect("all there");
    drop(hold);
    store.collect(&NO_GRACE, &Progress::default()).expect("collect");
    assert_eq!(blobs(store.root()).len(), 2, "open");
    store.set_ref("t", &open.id()).expect("set");
    drop(open);
    store.collect(&NO_GRACE, &Progress::default()).expect("collect");
    assert_eq!(blobs(store.root()).len(), 2, "named");
}

#[test]
fn a_second_collection_is_told() {
    let _turn = in_turn();
    let place = Place::new();
    tree(&place, "t", 0..3);
    let tmp = File::open(place.store_root().join("tmp")).expect("open");
    rustix::fs::flock(&tmp, rustix::fs::FlockOperation::LockExclusive).expect("lock");
    let line = place.vrift(&["gc"]).refused();
    assert!(line.contains("another `vrift gc` is at work"), "{line}");
    place.vrift(&["gc", "--dry-run"]).fine();
    drop(tmp);
    place.vrift(&["gc"]).fine();
}

/// Three who ingest trees that share contents, name them, take the names away, and read what they
/// named; and one who collects, without any grace. Each tree is whole as long as it has its name.
#[test]
fn ingests_and_collections_at_once_lose_nothing() {
    let _turn = in_turn();
    const ROUNDS: u32 = 70;
    let place = Place::new();
    let store = Store::open_or_create(&place.store_root()).expect("store");
    let ended = AtomicBool::new(false);
    let (collections, removed) = (AtomicU64::new(0), AtomicU64::new(0));
    let options =
        IngestOptions { no_sync: true, jobs: std::num::NonZero::new(2), ..Default::default() };
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3u32)
            .map(|me| {
                let (place, store, options) = (&place, &store, &options);
                scope.spawn(move || {
                    for round in 0..ROUNDS {
                        let dir = place.dir(&format!("source{me}"));
                        for i in 0..60 {
                            let content = format!("content {}", (round * 7 + i * (me + 1)) % 200);
                            write(&dir.join(format!("f{i}")), content);
                        }
                        let name = format!("ref{me}");
                        let done = store
                            .ingest_as(Some(&name), &dir, options, &Progress::default())
                            .expect("ingest");
                        let report = store
                            .verify_manifest(&done.manifest, &Progress::default())
                            .expect("verify");
                        assert_eq!(report.damage, [], "round {round}");
                        if round % 3 == 0 {
                            store.remove_ref(&name).expect("rm");
                        }
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                let done = store.collect(&NO_GRACE, &Progress::default()).expect("collect");
                collections.fetch_add(1, Ordering::Relaxed);
                removed.fetch_add(done.blobs, Ordering::Relaxed);
            }
        });
        let results: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        ended.store(true, Ordering::Relaxed);
        for result in results {
            result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
    let (collections, removed) = (collections.into_inner(), removed.into_inner());
    assert!(collections >= 10, "{collections} collections");
    assert!(removed > 200, "{removed} blobs removed meanwhile: too few for a test");
    verified(&place);
    assert_whole(&place.store_root());
}

#[test]
fn killed_at_any_moment_a_collection_loses_nothing() {
    let _turn = in_turn();
    let place = Place::new();
    tree(&place, "kept", 0..100);
    let gone = place.dir("gone");
    for i in 0..3000 {
        write(&gone.join(format!("d{}/f{i}", i % 40)), format!("other {i}"));
    }
    let args = ["gc", "--grace", "0"];
    let source = gone.to_str().expect("utf-8");
    let store = |name| place.vrift(&["ingest", source, "--name", name, "--no-sync"]).fine();
    let ingest = || {
        store("gone");
        place.vrift(&["rm", "gone"]).fine();
    };
    ingest();
    let start = Instant::now();
    place.vrift(&args).fine();
    // How long it takes depends on what else the machine does.
    let mut longest = start.elapsed();
    let wanted = place.vrift(&["refs"]).fine();
    let mut killed = 0;
    for round in 0.. {
        if killed == 10 {
            break;
        }
        assert!(round < 60, "only {killed} of {round} were killed at work");
        ingest();
        let mut child = place.command(&args).stdout(Stdio::null()).spawn().expect("spawn");
        let delay = longest * (round % 10) / 10;
        std::thread::sleep(delay);
        child.kill().expect("kill");
        if child.wait().expect("wait").success() {
            longest = delay;
        } else {
            killed += 1;
        }
        verified(&place);
        assert_eq!(place.vrift(&["refs"]).fine(), wanted);
        // Whether its manifest went or not, the tree can be had again.
        store("again");
        verified(&place);
        place.vrift(&["rm", "again"]).fine();
    }
    place.vrift(&args).fine();
    assert_eq!(blobs(&place.store_root()).len(), 100, "another one goes on from there");
    verified(&place);
}

/// The processor time of all children so far, and the most memory that one of them had, in KiB.
fn children() -> (Duration, u64) {
    let used = getrusage(UsageWho::RUSAGE_CHILDREN).expect("getrusage");
    let time = used.user_time() + used.system_time();
    let time = Duration::from_micros(u64::try_from(time.num_microseconds()).expect("a time"));
    (time, u64::try_from(used.max_rss()).expect("a size"))
}

/// `VRIFT_TEST_BLOBS` asks for another number.
#[test]
fn many_blobs_are_collected_in_time() {
    let _turn = in_turn();
    let wanted = std::env::var("VRIFT_TEST_BLOBS").ok().and_then(|text| text.parse().ok());
    let all: u32 = wanted.unwrap_or(50_000);
    let place = Place::new();
    let store = Store::open_or_create(&place.store_root()).expect("store");
    for first in 0..=255u8 {
        std::fs::create_dir(store.root().join(format!("blobs/{first:02x}"))).expect("mkdir");
    }
    let mut builder = ManifestBuilder::new(Entry::directory(0o755, (0, 0))).expect("root");
    for i in 0..all {
        let hash = Hash::of(&i.to_le_bytes());
        File::create(store.root().join(Store::blob_path(&hash))).expect("create");
        if i % 2 == 0 {
            let entry = Entry::file(0o644, (0, 0), 0, hash);
            builder.add(ROOT, i.to_string().as_bytes(), entry).expect("add");
        }
    }
    let (bytes, id) = builder.finish().expect("finish");
    store.put_manifest(&bytes, &id).expect("put");
    store.set_ref("half", &id).expect("set");
    let (start, before) = (Instant::now(), children().0);
    let said = place.vrift(&["gc", "--grace", "0", "--json"]).fine();
    let (took, (after, memory)) = (start.elapsed(), children());
    let busy = after - before;
    let half = u64::from(all / 2);
    assert_eq!((number(&said, "removed_blobs"), number(&said, "blobs")), (half, half), "{said}");
    assert_eq!(blobs(store.root()).len() as u64, half);
    println!(
        "{all} blobs, half of them removed: {took:.2?}, {busy:.2?} of a processor, {memory} KiB"
    );
    // Others may keep the machine busy.
    assert!(busy < Duration::from_millis(300 * u64::from(all / 1000)), "{busy:?}");
    // Of no blob more than two hashes and what holds them, whatever other tests' children had.
    assert!(memory < (96 << 10) + u64::from(all) * 160 / 1024, "{memory} KiB");
}
