//! Jobs under a policy with rules for real paths, run by the test's own user and by nobody.

use crate::binaries;
use crate::job::Job;
use crate::oracle::differences::release;
use crate::world::World;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

/// A policy with a rule of each kind, for the tree of [`world`].
pub const POLICY: &str = r#"version = 1
[[rule]]
paths = ["~/.ssh/**"]
access = "hide"
reason = "secrets"
[[rule]]
paths = ["$W/**/*.pem"]
access = "hide"
[[rule]]
paths = ["$W/etc/shadow", "$W/vault", "$W/not-there"]
access = "deny"
reason = "none of a build's business"
[[rule]]
paths = ["$W/tree"]
access = "read-only"
[[rule]]
paths = ["$W/tree/out"]
access = "read-write"
[[rule]]
paths = ["$W/no-run"]
exec = false
"#;

/// Who runs the job.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Who {
    /// The test's own user.
    Self_,
    /// The user nobody.
    Nobody,
}

/// Whether `enforce = "landlock"` can be had here, or why not.
///
/// # Errors
/// A sentence for [`skip!`](crate::skip!).
pub fn landlock() -> Result<(), String> {
    let world = World::new();
    let rule = "[[rule]]\npaths = [\"$W/x\"]\naccess = \"deny\"\nenforce = \"landlock\"\n";
    let policy = format!("version = 1\n{rule}");
    let outcome = with(&world, Who::Self_, &policy, &["--quiet"], &["true"]).run();
    match outcome.code() {
        125 if release() < (6, 2) && outcome.err().contains("Landlock") => Err(outcome.err()),
        _ => {
            outcome.ok();
            Ok(())
        }
    }
}

/// Does root run the tests?
pub fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

/// The test's own user, and, where that is root, nobody.
pub fn everybody() -> Vec<Who> {
    if is_root() { vec![Who::Self_, Who::Nobody] } else { vec![Who::Self_] }
}

/// A tree with what rules are about.
///
/// # Panics
/// When it can't be made.
pub fn world() -> World {
    let world = World::new();
    for (name, content) in [
        ("home/.ssh/id", "key\n"),
        ("home/plain", "plain\n"),
        ("etc/shadow", "hash\n"),
        ("etc/passwd", "names\n"),
        ("vault/in/gold", "gold\n"),
        ("tree/f", "hello\n"),
        ("tree/d/g", "deep\n"),
        ("tree/out/o", "object\n"),
        ("r/file", "real\n"),
        ("r/key.pem", "pem\n"),
    ] {
        world.file(name, content);
    }
    world.dir("no-run");
    for (name, text) in [
        ("no-run/script", "#!/bin/sh\necho ran\n"),
        ("no-run/interpreter", "#!/bin/sh\necho interpreted\n"),
        ("r/by-other", "#!$W/no-run/sh\n"),
        ("r/script", "#!/bin/sh\necho ran\n"),
    ] {
        let text =
            text.replace("$W", world.path("").to_str().expect("UTF-8").trim_end_matches('/'));
        let path = world.file(name, text);
        fs::set_permissions(path, Permissions::from_mode(0o755)).expect("chmod");
    }
    fs::copy("/bin/sh", world.path("no-run/sh")).expect("a shell");
    for (target, name) in [
        ("../home/.ssh", "r/to-ssh"),
        ("../home/.ssh/id", "r/to-id"),
        ("../etc/shadow", "r/to-shadow"),
        ("../tree", "r/to-tree"),
        ("../tree/new", "r/to-new"),
        ("../no-run/script", "r/to-script"),
        ("../vault", "r/to-vault"),
    ] {
        symlink(target, world.path(name)).expect("a link");
    }
    world
}

/// A job with the policy; what it makes belongs to who runs it.
pub fn job(world: &World, who: Who, more: &[&str], argv: &[&str]) -> Job {
    with(world, who, POLICY, more, argv)
}

/// A job with this policy, more options, and a command.
///
/// # Panics
/// When the tree can't be given to nobody.
pub fn with(world: &World, who: Who, policy: &str, more: &[&str], argv: &[&str]) -> Job {
    let policy = world.file("p.toml", policy);
    let mut all: Vec<OsString> = Vec::new();
    if who == Who::Nobody {
        let whole =
            Command::new("chown").arg("-Rh").arg("65534:65534").arg(world.path("")).status();
        assert!(whole.expect("chown").success());
        all.extend(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"].map(Into::into));
    }
    all.extend([binaries::vrift_trace().into(), "-p".into(), policy.into()]);
    all.extend(more.iter().map(Into::into));
    all.push("--".into());
    all.extend(argv.iter().map(Into::into));
    let top = world.path("");
    let top = top.to_str().expect("UTF-8").trim_end_matches('/').to_owned();
    world.native(all).env("W", top)
}

/// Calls and what they are to answer: a line `CALL = ANSWER` each, `$W` the world.
///
/// # Panics
/// When a line is none.
pub fn rows(world: &World, text: &str) -> Vec<(String, String)> {
    let top = world.path("");
    let top = top.to_str().expect("UTF-8").trim_end_matches('/');
    text.lines()
        .map(|line| line.trim().replace("$W", top))
        .filter(|line| !line.is_empty())
        .map(|line| {
            let (call, expected) = line.split_once(" = ").expect("call = expected");
            (call.to_owned(), expected.to_owned())
        })
        .collect()
}
