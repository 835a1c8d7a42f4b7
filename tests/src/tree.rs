//! Sample trees with everything a tree can hold that is easily got wrong.

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags};
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// A name that is no UTF-8.
pub const RAW_NAME: &[u8] = b"raw-\xff\xfe-name";

fn write(path: &Path, content: impl AsRef<[u8]>, mode: u32) {
    fs::write(path, content).unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("chmod");
}

fn mkdir(path: &Path, mode: u32) {
    fs::create_dir(path).unwrap_or_else(|e| panic!("mkdir {}: {e}", path.display()));
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("chmod");
}

/// Fills `dir`, an empty or absent directory. All times in it are set, with nanoseconds. Its
/// link `out` leads to a directory `beyond` that is made beside it.
///
/// # Panics
/// When the file system refuses.
pub fn sample(dir: &Path) {
    fs::create_dir_all(dir).expect("mkdir");
    write(&dir.join("f"), "hello\n", 0o644);
    write(&dir.join("twin"), "hello\n", 0o600); // the same content under another mode
    write(&dir.join("exe"), "#!/bin/sh\necho \"exe $0 $*\"\n", 0o755);
    write(&dir.join("readonly"), "do not touch\n", 0o444);
    write(&dir.join("empty"), "", 0o644);
    write(&dir.join(".hidden"), "hidden\n", 0o640);
    write(&dir.join("big"), (0..300_000u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>(), 0o644);
    write(&dir.join("with space"), "space\n", 0o644);
    write(&dir.join("new\nline"), "line\n", 0o644);
    write(&dir.join(OsStr::from_bytes(RAW_NAME)), "raw\n", 0o644);
    write(&dir.join("n".repeat(255)), "long name\n", 0o644);
    write(&dir.join("Case"), "upper\n", 0o644);
    write(&dir.join("case"), "lower\n", 0o644);
    mkdir(&dir.join("d"), 0o755);
    mkdir(&dir.join("d/e"), 0o755);
    write(&dir.join("d/e/g"), "deep\n", 0o644);
    write(&dir.join("d/x"), "x in d\n", 0o644);
    mkdir(&dir.join("existing"), 0o755);
    mkdir(&dir.join("private"), 0o700);
    write(&dir.join("private/secret"), "mine\n", 0o600);
    mkdir(&dir.join("sticky"), 0o1777);
    mkdir(&dir.join("void"), 0o755);
    // Outside, but this user's own: in the oracle's user namespace root's files change owner.
    let beyond = dir.with_file_name("beyond");
    fs::create_dir_all(beyond.join("bin")).expect("mkdir");
    write(&beyond.join("bin/tool"), "#!/bin/sh\necho beyond\n", 0o755);
    symlink(&beyond, dir.join("out")).expect("symlink");
    for (target, name) in [
        ("f", "link"),
        ("d", "dirlink"),
        ("../f", "d/up"),
        ("e/../../f", "d/winding"),
        ("nowhere", "dangling"),
        ("loop-b", "loop-a"),
        ("loop-a", "loop-b"),
        ("f/", "link-slash"),
        ("d/e", "deeplink"),
        (".", "self"),
    ] {
        symlink(target, dir.join(name)).expect("symlink");
    }
    // A chain of 39 links is followed, one of 41 isn't.
    symlink("f", dir.join("chain-1")).expect("symlink");
    for n in 2..=42 {
        symlink(format!("chain-{}", n - 1), dir.join(format!("chain-{n}"))).expect("symlink");
    }
    fs::hard_link(dir.join("f"), dir.join("hard")).expect("link");
    set_attribute(&dir.join("f"), "user.colour", b"blue");
    set_attribute(&dir.join("d"), "user.kind", b"directory");
    stamp(dir);
}

/// Whether user attributes work where `dir` is (an old tmpfs has none).
pub fn has_attributes(dir: &Path) -> bool {
    set_attribute(dir, "user.probe", b"1") && rustix::fs::removexattr(dir, "user.probe").is_ok()
}

fn set_attribute(path: &Path, name: &str, value: &[u8]) -> bool {
    rustix::fs::setxattr(path, name, value, XattrFlags::empty()).is_ok()
}

/// Gives every entry below `dir`, and `dir`, a time of its own, the deepest first.
///
/// # Panics
/// When a time can't be set.
pub fn stamp(dir: &Path) {
    let mut all = Vec::new();
    collect(dir, &mut all);
    for (n, path) in (0i64..).zip(all.iter().rev()) {
        let time = Timespec { tv_sec: 1_500_000_000 + n * 977, tv_nsec: 123_456_789 - n };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
            .unwrap_or_else(|e| panic!("utimensat {}: {e}", path.display()));
    }
}

fn collect(path: &Path, all: &mut Vec<PathBuf>) {
    all.push(path.to_owned());
    if fs::symlink_metadata(path).is_ok_and(|m| m.is_dir()) {
        let mut entries: Vec<_> =
            fs::read_dir(path).expect("read_dir").flatten().map(|e| e.path()).collect();
        entries.sort();
        for entry in entries {
            collect(&entry, all);
        }
    }
}

/// Makes `count` files named 0, 1, 2, ... in `dir`, file N holding "N\n".
///
/// # Panics
/// When the file system refuses.
pub fn numbered(dir: &Path, count: usize) {
    fs::create_dir_all(dir).expect("mkdir");
    for n in 0..count {
        fs::write(dir.join(n.to_string()), format!("{n}\n")).expect("write");
    }
}

/// Copies `from` to `to` with all its metadata.
///
/// # Panics
/// When cp fails.
pub fn copy(from: &Path, to: &Path) {
    let done = std::process::Command::new("cp").arg("-a").arg(from).arg(to).output().expect("cp");
    assert!(done.status.success(), "cp -a: {}", String::from_utf8_lossy(&done.stderr));
}
