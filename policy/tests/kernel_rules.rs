//! Asks the kernel what rules for real paths answer: a read-only bind mount for `read-only`, mode
//! 0000 in a directory that can't be written to for `deny`.
//!
//! The test starts itself again without capabilities, in a mount namespace of its own (a user
//! namespace, too, when it isn't root). Where none can be had the test says so and counts as
//! skipped.

#![expect(clippy::tests_outside_test_module, reason = "an integration test is one test module")]

mod probe;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use rustix::io::Errno as KernelErrno;
use vrift_policy::{
    Errno, Grant, Operation, RealTarget, RenameFlags, Target, decide_rule, decide_rule_link,
    decide_rule_rename,
};

/// Set in the second process: the directory that holds both.
const BASE: &str = "VRIFT_TEST_RULES";

const SET_UP: &str = r#"
set -e
base=$1; shift
mount --make-rprivate /
mount --bind "$base/read-only" "$base/read-only"
mount -o remount,bind,ro "$base/read-only"
exec "$@"
"#;

/// The names in both directories, and what they are.
const NAMES: [(&str, RealTarget, Target); 5] = [
    ("missing", RealTarget::Missing, Target::Missing),
    ("f", RealTarget::File, Target::File),
    ("d", RealTarget::Directory, Target::Directory),
    ("l", RealTarget::Symlink, Target::Symlink),
    ("s", RealTarget::Special, Target::File),
];

fn lay_out(dir: &Path, mode: u32) -> UnixListener {
    fs::create_dir_all(dir.join("d")).expect("directories");
    fs::write(dir.join("f"), "#!/bin/sh\nexit 0\n").expect("a file");
    symlink("f", dir.join("l")).expect("a link");
    let listener = UnixListener::bind(dir.join("s")).expect("a socket");
    for name in ["d", "f", "s"] {
        fs::set_permissions(dir.join(name), Permissions::from_mode(mode)).expect("chmod");
    }
    listener
}

#[test]
fn the_rules_are_the_kernels() {
    if let Some(base) = std::env::var_os(BASE) {
        return compare(Path::new(&base));
    }
    let root = rustix::process::geteuid().is_root();
    let namespace = ["--user", "--map-root-user", "--mount", "true"];
    let may = Command::new("unshare").args(namespace).output().is_ok_and(|o| o.status.success());
    if !may && !root {
        println!("SKIPPED policy::the_rules_are_the_kernels: needs root or user namespaces");
        return;
    }
    let top = tempfile::tempdir().expect("a temporary directory");
    let open = lay_out(&top.path().join("read-only"), 0o777);
    let shut = lay_out(&top.path().join("deny"), 0);
    fs::set_permissions(top.path().join("deny"), Permissions::from_mode(0o555)).expect("chmod");
    let mut command = Command::new("unshare");
    command.arg("--mount");
    if !root {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["timeout", "60", "sh", "-c", SET_UP, "sh"]).arg(top.path());
    command.args(["setpriv", "--bounding-set=-all", "--inh-caps=-all"]);
    command.arg(std::env::current_exe().expect("this program"));
    command.args(["--exact", "the_rules_are_the_kernels", "--nocapture"]).env(BASE, top.path());
    let output = command.output().expect("start unshare");
    fs::set_permissions(top.path().join("deny"), Permissions::from_mode(0o755)).expect("chmod");
    fs::set_permissions(top.path().join("deny/d"), Permissions::from_mode(0o755)).expect("chmod");
    drop((open, shut));
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    assert!(out.contains("ANSWERS COMPARED"), "the second process did nothing:\n{out}\n{err}");
}

/// The rows of `deny` that are not a mode 0000's: docs/POLICY.md says so.
fn differs(operation: Operation, target: RealTarget) -> bool {
    use Operation as O;
    match operation {
        // Here the owner may; somebody else gets EPERM.
        O::ChangeMode | O::ChangeOwner | O::ChangeTimes | O::SetXattr | O::RemoveXattr => true,
        // By descriptor, and there is none of what can't be opened.
        O::SetFlags => true,
        // Names of attributes may be listed whatever the mode.
        O::GetXattr => true,
        // A link has no mode of its own.
        O::ReadLink | O::TestExecute | O::TestWrite | O::Watch => target == RealTarget::Symlink,
        _ => false,
    }
}

fn compare(base: &Path) {
    let (mut wrong, mut asked) = (Vec::new(), 0);
    let mut check =
        |what: String, kernel: Result<(), KernelErrno>, ours: Option<Errno>, refusal| {
            asked += 1;
            let refused = kernel == Err(KernelErrno::from_raw_os_error(Errno::raw(refusal)));
            let same = match ours {
                Some(errno) => errno == refusal && refused,
                // Left to the kernel, which must not say that for the same reason.
                None => !refused,
            };
            if !same {
                wrong.push(format!("{what}: kernel {kernel:?}, rules {ours:?}"));
            }
        };
    for operation in Operation::ALL {
        for (name, target, column) in NAMES {
            for (grant, dir, refusal) in
                [(Grant::ReadOnly, "read-only", Errno::EROFS), (Grant::Deny, "deny", Errno::EACCES)]
            {
                let socket = operation == Operation::SetFlags && target == RealTarget::Special;
                if socket || grant == Grant::Deny && differs(operation, target) {
                    continue;
                }
                let ours = decide_rule(operation, grant, target);
                for (form, kernel) in probe::ask(operation, column, &base.join(dir).join(name)) {
                    // Whoever may not run it hears that, as from the kernel alone.
                    if operation == Operation::Execute && ours.is_none() {
                        continue;
                    }
                    check(format!("{operation:?} ({form}) of {dir}/{name}"), kernel, ours, refusal);
                }
            }
        }
    }
    for (from, a, _) in NAMES {
        for (to, b, _) in NAMES {
            for (grant, dir, refusal) in
                [(Grant::ReadOnly, "read-only", Errno::EROFS), (Grant::Deny, "deny", Errno::EACCES)]
            {
                let (old, new) = (base.join(dir).join(from), base.join(dir).join(to));
                for bits in [0, 1, 2] {
                    let flags = RenameFlags::from_raw(bits);
                    if grant == Grant::Deny && (from == to || bits == 2 && b == RealTarget::Missing)
                    {
                        continue; // Nothing is done, or not before the name is looked at.
                    }
                    let ours = decide_rule_rename((grant, a), (grant, b), flags);
                    let kernel = probe::rename(&old, &new, bits);
                    check(format!("rename {dir}/{from} {to} {bits}"), kernel, ours, refusal);
                }
                if a != RealTarget::Directory {
                    let ours = decide_rule_link((grant, a), (grant, b));
                    let kernel = probe::link(&old, &new);
                    // protected_hardlinks speaks first of a file that can't be opened.
                    let guarded = grant == Grant::Deny && kernel == Err(KernelErrno::PERM);
                    if !guarded {
                        check(format!("link {dir}/{from} {to}"), kernel, ours, refusal);
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {asked} answers differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(asked > 400, "only {asked} questions");
    println!("{asked} ANSWERS COMPARED");
}
