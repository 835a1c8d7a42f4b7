//! Trees that go to an S3 server and come from it, while connections are cut, requests refused and
//! programs killed.

#![allow(clippy::tests_outside_test_module, reason = "this whole file is tests")]

mod common;
#[path = "common/proxy.rs"]
mod proxy;
#[path = "common/s3.rs"]
mod s3;

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use common::{Place, Ran, assert_whole, blobs, run, write};
use proxy::{Fault, Proxy};
use s3::{Server, with_s3};
use vrift_service::remote::{OnDemand, Options};
use vrift_store::{Hash, Store};

/// `vrift` against the server, or what stands before it.
fn vrift(place: &Place, addr: SocketAddr, args: &[&str]) -> Ran {
    run(with_s3(&mut place.command(args), addr))
}

/// A tree of `files` small files, each with a content of its own, and some odd ones.
fn tree(place: &Place, name: &str, files: usize) -> PathBuf {
    let dir = place.dir(name);
    for i in 0..files {
        write(&dir.join(format!("d{}/f{i}", i % 7)), format!("{name} {i}\n").repeat(i % 50));
    }
    write(&dir.join("empty"), "");
    write(&dir.join("größe und so #1 ~ %41"), "an odd name");
    place.ingest(&dir, name);
    dir
}

/// No compressible pattern: parts that are swapped are noticed.
fn noise(len: usize) -> Vec<u8> {
    let mut output = vec![0; len];
    blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut output);
    output
}

#[track_caller]
fn assert_same(here: &Place, there: &Place, reference: &str) {
    assert_whole(&there.store_root());
    assert!(there.vrift(&["verify"]).fine().contains("all whole"));
    let id = |place: &Place| place.store().resolve(reference).expect("the ref");
    assert_eq!(id(here), id(there));
}

#[test]
fn a_tree_goes_to_s3_and_comes_from_it() {
    let (server, here, there) = (Server::start(), Place::new(), Place::new());
    let dir = tree(&here, "größe/eins", 300);
    // Three parts, the last one short, and one byte more than a part.
    write(&dir.join("large"), noise((20 << 20) + 3));
    write(&dir.join("larger"), &noise((8 << 20) + 1)[..]);
    here.ingest(&dir, "größe/eins");
    let said = vrift(&here, server.addr, &["push", "größe/eins", &server.url()]).fine();
    let all = said.split(" blobs").next().expect("a number").to_owned();
    assert!(said.contains(&format!("{all} blobs, {all} sent")), "{said}");
    assert!(server.object("refs/größe/eins").exists(), "the name as it is");
    let said = vrift(&here, server.addr, &["push", "größe/eins", &server.url()]).fine();
    assert!(said.contains(&format!("{all} blobs, 0 sent")), "{said}");
    // One more file: the list tells that only that is missing.
    write(&dir.join("new"), "one more");
    here.ingest(&dir, "größe/eins");
    let said = vrift(&here, server.addr, &["push", "größe/eins", &server.url()]).fine();
    assert!(said.contains(", 1 sent, 8 B"), "{said}");

    let said = vrift(&there, server.addr, &["pull", &server.url(), "größe/eins"]).fine();
    assert!(said.contains(&format!("{} fetched", all.parse::<u32>().expect("n") + 1)), "{said}");
    assert_same(&here, &there, "größe/eins");
    let said = vrift(&there, server.addr, &["pull", &server.url(), "nothing"]).refused();
    assert!(said.contains("there is no ref \"nothing\" at s3://bucket/trees"), "{said}");
}

#[test]
fn wrong_credentials_are_told_in_one_line() {
    let (server, here) = (Server::start(), Place::new());
    tree(&here, "t", 3);
    let mut command = here.command(&["push", "t", &server.url()]);
    with_s3(&mut command, server.addr).env("AWS_SECRET_ACCESS_KEY", "wrong");
    let said = run(&mut command).refused();
    assert!(said.contains("check the credentials in the environment"), "{said}");
}

/// Every second connection fails in one way or another.
fn trouble(number: usize) -> Fault {
    match number % 8 {
        0 => Fault::Status(503),
        2 => Fault::Cut(3_000),
        4 => Fault::Status(500),
        6 => Fault::Cut(100),
        // The rest are cut too at last, or one good connection would carry everything.
        _ => Fault::Cut(60_000),
    }
}

