//! The daemon and other users: what they may have done, and that they can't do more.

#![allow(clippy::tests_outside_test_module, reason = "this whole file is tests")]

mod common;
#[path = "common/daemon.rs"]
mod daemon;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::{Place, assert_whole, is_root, run, write};
use daemon::{Daemon, configure, object, place, status};
use serde_json::json;
use vrift_store::{Hash, Store};

/// `vrift` as the user nobody, from a directory that nobody may be in.
fn nobody(place: &Place, args: &[&str]) -> Command {
    let mut command = place.as_nobody(place.command(args));
    command.env_clear().env("VR_THE_SOURCE", place.store_root());
    command
}

#[test]
fn other_users_do_what_they_may() {
    if !is_root() {
        return; // only root can become somebody else
    }
    let place = place();
    let dir = place.dir("theirs");
    write(&dir.join("one"), "first content");
    write(&dir.join("sub/large"), vec![7; 3 << 20]);
    std::os::unix::fs::symlink("one", dir.join("link")).expect("link");
    std::fs::hard_link(dir.join("one"), dir.join("again")).expect("a second name");
    let vrift = |args: &[&str]| run(&mut nobody(&place, args));
    let theirs = dir.to_str().expect("UTF-8");
    let ingest = ["ingest", theirs, "--name", "theirs"];
    let line = vrift(&ingest).refused();
    assert!(line.contains("(uid 0) and its daemon isn't running"), "{line}");
    let line = vrift(&["daemon", "start"]).refused();
    assert!(line.contains("has to run as that user"), "{line}");

    let mut daemon = Daemon::run(&place);
    for (args, key) in [
        (&ingest[..], "ingest"),
        (&["tag", "t", "mine"], "refs"),
        (&["rm", "t"], "refs"),
        (&["gc", "--grace", "0"], "collect"),
        (&["protect", "t"], "protect"),
        (&["unprotect", "--all"], "protect"),
        (&["verify", "--quarantine"], "quarantine"),
    ] {
        let line = vrift(args).refused();
        assert!(
            line.contains(&format!(
                "uid 65534 isn't allowed to; the store's owner allows it by `{key} = […]`"
            )),
            "{line}"
        );
    }
    let line = vrift(&["daemon", "stop"]).refused();
    assert!(line.contains("that user ends it, or root"), "{line}");
    let said = object(&vrift(&["daemon", "status", "--json"]).fine());
    assert_eq!(said["uid"], 0, "everybody may look");
    assert!(said["refused"].as_u64() >= Some(7) && said["new_blobs"] == 0, "{said}");
    place.vrift(&["verify"]).fine();
    assert!(vrift(&["gc", "--dry-run"]).fine().starts_with("would remove"), "takes no rights");
    daemon.kill();

    configure(
        &place,
        "version = 1\ningest = [65534]\nrefs = [\"nobody\"]\ncollect = [\"@nogroup\"]\nquarantine = [\"*\"]\n",
    );
    let _daemon = Daemon::run(&place);
    let said = object(&vrift(&[&ingest[..], &["--json"]].concat()).fine());
    assert_eq!((&said["files"], &said["new_blobs"]), (&json!(3), &json!(2)), "{said}");
    // It is to the bit what the owner's own ingest makes.
    place.ingest(&dir, "own");
    let store = place.store();
    assert_eq!(store.resolve("own").expect("own"), store.resolve("theirs").expect("theirs"));
    for blob in common::blobs(&place.store_root()) {
        let meta = blob.metadata().expect("a blob");
        assert_eq!((meta.uid(), meta.mode() & 0o777), (0, 0o444));
    }
    let again = object(&vrift(&[&ingest[..], &["--json"]].concat()).fine());
    assert_eq!((&again["new_blobs"], &again["deduplicated"]), (&json!(0), &json!(2)), "{again}");

    // What they may not read doesn't come in by the daemon, which may.
    let secret = dir.join("secret");
    write(&secret, "root's alone");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    let said = vrift(&ingest);
    assert!(said.status == 1 && said.stderr.contains("theirs/secret"), "{said:?}");
    let hash = Hash::of(b"root's alone");
    assert!(!place.store_root().join(Store::blob_path(&hash)).exists());
    std::fs::remove_file(&secret).expect("ours");

    vrift(&["tag", "theirs", "kept"]).fine();
    vrift(&["rm", "theirs"]).fine();
    let said = vrift(&["rm", "theirs"]).refused();
    assert!(said.contains("\"theirs\"") || said.contains("theirs is no ref"), "{said}");
    let gone = object(&vrift(&["gc", "--grace", "0", "--json"]).fine());
    assert_eq!(gone["removed_blobs"], 0, "{gone}");
    place.vrift(&["rm", "own"]).fine();
    vrift(&["rm", "kept"]).fine();
    let gone = object(&vrift(&["gc", "--grace", "0", "--json"]).fine());
    assert_eq!((&gone["removed_blobs"], &gone["removed_manifests"]), (&json!(2), &json!(1)));
    let said = vrift(&["verify", "--quarantine", "t"]).fine();
    assert!(said.contains("all whole"), "{said}");
    let counted = status(&place);
    assert_eq!((&counted["needed_blobs"], &counted["new_blobs"]), (&json!(4), &json!(2)));
    assert_eq!(counted["hit_rate"], 0.5, "{counted}");
    assert_whole(&place.store_root());
}

