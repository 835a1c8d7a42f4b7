//! Refs that several move at once.

#![allow(clippy::tests_outside_test_module, reason = "this whole file is tests")]

mod common;

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Place, write};
use vrift_store::{Hash, Store, StoreError};

/// Set for processes of [`a_mover_takes_its_turns`] that are to move a ref of this store.
const STORE: &str = "VRIFT_TEST_MOVE_IN";
const MOVES: u32 = 25;

fn place() -> (Place, Store) {
    let place = Place::new();
    let store = Store::open_or_create(&place.store_root()).expect("store");
    (place, store)
}

fn hash(text: impl AsRef<[u8]>) -> Hash {
    Hash::of(text.as_ref())
}

#[test]
fn a_ref_is_moved_only_from_where_it_is() {
    let (_place, store) = place();
    let (a, b, c) = (hash("a"), hash("b"), hash("c"));
    let said = store.move_ref("x/y", Some(&a), &b).expect_err("there is none").to_string();
    assert!(said.contains(&format!("named {a} and is gone")), "{said}");
    assert_eq!(store.ref_target("x/y").expect("read"), None);
    store.move_ref("x/y", None, &a).expect("new");
    let said = store.move_ref("x/y", None, &b).expect_err("there is one").to_string();
    assert!(said.contains(&format!("wasn't to exist yet and names {a}")), "{said}");
    store.move_ref("x/y", Some(&a), &b).expect("as expected");
    let error = store.move_ref("x/y", Some(&a), &c).expect_err("moved");
    assert!(error.to_string().contains(&format!("`vrift diff {a} {b}`")), "{error}");
    assert!(
        matches!(&error, StoreError::RefMoved { name, expected, found }
            if name == "x/y" && *expected == Some(a) && *found == Some(b)),
        "{error:?}"
    );
    // Where it was to go: done by whoever was stopped before it could say so.
    store.move_ref("x/y", Some(&a), &b).expect("there already");
    assert_eq!(store.ref_target("x/y").expect("read"), Some(b));
    let refused = store.move_ref("x", None, &b).expect_err("x is a directory of refs");
    assert!(matches!(refused, StoreError::RefConflict { .. }), "{refused}");
    let refused = store.move_ref("../x", None, &b).expect_err("not a name");
    assert!(matches!(refused, StoreError::RefName { .. }), "{refused}");
    let files = std::fs::read_dir(store.root().join("tmp")).expect("list").count();
    assert_eq!(files, 0, "what was refused leaves nothing");
}

#[test]
fn a_damaged_ref_is_not_moved() {
    let (_place, store) = place();
    let path = store.root().join("refs/x");
    write(&path, "not a hash\n");
    let refused = store.move_ref("x", None, &hash("a")).expect_err("damaged");
    assert!(matches!(refused, StoreError::DamagedRef { .. }), "{refused}");
    assert_eq!(std::fs::read(&path).expect("read"), b"not a hash\n");
    store.set_ref("x", &hash("a")).expect("set anew");
}