#[test]
fn cut_connections_and_busy_answers_are_got_over() {
    let (server, here, there) = (Server::start(), Place::new(), Place::new());
    let dir = tree(&here, "t", 400);
    write(&dir.join("large"), noise(17 << 20));
    write(&dir.join("medium"), noise(300 << 10));
    here.ingest(&dir, "t");
    let proxy = Proxy::start(server.addr, trouble);
    let said = vrift(&here, proxy.addr, &["push", "t", &server.url()]).fine();
    assert!(said.contains("t -> "), "{said}");
    // A download of 17 MiB goes on where it was cut, or it would never come to its end.
    let plan = |number| match trouble(number) {
        Fault::Cut(60_000) => Fault::Cut(4 << 20),
        fault => fault,
    };
    let back = Proxy::start(server.addr, plan);
    vrift(&there, back.addr, &["pull", &server.url(), "t"]).fine();
    assert_same(&here, &there, "t");
    let connections = proxy.count.load(Ordering::Relaxed) + back.count.load(Ordering::Relaxed);
    assert!(connections > 20, "{connections} connections: where was the trouble?");
}

#[test]
fn a_server_that_only_fails_ends_the_retries() {
    let (server, here) = (Server::start(), Place::new());
    tree(&here, "t", 3);
    let proxy = Proxy::start(server.addr, |_| Fault::Status(503));
    let start = Instant::now();
    let said = vrift(&here, proxy.addr, &["push", "--timeout=2", "t", &server.url()]).refused();
    assert!(said.contains("503"), "{said}");
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    let tried = proxy.count.load(Ordering::Relaxed);
    assert!((3..=20).contains(&tried), "{tried} tries");
}

#[test]
fn a_server_that_hangs_ends_in_a_clear_error() {
    let (server, here, there) = (Server::start(), Place::new(), Place::new());
    tree(&here, "t", 50);
    vrift(&here, server.addr, &["push", "t", &server.url()]).fine();
    // It hangs from the first request on, or in the middle of it all.
    for first in [0, 3] {
        let plan = move |number| if number < first { Fault::Cut(6_000) } else { Fault::Hang };
        let proxy = Proxy::start(server.addr, plan);
        let start = Instant::now();
        let args = ["pull", "--timeout=1", &server.url(), "t"];
        let said = vrift(&there, proxy.addr, &args).refused();
        assert!(said.contains("timed out"), "{said}");
        assert!(start.elapsed() < Duration::from_secs(40), "{:?}", start.elapsed());
        if there.store_root().exists() {
            assert_whole(&there.store_root());
            assert_eq!(there.store().manifests().expect("manifests").len(), 0);
        }
    }
    let nobody = TcpListener::bind(("127.0.0.1", 0)).expect("a port").local_addr().expect("it");
    let said = vrift(&there, nobody, &["pull", "--timeout=1", &server.url(), "t"]).refused();
    assert!(said.contains("efused"), "{said}");
}

#[test]
fn a_slow_server_is_waited_for() {
    let (server, here, there) = (Server::start(), Place::new(), Place::new());
    tree(&here, "t", 40);
    vrift(&here, server.addr, &["push", "t", &server.url()]).fine();
    let proxy = Proxy::start(server.addr, |_| Fault::Slow(Duration::from_millis(100)));
    vrift(&there, proxy.addr, &["pull", "--timeout=5", &server.url(), "t"]).fine();
    assert_same(&here, &there, "t");
}

#[test]
fn of_two_stores_that_push_one_ref_at_once_one_is_told() {
    let server = Server::start();
    let places = [Place::new(), Place::new()];
    for (i, place) in places.iter().enumerate() {
        tree(place, &format!("tree{i}"), 20);
        vrift(place, server.addr, &["push", &format!("tree{i}"), &server.url()]).fine();
    }
    let there = Place::new();
    let mut refused = 0;
    for round in 0..12 {
        let url = server.url();
        let ran: Vec<Ran> = std::thread::scope(|scope| {
            let pushes: Vec<_> = (places.iter().enumerate())
                .map(|(i, place)| {
                    let (spec, url) = (format!("tree{i}:shared{round}"), url.clone());
                    scope.spawn(move || vrift(place, server.addr, &["push", &spec, &url]))
                })
                .collect();
            pushes.into_iter().map(|push| push.join().expect("a push")).collect()
        });
        let name = format!("shared{round}");
        let named = std::fs::read_to_string(server.object(format!("refs/{name}"))).expect("ref");
        let winner = places.iter().enumerate().position(|(i, place)| {
            place.store().resolve(&format!("tree{i}")).expect("ref").to_string() == named.trim_end()
        });
        let winner = winner.expect("one of the two");
        for (i, ran) in ran.into_iter().enumerate() {
            if ran.status == 0 {
                continue;
            }
            assert_ne!(i, winner, "who won was told otherwise");
            let said = ran.refused();
            assert!(said.contains("was moved by somebody else meanwhile"), "{said}");
            refused += 1;
        }
        vrift(&there, server.addr, &["pull", &server.url(), &name]).fine();
    }
    assert_whole(&there.store_root());
    assert!(there.vrift(&["verify"]).fine().contains("all whole"));
    eprintln!("{refused} of 12 pushes came too late");
}

