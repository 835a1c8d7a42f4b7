//! The daemon's life: its start, its end, what it says to whom, and what brings it out of step.

#![allow(clippy::tests_outside_test_module, reason = "this whole file is tests")]

mod common;
#[path = "common/daemon.rs"]
mod daemon;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Place, assert_whole, run, skipped, write};
use daemon::{Daemon, Raw, configure, connect, frame, next, object, place, status, until};
use serde_json::{Value, json};
use vrift_store::Hash;

#[test]
fn one_is_started_however_many_start_it_at_once() {
    let place = place();
    for round in 0..3 {
        let said: Vec<Value> = std::thread::scope(|scope| {
            let start =
                || object(&place.vrift(&["daemon", "start", "--idle", "60", "--json"]).fine());
            let all: Vec<_> = (0..6).map(|_| scope.spawn(start)).collect();
            all.into_iter().map(|one| one.join().expect("a start")).collect()
        });
        let started = said.iter().filter(|said| said["started"] == true).count();
        assert_eq!(started, 1, "round {round}: {said:?}");
        assert!(said.iter().all(|one| one["pid"] == said[0]["pid"]), "{said:?}");
        let status = status(&place);
        assert_eq!((&status["running"], &status["pid"]), (&json!(true), &said[0]["pid"]));
        assert_eq!((&status["blobs"], &status["idle_seconds"]), (&json!(2), &json!(60)));
        let line = place.vrift(&["daemon", "run"]).refused();
        assert!(line.contains("at work already"), "{line}");
        let again = place.vrift(&["daemon", "restart", "--json"]).fine();
        let again = object(again.lines().last().expect("a line"));
        assert!(again["started"] == true && again["pid"] != said[0]["pid"], "{again}");
        assert!(place.vrift(&["daemon", "stop"]).fine().contains("ended"));
        assert_eq!(place.vrift(&["daemon", "status"]).status, 1);
        assert!(place.vrift(&["daemon", "stop"]).fine().contains("not running"));
        assert!(!place.store_root().join("daemon/socket").exists());
    }
    let log = std::fs::read_to_string(place.store_root().join("daemon/log")).expect("a log");
    assert_eq!(log.matches(": started").count(), 6, "{log}");
    assert_eq!(log.matches(": ended").count(), 6, "{log}");
}

#[test]
fn it_ends_when_nobody_wants_anything() {
    let place = place();
    let mut daemon = Daemon::by(&place, &mut place.command(&["daemon", "run", "--idle", "1"]));
    let client = Raw::new(&place.store_root());
    std::thread::sleep(Duration::from_millis(2500));
    assert!(status(&place)["clients"].as_u64() >= Some(2), "with a client it stays");
    drop(client);
    assert!(daemon.wait().success());
    assert!(!place.store_root().join("daemon/socket").exists());
    assert_eq!(place.vrift(&["daemon", "status"]).status, 1);
    let _next = Daemon::run(&place);
    assert_eq!(status(&place)["idle_seconds"], Value::Null);
}

#[test]
fn killed_it_leaves_nothing_in_the_way() {
    let place = place();
    for _ in 0..3 {
        let mut daemon = Daemon::run(&place);
        assert_eq!(status(&place)["pid"], daemon.pid());
        daemon.kill();
        assert!(place.store_root().join("daemon/socket").exists(), "what it left");
        let said = place.vrift(&["daemon", "status", "--json"]);
        assert!(said.status == 1 && said.stdout.contains("\"running\":false"), "{said:?}");
    }
    // A path that is too long for an address, with what isn't UTF-8 in it.
    let deep = place.dir(&"d".repeat(200)).join("\u{e9}".repeat(50));
    std::fs::create_dir(&deep).expect("mkdir");
    std::fs::rename(place.store_root(), deep.join("store")).expect("rename");
    let at = |args: &[&str]| {
        let mut command = place.command(args);
        command.env("VR_THE_SOURCE", deep.join("store"));
        run(&mut command)
    };
    at(&["daemon", "start"]).fine();
    let blobs = object(&at(&["daemon", "status", "--json"]).fine())["blobs"].clone();
    at(&["daemon", "stop"]).fine();
    assert_eq!(blobs, 2);
}