/// What a user can try who may read the store, may store trees, and is given the program.
#[test]
fn other_users_can_alter_nothing() {
    if !is_root() {
        return; // only root can become somebody else
    }
    let place = place();
    std::fs::create_dir(place.store_root().join("daemon")).expect("mkdir");
    configure(&place, "version = 1\ningest = [65534]\n");
    let _daemon = Daemon::run(&place);
    let store = place.store_root();
    let listing = |dir: &Path| {
        let mut said = Command::new("find");
        said.arg(dir).args([
            "-path",
            "*/daemon",
            "-prune",
            "-o",
            "-type",
            "f",
            "-printf",
            "%p %i %n %m %U %s %T@ %C@\n",
        ]);
        let mut lines: Vec<String> = run(&mut said).fine().lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let before = listing(&store);
    let script = "cd \"$S\" || exit 9
for f in $(find . -type f) daemon/lock daemon/config.toml daemon/socket; do
    (echo x >>$f) 2>/dev/null && echo wrote $f
    rm -f $f 2>/dev/null && echo removed $f
    mv $f $f.x 2>/dev/null && echo renamed $f
    chmod 777 $f 2>/dev/null && echo chmod $f
done
for d in $(find . -type d); do
    mkdir $d/new 2>/dev/null && echo made $d/new
    (: >$d/new) 2>/dev/null && echo made $d/new
done
(: <daemon/lock) 2>/dev/null && echo opened the lock
(: <daemon/log) 2>/dev/null && echo opened the log
echo tried";
    let mut sh = Command::new("/bin/sh");
    sh.args(["-c", script]).env("S", &store).current_dir("/");
    std::os::unix::process::CommandExt::uid(&mut sh, 65534);
    std::os::unix::process::CommandExt::gid(&mut sh, 65534);
    let said = run(&mut sh);
    assert_eq!((said.status, said.stdout.as_str()), (0, "tried\n"), "{said:?}");
    assert_eq!(listing(&store), before);
    place.vrift(&["verify"]).fine();
}

#[test]
fn nothing_is_lost_when_it_is_killed_while_others_store() {
    if !is_root() {
        return; // only root can become somebody else
    }
    let place = place();
    std::fs::create_dir(place.store_root().join("daemon")).expect("mkdir");
    configure(&place, "version = 1\ningest = [65534]\n");
    let dir = place.dir("theirs");
    for i in 0..600 {
        write(&dir.join(format!("d{}/f{i}", i % 9)), format!("content {i}").repeat(50));
    }
    let ingest = ["ingest", dir.to_str().expect("UTF-8"), "--name", "theirs"];
    let mut ended = 0;
    for round in 0..6u64 {
        let mut daemon = Daemon::run(&place);
        let client = nobody(&place, &ingest)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("spawn");
        std::thread::sleep(Duration::from_millis(20 + 37 * round));
        daemon.kill();
        let said = client.wait_with_output().expect("wait");
        let line = String::from_utf8_lossy(&said.stderr).into_owned();
        match said.status.code() {
            Some(0) => {}
            Some(125) => {
                ended += 1;
                assert_eq!(line.lines().count(), 1, "{line}");
                assert!(
                    line.contains("ended meanwhile") || line.contains("isn't running"),
                    "{line}"
                );
            }
            other => panic!("{other:?}: {line}"),
        }
        place.vrift(&["verify"]).fine();
    }
    assert!(ended > 0, "none was killed in time");
    let _daemon = Daemon::run(&place);
    run(&mut nobody(&place, &ingest)).fine();
    place.vrift(&["verify"]).fine();
    assert_whole(&place.store_root());
}

#[test]
fn what_answers_in_a_store_is_its_owners() {
    if !is_root() {
        return; // only root can give a store away
    }
    let place = place();
    let own = |uid| {
        let store = place.store_root();
        let status =
            Command::new("chown").arg("-R").arg(format!("{uid}:{uid}")).arg(store).status();
        assert!(status.expect("chown").success());
    };
    own(65534);
    let line = place.vrift(&["daemon", "start"]).refused();
    assert!(
        line.contains("belongs to uid 65534: its daemon has to run as that user, not as uid 0"),
        "{line}"
    );
    let mut command = nobody(&place, &["daemon", "run", "--idle", "0"]);
    let _daemon = Daemon::by(&place, &mut command);
    assert_eq!(status(&place)["uid"], 65534, "root may ask");
    own(0);
    let line = place.vrift(&["daemon", "status"]).refused();
    assert!(line.contains("runs as uid 65534, and the store belongs to uid 0"), "{line}");
}

#[test]
fn other_users_have_pulled_what_is_listed() {
    if !is_root() {
        return; // only root can become somebody else
    }
    let place = place();
    let remotes = [place.path("remote"), place.path("other")];
    let [listed, other] = remotes.each_ref().map(|path| path.to_str().expect("UTF-8"));
    for remote in [listed, other] {
        place.vrift(&["push", "t", remote]).fine();
    }
    std::fs::remove_dir_all(place.store_root()).expect("the store");
    place.ingest(&place.dir("empty"), "empty");
    let text = format!("version = 1\npull = [\"nobody\"]\nremotes = [\"{listed}\"]\n");
    configure(&place, &text);
    let _daemon = Daemon::run(&place);
    let vrift = |args: &[&str]| run(&mut nobody(&place, args));
    let line = vrift(&["pull", other, "t"]).refused();
    assert!(line.contains("allows it by `remotes = […]`"), "{line}");
    let said = object(&vrift(&["pull", listed, "t:theirs", "--lazy", "--json"]).fine());
    assert_eq!((&said["new_blobs"], &said["absent_blobs"]), (&json!(0), &json!(2)), "{said}");
    let said = object(&vrift(&["pull", listed, "t:theirs", "--json"]).fine());
    assert_eq!((&said["ref"], &said["new_blobs"]), (&json!("theirs"), &json!(2)), "{said}");
    assert_eq!(vrift(&["cat", "theirs:a"]).fine(), "content of a");
    // What is damaged or missing comes from there, too.
    let (damaged, missing) = (Hash::of(b"content of a"), Hash::of(b"content of b"));
    let path = |hash: &Hash| place.store_root().join(Store::blob_path(hash));
    std::fs::remove_file(path(&missing)).expect("remove");
    std::fs::set_permissions(path(&damaged), PermissionsExt::from_mode(0o644)).expect("chmod");
    write(&path(&damaged), "cOntent of a");
    let line = vrift(&["verify", "--repair", other]).refused();
    assert!(line.contains("allows it by `remotes = […]`"), "{line}");
    let said = vrift(&["verify", "--repair", listed, "theirs", "--json"]).fine();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{said}");
    let last = object(lines[2]);
    assert_eq!((&last["repaired"], &last["damage"]), (&json!(2), &json!(0)), "{said}");
    assert!(vrift(&["verify", "--repair", listed]).fine().contains("all whole"));
    let line = vrift(&["pull", listed, "no/such"]).refused();
    assert!(line.contains("there is no ref \"no/such\""), "{line}");
    let line = vrift(&["pull", listed, "../../x:y"]).refused();
    assert!(line.contains("can't be a ref's name"), "{line}");
    assert_whole(&place.store_root());
}