#[test]
fn a_killed_pull_leaves_a_whole_store_and_goes_on_where_it_was() {
    let (server, here) = (Server::start(), Place::new());
    let dir = tree(&here, "t", 600);
    write(&dir.join("large"), noise(12 << 20));
    here.ingest(&dir, "t");
    vrift(&here, server.addr, &["push", "t", &server.url()]).fine();
    let url = server.url();
    let (mut killed, mut went_on) = (0, 0);
    for round in 0..8 {
        let there = Place::new();
        let mut command = there.command(&["pull", "--requests=4", &url, "t"]);
        with_s3(&mut command, server.addr).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("spawn");
        std::thread::sleep(Duration::from_millis(60 + 60 * round));
        let done = child.try_wait().expect("wait").is_some();
        child.kill().expect("kill");
        child.wait().expect("wait");
        let mut before = 0;
        if there.store_root().join("format").exists() {
            before = blobs(&there.store_root()).len();
            let store = there.store();
            for id in store.manifests().expect("manifests") {
                let report = store.verify_manifest(&id, &vrift_store::Progress::default());
                assert_eq!(report.expect("verify").damage, [], "a manifest before its blobs");
            }
            assert!(store.refs().expect("refs").len() <= store.manifests().expect("m").len());
        }
        killed += usize::from(!done);
        let said = vrift(&there, server.addr, &["pull", &url, "t"]).fine();
        let fetched = said.split(", ").nth(1).and_then(|part| part.split(' ').next());
        let fetched: usize = fetched.and_then(|n| n.parse().ok()).expect("a number");
        let all = blobs(&there.store_root()).len();
        assert_eq!(fetched, all - before, "{said}");
        went_on += usize::from(0 < before && before < all);
        assert_same(&here, &there, "t");
    }
    assert!(killed > 0, "every pull was quicker than its end");
    eprintln!("{killed} killed, {went_on} of them in the middle of the blobs");
}

#[test]
fn a_killed_push_goes_on_where_it_was() {
    let (server, here, there) = (Server::start(), Place::new(), Place::new());
    tree(&here, "t", 600);
    let url = server.url();
    let mut command = here.command(&["push", "--requests=2", "t", &url]);
    with_s3(&mut command, server.addr).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("spawn");
    let start = Instant::now();
    let arrived = || std::fs::read_dir(server.object("blobs")).map_or(0, Iterator::count);
    while arrived() < 30 && start.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("kill");
    child.wait().expect("wait");
    assert!(!server.object("refs/t").exists() && !server.object("manifests").exists());
    let said = vrift(&here, server.addr, &["push", "t", &url]).fine();
    let (all, sent) = (number(&said, 0), number(&said, 1));
    assert!(sent < all, "{said}");
    vrift(&there, server.addr, &["pull", &url, "t"]).fine();
    assert_same(&here, &there, "t");
}

#[test]
fn packs_are_got_through_bad_connections_and_asked_for_once() {
    let (server, here, there) = (Server::start(), Place::new(), Place::new());
    tree(&here, "t", 3000);
    let trouble = |number: usize| match number % 4 {
        0 => Fault::Status(503),
        2 => Fault::Cut(20_000),
        _ => Fault::Cut(200_000),
    };
    let proxy = Proxy::start(server.addr, trouble);
    let said = vrift(&here, proxy.addr, &["push", "t", &server.url()]).fine();
    assert!(number(&said, 0) > 2900, "{said}");
    let sent = proxy.count.load(Ordering::Relaxed);
    let back = Proxy::start(server.addr, trouble);
    vrift(&there, back.addr, &["pull", &server.url(), "t"]).fine();
    assert_same(&here, &there, "t");
    let fetched = back.count.load(Ordering::Relaxed);
    assert!(sent < 100 && fetched < 100, "{sent} and {fetched} connections for 3,000 blobs");
}