#[test]
fn told_to_end_it_lets_waiting_clients_go() {
    let place = place();
    let mut daemon = Daemon::run(&place);
    let mut client = Raw::new(&place.store_root());
    let start = Instant::now();
    place.vrift(&["daemon", "stop"]).fine();
    // One that had to say something by then would have 20 seconds for it.
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert!(daemon.wait().success());
    assert_eq!(next(&mut client.0), None);
}

#[test]
fn versions_beside_each_other_refuse_politely() {
    let place = place();
    let mut daemon = Daemon::run(&place);
    let mut newer = connect(&place.store_root()).expect("a daemon");
    let hello = json!({ "vrift": 999, "version": "99.0", "pid": 1, "new": {} }).to_string();
    newer.write_all(&frame(hello.as_bytes())).expect("hello");
    let said = next(&mut newer).expect("hello");
    assert_eq!((&said["vrift"], &said["pid"]), (&json!(1), &json!(daemon.pid())));
    assert_eq!(next(&mut newer), None);
    daemon.kill();

    // A daemon of another version.
    std::fs::remove_file(place.store_root().join("daemon/socket")).expect("left");
    let listener = place.store_root().join("daemon/socket");
    let listener = UnixListener::bind(listener).expect("a short path");
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.expect("a client");
            let said = next(&mut client).expect("hello");
            assert_eq!(said["vrift"], 1);
            let hello = json!({ "vrift": 2, "version": "7.8", "pid": std::process::id() });
            client.write_all(&frame(hello.to_string().as_bytes())).expect("hello");
        }
    });
    for what in ["status", "start"] {
        let line = place.vrift(&["daemon", what]).refused();
        assert!(line.contains("vrift 7.8 (protocol 2)"), "{line}");
        assert!(
            line.contains("(protocol 1): use that version, or `vrift daemon restart`"),
            "{line}"
        );
    }
}

#[test]
fn rubbish_and_silence_harm_nobody() {
    let place = place();
    let mut daemon = Daemon::run(&place);
    let store = place.store_root();
    let connect = || connect(&store).expect("a daemon");
    let hello = frame(json!({ "vrift": 1, "version": "", "pid": 0 }).to_string().as_bytes());
    let mut rubbish: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0xff; 1000],
        frame(b""),
        frame(b"{}"),
        frame(&[b'['; 100_000]),
        [hello.clone(), frame(b"{\"ask\":\"everything\"}")].concat(),
        [hello.clone(), frame(b"{\"ask\":\"status\",\"more\":1}")].concat(),
        [hello.clone(), frame(b"\xff\xfe")].concat(),
        [hello.clone(), vec![0, 0, 2, 0]].concat(),
    ];
    rubbish.extend((1..hello.len()).step_by(7).map(|cut| hello[..cut].to_vec()));
    let many = rubbish.len();
    let mut open = Vec::new();
    for bytes in &rubbish {
        let mut stream = connect();
        // It may have hung up by the last byte.
        let _ = stream.write_all(bytes);
        stream.shutdown(std::net::Shutdown::Write).expect("shutdown");
        open.push(stream);
    }
    for stream in &mut open {
        // Whatever it says first, it hangs up.
        while next(stream).is_some() {}
    }
    let turned = status(&place)["turned_away"].as_u64().expect("a number");
    assert!(turned >= many as u64 - 1, "{turned} of {many}");
    drop(open);

    // Many that say nothing, or nothing whole. Each has 20 seconds, so on a slow machine they have to
    // come again.
    let mut silent = Vec::new();
    until("many at once", || {
        silent = (0..100).map(|_| connect()).collect();
        silent.iter_mut().step_by(2).for_each(|s| s.write_all(&hello[..9]).expect("send"));
        let start = Instant::now();
        let clients = status(&place)["clients"].as_u64();
        assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
        clients > Some(90)
    });
    until("no more room", || {
        silent.extend((0..40).map(|_| connect()));
        let said = place.vrift(&["daemon", "status"]);
        said.status == 125 && said.refused().contains("too many clients")
    });
    drop(silent);
    until("room", || place.vrift(&["daemon", "status"]).status == 0);

    // A content that doesn't come, and one that goes on for ever.
    let mut stalled = Raw::new(&store);
    let hash = Hash::of(b"hello").to_string();
    let blob = json!({ "ask": "blob", "hash": hash, "size": 5 });
    assert_eq!(stalled.ask(&blob)["say"], "go");
    let mut longer = Raw::new(&store);
    assert_eq!(longer.ask(&blob)["say"], "go");
    let _ = longer.0.write_all(&frame(b"hello, you"));
    assert_eq!(next(&mut longer.0), None);
    assert_eq!(Raw::new(&store).hand(&blob, b"hello")["new"], true);
    drop(stalled);
    assert_whole(&store);
    daemon.kill();
}

