//! `vrift-trace policy`, run as a user runs it.

#![expect(clippy::tests_outside_test_module, reason = "an integration test is one test module")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const POLICY: &str = r#"version = 1
[[mount]]
at = "/vrift/deps"
manifest = "deps"
[[rule]]
paths = ["~/.ssh/**"]
access = "hide"
reason = "secrets"
[[rule]]
paths = ["${job}/vault"]
access = "deny"
[[rule]]
paths = ["${job}/tree"]
access = "read-only"
[[rule]]
paths = ["${job}/tree/bin"]
exec = false
"#;

/// A directory with the policy and what it speaks of.
fn scene() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for name in ["home/.ssh", "vault/in", "tree/bin", "tree/d"] {
        fs::create_dir_all(dir.path().join(name)).expect("directories");
    }
    for name in ["home/.ssh/id", "tree/f", "tree/bin/tool", "plain"] {
        fs::write(dir.path().join(name), "").expect("a file");
    }
    std::os::unix::fs::symlink("../home/.ssh/id", dir.path().join("tree/key")).expect("a link");
    fs::write(dir.path().join("p.toml"), POLICY).expect("the policy");
    dir
}

fn run(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vrift-trace"))
        .arg("policy")
        .args(arguments)
        .current_dir(dir)
        .env("HOME", dir.join("home"))
        .output()
        .expect("it starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn explain_says_who_decides_and_what_the_job_gets() {
    let dir = scene();
    for (op, path, answer) in [
        (
            "read",
            "home/.ssh/id",
            "ENOENT (No such file or directory): p.toml:6: \"~/.ssh/**\" says access = \"hide\": secrets",
        ),
        ("read", "tree/key", "ENOENT (No such file or directory): p.toml:6:"),
        ("delete", "tree/key", "EROFS (Read-only file system): p.toml:13:"),
        (
            "stat",
            "vault",
            "what the kernel says: p.toml:10: \"${job}/vault\" says access = \"deny\"",
        ),
        ("list", "vault", "EACCES (Permission denied): p.toml:10:"),
        (
            "stat",
            "vault/in",
            "EACCES (Permission denied): p.toml:10: \"${job}/vault\" says access = \"deny\" for ",
        ),
        ("read", "tree/f", "what the kernel says: p.toml:13:"),
        ("write", "tree/../tree/f", "EROFS (Read-only file system): p.toml:13:"),
        ("create", "tree/new", "EROFS (Read-only file system): p.toml:13:"),
        ("delete", "tree/d", "EROFS (Read-only file system): p.toml:13:"),
        (
            "exec",
            "tree/bin/tool",
            "EACCES (Permission denied): p.toml:16: \"${job}/tree/bin\" says exec = false",
        ),
        ("write", "plain", "what the kernel says: no rule speaks of it"),
        (
            "write",
            "/vrift/deps/x",
            "EROFS (Read-only file system): p.toml:3: the read-only mount at /vrift/deps decides",
        ),
        (
            "read",
            "/vrift/deps/x",
            "what its manifest has there: p.toml:3: the read-only mount at /vrift/deps decides",
        ),
    ] {
        let output = run(dir.path(), &["explain", "p.toml", op, path]);
        let out = text(&output.stdout);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(
            out.starts_with(&format!("{path}: {answer}")) && out.lines().count() == 1,
            "{op}: {out}"
        );
    }
    let output = run(dir.path(), &["explain", "p.toml", "read", "home/.ssh/id", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        (json["errno"].as_str(), json["path"].as_str()),
        (Some("ENOENT"), Some("home/.ssh/id"))
    );
}

#[test]
fn check_tells_all_and_by_its_status_whether_there_was_anything() {
    let dir = scene();
    let good = run(dir.path(), &["check", "p.toml"]);
    assert_eq!((good.status.code(), text(&good.stdout)), (Some(0), String::new()));
    fs::write(dir.path().join("bad.toml"), "version = 1\ncolour = 1\n[job]\nnme = 'x'\n")
        .expect("a file");
    let bad = run(dir.path(), &["check", "bad.toml"]);
    assert_eq!(bad.status.code(), Some(1));
    assert_eq!(
        text(&bad.stdout),
        "bad.toml:2: unknown key `colour`; known here: `version`, `job`, `mount`, `rule`, `syscalls`, `trace`, `macos`\n\
         bad.toml:4: unknown key `nme`; did you mean `name`?\n"
    );
    let json = run(dir.path(), &["check", "bad.toml", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!((json[1]["line"].as_u64(), json[1]["severity"].as_str()), (Some(4), Some("error")));
    let none = run(dir.path(), &["check", "none.toml"]);
    assert_eq!((none.status.code(), text(&none.stderr).lines().count()), (Some(125), 1));
    let wrong = run(dir.path(), &["explain", "bad.toml", "read", "/x"]);
    assert_eq!((wrong.status.code(), text(&wrong.stderr).lines().count()), (Some(125), 1));
}

#[test]
fn schema_prints_the_schema() {
    let dir = scene();
    let output = run(dir.path(), &["schema"]);
    assert!(output.status.success());
    assert_eq!(text(&output.stdout), vrift_policy::SCHEMA);
}
