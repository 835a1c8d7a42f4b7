//! Asks the kernel: every row of the decision tables, on a real read-only bind mount.
//!
//! The test starts itself again in a mount namespace of its own (a user namespace, too, when it
//! isn't root), first with the capabilities of that namespace, then without any, which shows where
//! the kernel looks at permission bits before it says `EROFS`. Where no such namespace can be had
//! the test says so and counts as skipped.

#![expect(clippy::tests_outside_test_module, reason = "an integration test is one test module")]

mod probe;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustix::io::Errno as KernelErrno;
use vrift_policy::{
    Mode, Operation, Outcome, RenameFlags, Side, Target, decide, decide_link, decide_rename,
};

/// Set in the second process: the directory that holds the mounts.
const BASE: &str = "VRIFT_TEST_MOUNTS";

/// Mounts the tree twice, read-only, with another mount inside the first, and goes on with the
/// words after it.
const SET_UP: &str = r#"
set -e
base=$1; shift
mount --make-rprivate /
for name in ro ro2; do
    mount --bind "$base/../tree" "$base/$name"
    mount -o remount,bind,ro "$base/$name"
done
mount --bind "$base/../tree/d" "$base/ro/nested"
mount -o remount,bind,ro "$base/ro/nested"
exec "$@"
"#;

/// Makes the tree and what lies beside the mounts; returns the directory that holds them.
fn lay_out(top: &Path) -> std::io::Result<PathBuf> {
    let (tree, base) = (top.join("tree"), top.join("at"));
    for dir in ["d", "nested"] {
        fs::create_dir_all(tree.join(dir))?;
    }
    for dir in ["ro", "ro2", "d"] {
        fs::create_dir_all(base.join(dir))?;
    }
    for file in [tree.join("f"), base.join("f")] {
        fs::write(&file, "#!/bin/sh\nexit 0\n")?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    }
    symlink("f", tree.join("l"))?;
    Ok(base)
}

/// Runs this test again within the namespaces; `drop` takes all capabilities away first.
fn run_inside(base: &Path, drop: bool) -> std::io::Result<Output> {
    let mut command = Command::new("unshare");
    command.arg("--mount");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["timeout", "60", "sh", "-c", SET_UP, "sh"]).arg(base);
    if drop {
        command.args(["setpriv", "--bounding-set=-all", "--inh-caps=-all"]);
    }
    command.arg(std::env::current_exe()?);
    command.args(["--exact", "the_table_is_the_kernels", "--nocapture"]).env(BASE, base).output()
}

#[test]
fn the_table_is_the_kernels() {
    if let Some(base) = std::env::var_os(BASE) {
        return compare(Path::new(&base));
    }
    let may = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "true"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !may && !rustix::process::geteuid().is_root() {
        println!("SKIPPED policy::the_table_is_the_kernels: needs root or user namespaces");
        return;
    }
    for drop in [false, true] {
        let top = tempfile::tempdir().expect("a temporary directory");
        let base = lay_out(top.path()).expect("lay the tree out");
        if drop {
            for path in ["tree/f", "tree/d", "tree"] {
                let mode = if path == "tree/f" { 0o444 } else { 0o555 };
                fs::set_permissions(top.path().join(path), fs::Permissions::from_mode(mode))
                    .expect("take the w bits away");
            }
        }
        let output = run_inside(&base, drop).expect("start unshare");
        fs::set_permissions(top.path().join("tree"), fs::Permissions::from_mode(0o755))
            .expect("let the tree be removed");
        let (out, err) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "capabilities dropped: {drop}\n{out}\n{err}");
        assert!(out.contains("ANSWERS COMPARED"), "the second process did nothing:\n{out}\n{err}");
    }
}