/// The number that part `at` of the first line begins with.
#[track_caller]
fn number(said: &str, at: usize) -> usize {
    let part = said.split(", ").nth(at).and_then(|part| part.split(' ').next());
    part.and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn wrong_bytes_on_the_server_are_refused() {
    let (server, here, there) = (Server::start(), Place::new(), Place::new());
    tree(&here, "t", 5);
    vrift(&here, server.addr, &["push", "t", &server.url()]).fine();
    let object = server.object(Store::blob_path(&Hash::of(b"an odd name")));
    assert!(object.exists());
    std::fs::write(&object, b"an Odd name").expect("bit rot");
    let said = vrift(&there, server.addr, &["pull", &server.url(), "t"]).refused();
    assert!(said.contains("is refused: its content has another hash"), "{said}");
    assert_whole(&there.store_root());
    assert_eq!(there.store().manifests().expect("manifests").len(), 0);
    assert_eq!(there.store().refs().expect("refs").len(), 0);
}

/// Set for the process that plays the daemon in the next test: its environment has to name the
/// server, and a test may not change its own.
const PLAY: &str = "VRIFT_TEST_ON_DEMAND";

#[test]
fn a_blob_is_fetched_when_it_is_needed_and_once_for_all() {
    if let Some(root) = std::env::var_os(PLAY) {
        return on_demand(Path::new(&root));
    }
    let (server, here, there) = (Server::start(), Place::new(), Place::new());
    let dir = tree(&here, "t", 5);
    write(&dir.join("large"), noise(3 << 20));
    here.ingest(&dir, "t");
    vrift(&here, server.addr, &["push", "t", &server.url()]).fine();
    vrift(&there, server.addr, &["pull", "--lazy", &server.url(), "t"]).fine();
    assert_eq!(blobs(&there.store_root()).len(), 0);
    let proxy = Proxy::start(server.addr, |_| Fault::None);
    let play = |addr| {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["--exact", "a_blob_is_fetched_when_it_is_needed_and_once_for_all"]);
        run(with_s3(command.env(PLAY, there.store_root()), addr))
    };
    play(proxy.addr).fine();
    assert_eq!(proxy.count.load(Ordering::Relaxed), 1, "one request for all who asked");
    assert_eq!(blobs(&there.store_root()).len(), 1);
    assert_whole(&there.store_root());
    std::fs::remove_file(&blobs(&there.store_root())[0]).expect("remove");
    // Nobody answers, and that takes no longer than it may.
    let silent = Proxy::start(server.addr, |_| Fault::Hang);
    let start = Instant::now();
    let ran = play(silent.addr);
    assert!(ran.stdout.contains("no end after 4 s"), "{ran:?}");
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    assert_eq!(blobs(&there.store_root()).len(), 0);
}

/// Many ask for one blob at once, half of them lose patience.
fn on_demand(root: &Path) {
    let store = Arc::new(Store::open(root).expect("store"));
    let id = store.resolve("t").expect("the tree");
    let (hash, size) = (Hash::of(&noise(3 << 20)), 3 << 20);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("one");
    runtime.block_on(async {
        let options = Options { timeout: Duration::from_secs(20), ..Options::default() };
        let limit = Duration::from_secs(4);
        let fetcher = OnDemand::open(&store, &id, options, limit).expect("opens").expect("noted");
        let fetcher = Arc::new(fetcher);
        let asking: Vec<_> = (0..100)
            .map(|i| {
                let fetcher = Arc::clone(&fetcher);
                tokio::spawn(async move {
                    let fetch = fetcher.fetch(hash, size);
                    if i % 2 == 0 {
                        let _ = tokio::time::timeout(Duration::from_millis(1), fetch).await;
                        Ok(())
                    } else {
                        fetch.await
                    }
                })
            })
            .collect();
        for task in asking {
            if let Err(error) = task.await.expect("a task") {
                panic!("{error}");
            }
        }
        assert!(store.has_blob(&hash, size).expect("look"));
    });
}