#[test]
fn only_what_is_what_it_says_is_stored() {
    let place = place();
    let _daemon = Daemon::run(&place);
    let store = place.store();
    let mut client = Raw::new(&place.store_root());
    let hash = Hash::of(b"hello");
    let blob = |size: u64| json!({ "ask": "blob", "hash": hash.to_string(), "size": size });
    assert_eq!(client.hand(&blob(5), b"hellO")["say"], "other");
    assert!(!store.has_blob(&hash, 5).expect("looked"));
    // Less than announced, and the sign that there is no more.
    assert_eq!(client.ask(&blob(5))["say"], "go");
    client.0.write_all(&[frame(b"hel"), frame(b"")].concat()).expect("send");
    assert_eq!(client.answer()["say"], "other");
    assert_eq!(client.hand(&blob(5), b"hello"), json!({ "say": "stored", "new": true }));
    assert_eq!(client.hand(&blob(5), b"hello"), json!({ "say": "stored", "new": false }));

    // A manifest that another store has, with contents that this one hasn't.
    let other = Place::new();
    write(&other.dir("source").join("x"), "only there");
    other.ingest(&other.path("source"), "t");
    let id = other.store().resolve("t").expect("t");
    let path = other.store_root().join(format!("manifests/{id}"));
    let bytes = std::fs::read(path).expect("a manifest");
    let tree = |id: &Hash, name: &str| json!({ "ask": "tree", "manifest": id.to_string(), "size": bytes.len(), "name": name });
    let said = client.hand(&tree(&id, "new"), &bytes);
    assert_eq!(said, json!({ "say": "missing", "blobs": 1 }));
    assert_eq!(client.ask(&tree(&id, "../new"))["say"], "failed");
    let said = Raw::new(&place.store_root()).hand(&tree(&hash, "new"), &bytes);
    assert_eq!(said["say"], "failed", "{said}");
    let mut bad = bytes.clone();
    bad[300] ^= 1;
    let said = Raw::new(&place.store_root()).hand(&tree(&id, "new"), &bad);
    assert_eq!(said["say"], "failed", "{said}");
    assert!(store.ref_target("new").expect("no ref").is_none());
    assert_eq!(store.manifests().expect("manifests").len(), 1);

    // A ref to nothing, and parts of trees that aren't there.
    let id = store.resolve("t").expect("t").to_string();
    for wrong in [
        json!({ "ask": "set_ref", "name": "new", "manifest": hash.to_string() }),
        json!({ "ask": "remove_ref", "name": "no" }),
        json!({ "ask": "protect", "manifest": id, "path": "2e2e2f", "how": "immutable" }),
        json!({ "ask": "protect", "manifest": hash.to_string(), "path": "", "how": "immutable" }),
    ] {
        assert_eq!(client.ask(&wrong)["say"], "failed", "{wrong}");
    }
    assert_eq!(place.vrift(&["cat", "t:a"]).fine(), "content of a");
    place.vrift(&["verify"]).fine();
    assert_whole(&place.store_root());
}