/// In the namespace: asks every question and lists the answers that differ.
fn compare(base: &Path) {
    // CAP_DAC_OVERRIDE is the one that matters here.
    let privileged =
        rustix::fs::access(base.join("../tree/f"), rustix::fs::Access::WRITE_OK).is_ok();
    let mut wrong = Vec::new();
    let mut asked = 0;
    let mut check = |question: String, kernel: Result<(), KernelErrno>, table: Outcome| {
        asked += 1;
        let ours = match table {
            Outcome::Serve => Ok(()),
            Outcome::Refuse(errno) => Err(KernelErrno::from_raw_os_error(errno.raw())),
        };
        if kernel != ours {
            wrong.push(format!("{question}: kernel {kernel:?}, table {ours:?}"));
        }
    };
    for operation in Operation::ALL {
        for (target, path) in [
            (Target::Missing, "ro/missing"),
            (Target::File, "ro/f"),
            (Target::Directory, "ro/d"),
            (Target::Symlink, "ro/l"),
            (Target::MountPoint, "ro"),
            // One that a projected directory holds is decided as a directory.
            (Target::Directory, "ro/nested"),
        ] {
            for (form, kernel) in probe::ask(operation, target, &base.join(path)) {
                if !privileged && matches!(operation, Operation::Execute | Operation::TestExecute) {
                    continue; // Decided by the x bit, which nothing has now.
                }
                let mut table = decide(operation, Mode::ReadOnly, target);
                if !privileged && operation.permission_first(target).is_some() {
                    let old = operation == Operation::Truncate && kernel == Err(KernelErrno::ROFS);
                    if !old {
                        table = may_write(&base.join(path), table);
                    }
                }
                check(format!("{operation:?} ({form}) of {path}"), kernel, table);
            }
        }
    }
    for (from, from_path) in sides() {
        for (to, to_path) in sides() {
            let (old, new) = (base.join(from_path), base.join(to_path));
            if from == to && matches!(from, Side::Real(_)) {
                continue; // A name renamed to itself: nothing is done, and nothing asked here.
            }
            for bits in 0..16 {
                if let Some(errno) = decide_rename(from, to, RenameFlags::from_raw(bits)) {
                    let kernel = probe::rename(&old, &new, bits);
                    let question = format!("rename {from_path} to {to_path}, flags {bits}");
                    check(question, kernel, Outcome::Refuse(errno));
                }
            }
            let firmer = matches!((from, to), (Side::Real(_), Side::Projected { .. }))
                || matches!((from, to), (Side::Projected { mount: a, .. }, Side::Projected { mount: b, .. }) if a != b);
            if let Some(errno) = decide_link(from, to) {
                let mut table = Outcome::Refuse(errno);
                if firmer && errno == vrift_policy::Errno::EXDEV {
                    // Said in the docs: here the table is not the kernel's.
                    table = Outcome::Refuse(vrift_policy::Errno::EROFS);
                }
                check(format!("link {from_path} to {to_path}"), probe::link(&old, &new), table);
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {asked} answers differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(asked > 1000, "only {asked} questions");
    println!("{asked} ANSWERS COMPARED");
}

/// What holds when the `w` bits are looked at first: `EACCES` without one.
fn may_write(path: &Path, table: Outcome) -> Outcome {
    let mode = fs::metadata(path).expect("a target that is there").permissions().mode();
    if mode & 0o200 == 0 { Outcome::Refuse(vrift_policy::Errno::EACCES) } else { table }
}

/// Every kind of side, with a path that is one. The names of the two mounts themselves are real.
fn sides() -> Vec<(Side, &'static str)> {
    let projected = |mount, target| Side::Projected { mount, mode: Mode::ReadOnly, target };
    vec![
        (Side::Real(Target::Missing), "missing"),
        (Side::Real(Target::File), "f"),
        (Side::Real(Target::Directory), "d"),
        (Side::Real(Target::MountPoint), "ro"),
        (projected(0, Target::Missing), "ro/missing"),
        (projected(0, Target::File), "ro/f"),
        (projected(0, Target::Directory), "ro/d"),
        (projected(0, Target::Symlink), "ro/l"),
        (projected(1, Target::Missing), "ro2/missing"),
        (projected(1, Target::File), "ro2/f"),
        (projected(1, Target::Directory), "ro2/d"),
    ]
}