/// Moves the ref a few times from wherever it is and gives the moves that were made.
fn take_turns(root: &Path, who: &str) -> Vec<(Hash, Hash)> {
    let store = Store::open(root).expect("open");
    let mut moves = Vec::new();
    while moves.len() < MOVES as usize {
        let old = store.ref_target("x/y").expect("never damaged").expect("never gone");
        let new = hash(format!("{who} {}", moves.len()));
        match store.move_ref("x/y", Some(&old), &new) {
            Ok(()) => moves.push((old, new)),
            Err(StoreError::RefMoved { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    moves
}

/// Every move went on where another ended, and none was lost.
fn assert_chain(store: &Store, start: Hash, moves: &[(Hash, Hash)]) {
    let next: HashMap<Hash, Hash> = moves.iter().copied().collect();
    assert_eq!(next.len(), moves.len(), "two moves from one place");
    let (mut at, mut steps) = (start, 0);
    while let Some(further) = next.get(&at) {
        at = *further;
        steps += 1;
    }
    assert_eq!(steps, moves.len());
    assert_eq!(store.ref_target("x/y").expect("read"), Some(at));
}

#[test]
fn many_threads_move_one_ref() {
    let (_place, store) = place();
    let start = hash("start");
    store.set_ref("x/y", &start).expect("set");
    let root = store.root();
    let moves: Vec<(Hash, Hash)> = std::thread::scope(|scope| {
        let movers: Vec<_> =
            (0..8).map(|i| scope.spawn(move || take_turns(root, &format!("thread {i}")))).collect();
        movers.into_iter().flat_map(|mover| mover.join().expect("no panic")).collect()
    });
    assert_eq!(moves.len(), 8 * MOVES as usize);
    assert_chain(&store, start, &moves);
}

#[test]
fn of_many_that_make_a_ref_one_does() {
    let (_place, store) = place();
    for round in 0..20 {
        let name = format!("round/{round}");
        let made: Vec<Hash> = std::thread::scope(|scope| {
            let makers: Vec<_> = (0..6)
                .map(|i| {
                    let (store, name) = (&store, &name);
                    let target = hash(format!("{round} {i}"));
                    scope.spawn(move || {
                        store.move_ref(name, None, &target).is_ok().then_some(target)
                    })
                })
                .collect();
            makers.into_iter().filter_map(|maker| maker.join().expect("no panic")).collect()
        });
        assert_eq!(made.len(), 1, "{made:?}");
        assert_eq!(store.ref_target(&name).expect("read"), Some(made[0]));
        store.remove_ref(&name).expect("remove");
    }
}

/// Alone here; many of its kind at once are started by the next test.
#[test]
fn a_mover_takes_its_turns() {
    if let Some(root) = std::env::var_os(STORE) {
        for (old, new) in take_turns(root.as_ref(), &std::process::id().to_string()) {
            println!("moved {old} {new}");
        }
        return;
    }
    let (_place, store) = place();
    store.set_ref("x/y", &hash("start")).expect("set");
    assert_chain(&store, hash("start"), &take_turns(store.root(), "one"));
}

#[test]
fn many_processes_move_one_ref() {
    let (_place, store) = place();
    let start = hash("start");
    store.set_ref("x/y", &start).expect("set");
    let program = std::env::current_exe().expect("this program");
    let args = ["--exact", "a_mover_takes_its_turns", "--nocapture"];
    let movers: Vec<_> = (0..5)
        .map(|_| {
            let mut command = Command::new(&program);
            command.args(args).env(STORE, store.root()).stdout(Stdio::piped());
            command.spawn().expect("spawn")
        })
        .collect();
    // Others set and remove refs beside it, so that its directory comes close to being removed.
    let target = store.put_blob(b"").expect("put").0;
    for i in 0..30 {
        let name = format!("x/{}", i % 3);
        store.set_ref(&name, &target).expect("set");
        store.remove_ref(&name).expect("remove");
    }
    let mut moves = Vec::new();
    for mover in movers {
        let output = mover.wait_with_output().expect("wait");
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        for line in text.lines() {
            // The harness may have written in front of the first.
            let Some((_, hashes)) = line.split_once("moved ") else { continue };
            let (old, new) = hashes.split_once(' ').expect("two hashes");
            moves.push((old.parse().expect("a hash"), new.parse().expect("a hash")));
        }
    }
    assert_eq!(moves.len(), 5 * MOVES as usize);
    assert_chain(&store, start, &moves);
    assert_eq!(store.refs().expect("list").len(), 1);
}

#[test]
fn refs_come_and_go_in_one_directory() {
    let (_place, store) = place();
    std::thread::scope(|scope| {
        for i in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for round in 0..40 {
                    let (name, target) = (format!("a/b/{i}"), hash([i, round]));
                    store.set_ref(&name, &target).expect("set");
                    assert_eq!(store.ref_target(&name).expect("read"), Some(target));
                    store.remove_ref(&name).expect("remove");
                }
            });
        }
    });
    assert!(store.refs().expect("refs").is_empty());
    assert_eq!(std::fs::read_dir(store.root().join("refs")).expect("list").count(), 0);
}