#[test]
fn a_bad_configuration_is_told_in_one_line() {
    let place = place();
    std::fs::create_dir(place.store_root().join("daemon")).expect("mkdir");
    configure(&place, "version = 1\ningst = []\n");
    for args in [&["daemon", "run"][..], &["daemon", "start"]] {
        let line = place.vrift(args).refused();
        assert!(line.contains("daemon/config.toml:2: unknown field `ingst`"), "{line}");
    }
    configure(&place, "version = 1\n");
    let path = place.store_root().join("daemon/config.toml");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).expect("chmod");
    let line = place.vrift(&["daemon", "start"]).refused();
    assert!(line.contains("writable for nobody else"), "{line}");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("chmod");
    place.vrift(&["daemon", "start"]).fine();
    place.vrift(&["daemon", "stop"]).fine();
    assert!(
        place.vrift(&["--store", "/no/such", "daemon", "start"]).refused().contains("no store at")
    );
}

#[test]
fn the_units_are_what_systemd_accepts() {
    let place = place();
    if !Path::new("/usr/bin/systemd-analyze").exists() {
        return skipped("the_units_are_what_systemd_accepts", "systemd-analyze is not installed");
    }
    let odd = place.path("a b%h $HOME \"q\"");
    std::fs::rename(place.store_root(), &odd).expect("rename");
    std::os::unix::fs::symlink(&odd, place.store_root()).expect("link");
    let config = place.dir("config");
    let vrift = |args: &[&str]| {
        let mut command = place.command(args);
        command.env("XDG_CONFIG_HOME", &config);
        run(&mut command)
    };
    let written = object(&vrift(&["daemon", "install", "--json"]).fine());
    vrift(&["daemon", "install"]).fine();
    let unit = Path::new(written["written"].as_str().expect("a path")).to_owned();
    assert!(unit.starts_with(&config));
    let analyze = |mode: &str, unit: &Path| {
        let runtime = place.dir("runtime");
        let mut command = Command::new("/usr/bin/systemd-analyze");
        command.arg(mode).arg("verify").arg(unit).env("XDG_RUNTIME_DIR", runtime);
        command.env("HOME", place.path("config"));
        let said = run(&mut command);
        // Of other units of this machine it may have something to say.
        assert!(said.status == 0 && !said.stderr.contains("vrift"), "{mode} {said:?}");
    };
    analyze("--user", &unit);
    let text = std::fs::read_to_string(&unit).expect("a unit");
    assert!(text.contains("a b%%h $$HOME \\\"q\\\""), "{text}");
    // The one for the whole system, where no test may write.
    let system = vrift_service::daemon::unit::Unit {
        program: Path::new(env!("CARGO_BIN_EXE_vrift")),
        store: &odd,
        user: Some("root"),
    };
    let system = vrift_service::daemon::unit::systemd(&system).expect("a unit");
    let file = place.path("vrift-system.service");
    write(&file, system);
    analyze("--system", &file);

    // What somebody else wrote is left alone.
    write(&unit, "[Service]\nExecStart=/bin/true\n");
    for what in ["install", "uninstall"] {
        assert!(vrift(&["daemon", what]).refused().contains("is left alone"));
    }
    std::fs::remove_file(&unit).expect("ours");
    vrift(&["daemon", "install"]).fine();
    vrift(&["daemon", "uninstall"]).fine();
    assert!(!unit.exists());
    assert!(vrift(&["daemon", "uninstall"]).refused().contains("nothing to remove"));
}
