//! `vrift` at the keyboard and in a pipe: what it prints, what it refuses, and with which status.

#![allow(clippy::tests_outside_test_module, reason = "this whole file is tests")]

mod common;

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;

use common::{Place, is_root, run, write};
use serde_json::Value;
use vrift_store::manifest::{Entry, ManifestBuilder};
use vrift_store::{Hash, StoreError};

fn sample(place: &Place) {
    let dir = place.dir("source");
    write(&dir.join("b.txt"), "b");
    write(&dir.join("a/x"), "xx");
    std::os::unix::fs::symlink("b.txt", dir.join("link")).expect("symlink");
    for (name, mode) in [("b.txt", 0o640), ("a/x", 0o4755), ("a", 0o1770), ("", 0o755)] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(dir.join(name), mode).expect("chmod");
    }
    let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_700_000_000, 5);
    for name in ["b.txt", "a/x", "a", ""] {
        let file = std::fs::File::open(dir.join(name)).expect("open");
        file.set_modified(time).expect("time");
    }
    place.ingest(&dir, "t");
}

fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn ls_and_cat() {
    let place = Place::new();
    sample(&place);
    assert_eq!(place.vrift(&["ls", "t"]).fine(), "a\nb.txt\nlink\n");
    assert_eq!(place.vrift(&["ls", "t:"]).fine(), "a\nb.txt\nlink\n");
    assert_eq!(place.vrift(&["ls", "-R", "t"]).fine(), "a\na/x\nb.txt\nlink\n");
    assert_eq!(place.vrift(&["ls", "t:/a/"]).fine(), "x\n");
    assert_eq!(place.vrift(&["ls", "t:b.txt"]).fine(), "b.txt\n");
    let long = place.vrift(&["ls", "-l", "t"]).fine();
    let lines: Vec<&str> = long.lines().collect();
    assert_eq!(lines[0], "drwxrwx--T    2         4096 2023-11-14 22:13:20 a");
    assert_eq!(lines[1], "-rw-r-----    1            1 2023-11-14 22:13:20 b.txt");
    assert!(
        lines[2].starts_with("lrwxrwxrwx    1            5 ")
            && lines[2].ends_with(" link -> b.txt")
    );
    assert!(place.vrift(&["ls", "-l", "t:a"]).fine().starts_with("-rwsr-xr-x "));
    assert_eq!(place.vrift(&["cat", "t:a/x"]).fine(), "xx");
    for (spec, why) in [
        ("t:a", "is a directory"),
        ("t", "is a whole tree"),
        ("t:link", "is a symbolic link to b.txt"),
        ("t:nothing", "no nothing in t"),
        ("t:a/../b.txt", "no a/../b.txt in t"),
        ("u:a", "u is no ref, hash or manifest"),
    ] {
        let said = place.vrift(&["cat", spec]).refused();
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn json_loses_nothing() {
    let place = Place::new();
    let dir = place.dir("source");
    let odd = OsStr::from_bytes(b"odd\xff\n\"name");
    write(&dir.join(odd), "content");
    std::os::unix::fs::symlink(OsStr::from_bytes(b"\xfe"), dir.join("z")).expect("symlink");
    let said =
        place.vrift(&["ingest", dir.to_str().expect("utf-8"), "--name", "t", "--json"]).fine();
    let done = &objects(&said)[0];
    assert_eq!(
        (&done["files"], &done["symlinks"], &done["bytes"]),
        (&1.into(), &1.into(), &7.into())
    );
    assert_eq!(done["new_blobs"], 1);
    let listed = objects(&place.vrift(&["ls", "t", "--json"]).fine());
    assert_eq!(listed[0]["path"], "odd\u{fffd}\n\"name");
    assert_eq!(listed[0]["path_bytes"], "6f6464ff0a226e616d65");
    assert_eq!(listed[0]["blob"], Hash::of(b"content").to_string());
    assert_eq!(listed[1]["target_bytes"], "fe");
    assert_eq!(listed[1].get("path_bytes"), None);
    // Names are raw bytes in a pipe.
    let output = place.command(&["ls", "t"]).output().expect("run");
    assert_eq!(output.stdout, b"odd\xff\n\"name\nz\n");
    let refs = objects(&place.vrift(&["refs", "--json"]).fine());
    assert_eq!((&refs[0]["ref"], &refs[0]["manifest"]), (&"t".into(), &done["manifest"]));
    let stats = objects(&place.vrift(&["stats", "--json"]).fine());
    assert_eq!((&stats[0]["blobs"], &stats[0]["blob_bytes"]), (&1.into(), &7.into()));
    let verified = objects(&place.vrift(&["verify", "--json"]).fine());
    assert_eq!((&verified[0]["blobs"], &verified[0]["damage"]), (&1.into(), &0.into()));
}

#[test]
fn diff_tells_what_changed() {
    let place = Place::new();
    let dir = place.dir("source");
    for name in ["same", "edited", "gone", "moved", "mode", "kind", "sub/deep"] {
        write(&dir.join(name), name);
    }
    std::os::unix::fs::symlink("old", dir.join("link")).expect("symlink");
    place.ingest(&dir, "old");
    write(&dir.join("edited"), "edited more");
    std::fs::remove_file(dir.join("gone")).expect("remove");
    std::fs::create_dir(dir.join("new dir")).expect("mkdir");
    std::fs::rename(dir.join("moved"), dir.join("new dir/elsewhere")).expect("rename");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(dir.join("mode"), mode).expect("chmod");
    std::fs::remove_file(dir.join("kind")).expect("remove");
    std::fs::create_dir(dir.join("kind")).expect("mkdir");
    std::fs::remove_file(dir.join("link")).expect("remove");
    std::os::unix::fs::symlink("new", dir.join("link")).expect("symlink");
    place.ingest(&dir, "new");

    let ran = place.vrift(&["diff", "old", "new", "--no-times"]);
    assert_eq!(ran.status, 1);
    let expected = "M edited (content)\nD gone\nM kind/ (file -> directory, mode 0644 -> 0755)\n\
        M link (target)\nM mode (mode 0644 -> 0600)\nA new dir/\nR moved -> new dir/elsewhere\n";
    // A kind that changed says nothing about modes.
    let expected = expected.replace(", mode 0644 -> 0755", "");
    assert_eq!(ran.stdout, expected);
    let back = place.vrift(&["diff", "new", "old", "--no-times"]).stdout;
    assert!(back.contains("A gone\n") && back.contains("R new dir/elsewhere -> moved\n"), "{back}");
    assert!(back.contains("D new dir/\n"), "{back}");
    let with_times = place.vrift(&["diff", "old", "new"]).stdout;
    assert!(with_times.contains("M edited (content, time)\n"), "{with_times}");
    assert!(!with_times.contains("M . "), "entries say why the directory's time changed");

    let listed = objects(&place.vrift(&["diff", "old", "new", "--no-times", "--json"]).stdout);
    let renamed = listed.iter().find(|change| change["change"] == "R").expect("rename");
    assert_eq!(
        (&renamed["from"], &renamed["path"]),
        (&"moved".into(), &"new dir/elsewhere".into())
    );
    let mode = listed.iter().find(|change| change["path"] == "mode").expect("mode");
    assert_eq!((&mode["old_mode"], &mode["new_mode"]), (&"0644".into(), &"0600".into()));
    assert_eq!(place.vrift(&["diff", "old", "old"]).fine(), "");
    place.vrift(&["diff", "old", "missing"]).refused();
}

#[test]
fn refs_are_set_moved_and_removed() {
    let place = Place::new();
    sample(&place);
    let hash = place.store().resolve("t").expect("t");
    place.vrift(&["tag", "t", "toolchain/gcc-12"]).fine();
    place.vrift(&["tag", &hash.to_string()[..8], "by-prefix"]).fine();
    place.vrift(&["tag", &hash.to_string(), "by-hash"]).fine();
    let path = format!("{}/manifests/{hash}", place.store_root().display());
    place.vrift(&["tag", &path, "by-path"]).fine();
    let names: Vec<String> =
        place.store().refs().expect("refs").into_iter().map(|r| r.name).collect();
    assert_eq!(names, ["by-hash", "by-path", "by-prefix", "t", "toolchain/gcc-12"]);
    assert_eq!(place.vrift(&["ls", "toolchain/gcc-12:a"]).fine(), "x\n");

    let said = place.vrift(&["tag", "t", "toolchain"]).refused();
    assert!(said.contains("\"toolchain/gcc-12\" is a ref already"), "{said}");
    let said = place.vrift(&["tag", "t", "t/below"]).refused();
    assert!(said.contains("\"t\" is a ref already"), "{said}");
    place.vrift(&["rm", "toolchain/gcc-12"]).fine();
    place.vrift(&["tag", "t", "toolchain"]).fine();
    // An empty directory left by a killed `rm` is in nobody's way.
    std::fs::create_dir_all(place.store_root().join("refs/left/over")).expect("mkdir");
    place.vrift(&["tag", "t", "left"]).fine();
    let said = place.vrift(&["rm", "nothing"]).refused();
    assert!(said.contains("nothing is no ref"), "{said}");
    place.vrift(&["rm", "left/over"]).refused();
    // A ref that is removed leaves its manifest.
    place.vrift(&["rm", "t"]).fine();
    assert_eq!(place.vrift(&["ls", &hash.to_string()]).fine(), "a\nb.txt\nlink\n");
}

#[test]
fn names_that_cannot_be_refs() {
    let place = Place::new();
    sample(&place);
    let hash = Hash::of(b"x").to_string();
    let long = "x".repeat(300);
    let bad = [
        "", ".", "..", "/t", "t/", "a//b", "a/../b", "a/./b", "../t", "a b", "a\nb", "a:b", "a=b",
        "a,b", "*", &hash, &long,
    ];
    for name in bad {
        let said = place.vrift(&["tag", "t", "--", name]);
        assert!(said.refused().contains("can't be a ref's name"), "{name:?}");
    }
    let said = place.vrift(&["tag", "--", "t", "-x"]).refused();
    assert!(said.contains("begins with '-'"), "{said}");
    let dir = place.path("source");
    place.vrift(&["ingest", dir.to_str().expect("utf-8"), "--name", "../t"]).refused();
    assert!(!place.store_root().join("t").exists() && !place.path("t").exists());
    place.vrift(&["tag", "t", "deadbeefcafe"]).fine(); // like a commit's hash: that is a good name
    assert_eq!(place.vrift(&["ls", "deadbeefcafe:a"]).fine(), "x\n");
}

#[test]
fn hashes_and_prefixes() {
    let place = Place::new();
    sample(&place);
    let store = place.store();
    let hash = store.resolve("t").expect("t");
    let text = hash.to_string();
    assert_eq!(store.resolve(&text[..63]).expect("63 digits"), hash);
    assert!(matches!(store.resolve(&text[..7]), Err(StoreError::Unknown { .. })));
    assert!(matches!(store.resolve(&text.to_uppercase()), Err(StoreError::Unknown { .. })));
    assert!(matches!(store.resolve("00000000"), Err(StoreError::Unknown { .. })));
    // Two manifests that begin alike: names are enough to make a prefix ambiguous.
    let other = format!("{}{}", &text[..20], "0".repeat(44));
    std::fs::write(place.store_root().join("manifests").join(&other), "").expect("write");
    assert!(matches!(store.resolve(&text[..10]), Err(StoreError::Ambiguous { count: 2, .. })));
    assert_eq!(store.resolve(&text[..30]).expect("longer"), hash);
    let said = place.vrift(&["ls", &text[..10]]).refused();
    assert!(said.contains("fits 2 manifests: give more digits"), "{said}");
    let missing = Hash::of(b"missing").to_string();
    let said = place.vrift(&["ls", &missing]).refused();
    assert!(said.contains(&format!("manifest {missing} is missing")), "{said}");
}

#[test]
fn a_manifest_file_outside_the_store() {
    let place = Place::new();
    sample(&place);
    let mut builder = ManifestBuilder::new(Entry::directory(0o755, (0, 0))).expect("root");
    builder.add(0, b"elsewhere", Entry::directory(0o755, (0, 0))).expect("add");
    let (bytes, id) = builder.finish().expect("finish");
    let path = place.path("tree.manifest");
    std::fs::write(&path, bytes).expect("write");
    let path = path.to_str().expect("utf-8");
    assert_eq!(place.vrift(&["ls", path]).fine(), "elsewhere\n");
    // A ref can only name what the store holds.
    let said = place.vrift(&["tag", path, "u"]).refused();
    assert!(said.contains(&format!("manifest {id} is missing")), "{said}");
    let other = place.path("source/b.txt");
    let said = place.vrift(&["ls", other.to_str().expect("utf-8")]).refused();
    assert!(said.contains("is not a vrift manifest"), "{said}");
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let place = Place::new();
    let mut builder = ManifestBuilder::new(Entry::directory(0o755, (0, 0))).expect("root");
    for i in 0..100_000 {
        let file = Entry::file(0o644, (0, 0), 0, Hash::of(b""));
        builder.add(0, format!("file-number-{i}").as_bytes(), file).expect("add");
    }
    let (bytes, id) = builder.finish().expect("finish");
    let store = vrift_store::Store::open_or_create(&place.store_root()).expect("store");
    store.put_manifest(&bytes, &id).expect("put");
    store.set_ref("many", &id).expect("set");
    for args in [&["ls", "many"][..], &["ls", "-lR", "many"], &["ls", "--json", "many"]] {
        let mut child = place
            .command(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("spawn");
        let mut first = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout"));
        stdout.read_line(&mut first).expect("read");
        drop(stdout);
        let mut said = String::new();
        child.stderr.take().expect("stderr").read_to_string(&mut said).expect("read");
        assert!(child.wait().expect("wait").success() && said.is_empty(), "{said}");
        assert!(first.contains("file-number-0"), "{first}");
    }
    // A closed stderr doesn't turn a failure into a panic, either.
    let status = std::process::Command::new("sh")
        .args(["-c", "exec \"$0\" ls nothing 2>&-"])
        .arg(env!("CARGO_BIN_EXE_vrift"))
        .env("VR_THE_SOURCE", place.store_root())
        .status()
        .expect("sh");
    assert_eq!(status.code(), Some(125));
}

#[test]
fn a_full_standard_output_is_told() {
    let place = Place::new();
    sample(&place);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let output = place.command(&["ls", "t"]).stdout(full).output().expect("run");
    assert_eq!(output.status.code(), Some(125));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.starts_with("vrift: can't write to standard output: No space left"), "{said}");
}

#[test]
fn mistakes_are_told_in_one_line() {
    let place = Place::new();
    sample(&place);
    for args in [
        &["--bogus"][..],
        &["bogus"],
        &["ingest"],
        &["ingest", "/tmp"],
        &["ingest", "/nonexistent", "--name", "x"],
        &["ingest", "/dev/null", "--name", "x"],
        &["ingest", "/tmp", "--name", "x", "--jobs", "0"],
        &["export", "t"],
        &["export", "t", "/proc/version"],
        &["export", "t", "/proc"],
        &["completions", "tcsh"],
        &["ls", "t", "u"],
    ] {
        let said = place.vrift(args).refused();
        assert!(said.len() > 20, "{said}");
    }
    let mut command = place.command(&["refs"]);
    for name in ["VR_THE_SOURCE", "XDG_DATA_HOME", "HOME"] {
        command.env_remove(name);
    }
    let said = run(&mut command).refused();
    assert!(said.contains("set VR_THE_SOURCE"), "{said}");
}

#[test]
fn where_the_store_is() {
    let place = Place::new();
    let dir = place.dir("source");
    let dir = dir.to_str().expect("utf-8");
    let home = place.dir("home");
    let data = place.dir("data");
    let ingest = |environment: &[(&str, &std::path::Path)], args: &[&str]| {
        let mut command = place.command(&[&["ingest", dir, "--name", "t"], args].concat());
        for name in ["VR_THE_SOURCE", "XDG_DATA_HOME", "HOME"] {
            command.env_remove(name);
        }
        for (name, value) in environment {
            command.env(name, value);
        }
        run(&mut command).fine();
    };
    ingest(&[("HOME", &home)], &[]);
    assert!(home.join(".local/share/vrift/the_source/refs/t").exists());
    ingest(&[("HOME", &home), ("XDG_DATA_HOME", &data)], &[]);
    assert!(data.join("vrift/the_source/refs/t").exists());
    let named = place.path("named");
    ingest(&[("XDG_DATA_HOME", &data), ("VR_THE_SOURCE", &named)], &[]);
    assert!(named.join("refs/t").exists());
    let given = place.path("given");
    ingest(&[("VR_THE_SOURCE", &named)], &["--store", given.to_str().expect("utf-8")]);
    assert!(given.join("refs/t").exists());
}

#[test]
fn help_completions_and_man_pages() {
    let place = Place::new();
    let help = place.vrift(&["--help"]).fine();
    assert!(help.contains("Examples:") && help.contains("VR_THE_SOURCE"), "{help}");
    for command in [
        "ingest",
        "ls",
        "cat",
        "diff",
        "refs",
        "tag",
        "rm",
        "export",
        "verify",
        "stats",
        "completions",
        "man",
    ] {
        assert!(help.contains(command), "{command}");
        let help = place.vrift(&[command, "--help"]).fine();
        assert!(help.contains("Example") && help.contains("vrift "), "{command}: {help}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = place.vrift(&["completions", shell]).fine();
        assert!(script.contains("ingest") && script.contains("verify"), "{shell}");
    }
    assert!(place.vrift(&["man"]).fine().contains(".TH vrift 1"));
    let pages = place.path("man1");
    place.vrift(&["man", "--dir", pages.to_str().expect("utf-8")]).fine();
    assert!(pages.join("vrift.1").exists() && pages.join("vrift-ingest.1").exists());
    assert!(place.vrift(&["--version"]).fine().starts_with("vrift "));
}

#[test]
fn names_on_a_terminal_are_escaped() {
    let place = Place::new();
    let dir = place.dir("source");
    write(&dir.join(OsStr::from_bytes(b"evil\x1b[2Jname\xff")), "x");
    place.ingest(&dir, "t");
    // `script` gives the program a terminal; it comes with util-linux.
    let inner =
        format!("{} --store {} ls t", env!("CARGO_BIN_EXE_vrift"), place.store_root().display());
    let output = std::process::Command::new("script")
        .args(["-qec", &inner, "/dev/null"])
        .stdin(Stdio::null())
        .output();
    let Ok(output) = output else {
        common::skipped("names_on_a_terminal_are_escaped", "needs script(1)");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("evil\\u{1b}[2Jname\\xff"), "{text:?}");
}

#[test]
fn export_wants_an_empty_place() {
    let place = Place::new();
    sample(&place);
    let full = place.dir("full");
    write(&full.join("mine"), "precious");
    let said = place.vrift(&["export", "t", full.to_str().expect("utf-8")]).refused();
    assert!(said.contains("not an empty directory"), "{said}");
    assert_eq!(std::fs::read_dir(&full).expect("list").count(), 1);
    let empty = place.dir("empty");
    place.vrift(&["export", "t", empty.to_str().expect("utf-8")]).fine();
    assert_eq!(std::fs::read(empty.join("b.txt")).expect("read"), b"b");
    let said = place.vrift(&["export", "nothing", "/tmp/never"]).refused();
    assert!(said.contains("nothing is no ref") && !std::path::Path::new("/tmp/never").exists());
    if !is_root() {
        let said = place.vrift(&["export", "t", "/never"]).refused();
        assert!(said.contains("Permission denied"), "{said}");
    }
}
