//! What a user writes in a policy file or after `--mount`, and what comes of it.

#![expect(clippy::tests_outside_test_module, reason = "an integration test is one test module")]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use vrift_policy::{
    Access, Compat32, Enforce, IoUring, Mode, MountSpec, OnExit, OnLeftover, Policy, Restricted,
    Syscalls, Trace, View,
};

fn parse(text: &str) -> Policy {
    Policy::parse(text, Path::new("vrift.toml")).expect(text)
}

fn refusal(text: &str) -> String {
    let message = Policy::parse(text, Path::new("vrift.toml")).expect_err(text).to_string();
    assert!(!message.contains('\n'), "more than one line: {message}");
    message
}

/// Every key, with the value that isn't the default wherever there is another.
const WHOLE: &str = r#"
version = 1

[job]
name = "ci"
on_leftover = "wait"
fetch_timeout = 30
view = "auto"

[[mount]]
at = "/vrift/deps"
manifest = "deps"

[[mount]]
at = "/vrift/src"
manifest = "app"
mode = "overlay"
upper = "build/.upper"
on_exit = "commit:app/new"

[[rule]]
paths = ["~/.ssh/**", "/etc/shadow"]
access = "hide"
reason = "secrets"

[[rule]]
paths = ["/tmp"]
access = "read-only"
exec = false
enforce = "landlock"

[syscalls]
io_uring = "allow"
compat32 = "enosys"
no_new_privs = false

[trace]
reads = false
probes = false

[macos]
restricted = "refuse"
"#;

#[test]
fn every_key_is_read() {
    let policy = parse(WHOLE);
    assert_eq!(policy.job.name.as_deref(), Some("ci"));
    assert_eq!(policy.job.on_leftover, OnLeftover::Wait);
    assert_eq!(policy.job.fetch_timeout.map(std::num::NonZero::get), Some(30));
    assert_eq!(policy.job.view, Some(View::Auto));
    let [deps, src] = policy.mounts.as_slice() else { panic!("{:?}", policy.mounts) };
    assert_eq!(
        (deps.at.as_path(), deps.manifest.as_os_str()),
        (Path::new("/vrift/deps"), OsStr::new("deps"))
    );
    assert_eq!((deps.mode, &deps.upper, &deps.on_exit), (Mode::ReadOnly, &None, &None));
    assert_eq!(deps.origin.to_string(), "vrift.toml:11");
    assert_eq!(src.mode, Mode::Overlay);
    assert_eq!(src.upper.as_deref(), Some(Path::new("build/.upper")));
    assert_eq!(src.on_exit, Some(OnExit::Commit("app/new".to_owned())));
    let [rule, walled] = policy.rules.as_slice() else { panic!("{:?}", policy.rules) };
    let paths: Vec<_> = rule.paths.iter().map(|path| path.pattern.as_str()).collect();
    assert_eq!(paths, ["~/.ssh/**", "/etc/shadow"]);
    assert_eq!(rule.paths[1].origin.to_string(), "vrift.toml:22");
    assert_eq!((rule.access, rule.reason.as_deref()), (Some(Access::Hide), Some("secrets")));
    assert_eq!((rule.exec, rule.enforce), (None, None));
    assert_eq!((walled.access, walled.exec), (Some(Access::ReadOnly), Some(false)));
    assert_eq!(walled.enforce, Some(Enforce::Landlock));
    let Syscalls { io_uring, compat32, no_new_privs } = policy.syscalls;
    assert_eq!((io_uring, compat32, no_new_privs), (IoUring::Allow, Compat32::Enosys, false));
    assert_eq!(policy.trace, Trace { reads: false, probes: false });
    assert_eq!(policy.macos.restricted, Restricted::Refuse);
}

#[test]
fn programs_that_keep_the_shim_out_have_three_fates() {
    for one in Restricted::ALL {
        let text = format!("version = 1\n[macos]\nrestricted = \"{}\"\n", one.as_str());
        assert_eq!(parse(&text).macos.restricted, one);
    }
    assert_eq!(Policy::default().macos.restricted, Restricted::Clone);
}

#[test]
fn a_policy_that_says_nothing_is_the_default() {
    assert_eq!(parse("version = 1"), Policy::default());
    assert_eq!(
        parse("# a comment\nversion = 1\n[job]\n[trace]\n[syscalls]\n[macos]\n"),
        Policy::default()
    );
    let usual = Policy::default();
    assert!(usual.syscalls.no_new_privs && usual.trace.reads && usual.trace.probes);
    assert_eq!(usual.syscalls.io_uring, IoUring::Enosys);
    assert_eq!(usual.syscalls.compat32, Compat32::Supervise);
    assert_eq!(usual.job.on_leftover, OnLeftover::Kill);
    assert_eq!((usual.job.fetch_timeout, usual.job.view), (None, None));
}

#[test]
fn each_mistake_is_one_line_with_its_place() {
    let mount = "version = 1\n[[mount]]\nat = \"/v\"\nmanifest = \"deps\"\n";
    let head = |rest: &str| format!("version = 1\n{rest}");
    for (text, message) in [
        // The version.
        (String::new(), "vrift.toml:1: no `version` is given; begin the file with `version = 1`"),
        (
            "\n[job]\n".into(),
            "vrift.toml:2: no `version` is given; begin the file with `version = 1`",
        ),
        (
            "# note\nversoin = 1\n".into(),
            "vrift.toml:2: no `version` is given; did you mean `version`? (begin the file with `version = 1`)",
        ),
        (
            "version = 2\nunheard = 1".into(),
            "vrift.toml:1: version 2 is not known to this release; it reads version 1: begin the file with `version = 1`, or use the release that the file was written for",
        ),
        (
            "version = \"1\"".into(),
            "vrift.toml:1: version \"1\" is not known to this release; it reads version 1: begin the file with `version = 1`, or use the release that the file was written for",
        ),
        // Keys and values.
        (head("\n[syscall]\n"), "vrift.toml:3: unknown key `syscall`; did you mean `syscalls`?"),
        (
            head("[network]\n"),
            "vrift.toml:2: unknown key `network`; known here: `version`, `job`, `mount`, `rule`, `syscalls`, `trace`, `macos`",
        ),
        (
            head("[job]\non-leftover = \"kill\"\n"),
            "vrift.toml:3: unknown key `on-leftover`; did you mean `on_leftover`?",
        ),
        (
            head("[job]\non_leftover = \"keep\"\n"),
            "vrift.toml:3: unknown value `keep`; known here: `kill`, `wait`",
        ),
        (
            format!("{mount}mode = \"readonly\"\n"),
            "vrift.toml:5: unknown value `readonly`; did you mean `read-only`?",
        ),
        (
            format!("{mount}on_exit = \"commit\"\n"),
            "vrift.toml:5: unknown value \"commit\" of `on_exit`; known here: `discard`, `keep`, `commit:REF`",
        ),
        (
            format!("{mount}on_exit = \"commit:\"\n"),
            "vrift.toml:5: unknown value \"commit:\" of `on_exit`; known here: `discard`, `keep`, `commit:REF`",
        ),
        (format!("{mount}upper = \"\"\n"), "vrift.toml:5: `upper` is empty; give it a value"),
        (
            head("[trace]\nreads = \"yes\"\n"),
            "vrift.toml:3: invalid type: string \"yes\", expected a boolean",
        ),
        (
            head("[macos]\nrestricted = \"clones\"\n"),
            "vrift.toml:3: unknown value `clones`; did you mean `clone`?",
        ),
        (head("[[mount]]\nat = \"/v\"\n"), "vrift.toml:2: missing field `manifest`"),
        (head("[[mount]]\nmanifest = \"v\"\n"), "vrift.toml:2: missing field `at`"),
        (head("[mount]\nat = \"/v\"\n"), "vrift.toml:2: invalid type: map, expected a sequence"),
        // Mount points.
        (
            head("[[mount]]\nmanifest = \"deps\"\nat = \"vrift\"\n"),
            "vrift.toml:4: mount point \"vrift\" is not absolute; begin it with `/`",
        ),
        (
            head("[[mount]]\nat = \"/v\"\nmanifest = \"\"\n"),
            "vrift.toml:4: `manifest` is empty; give it a value",
        ),
        (
            head("[[mount]]\nat = \"/v\"\nmanifest = \"a\\u0000b\"\n"),
            "vrift.toml:4: `manifest` holds a NUL byte; leave it out",
        ),
        (
            format!("{mount}\n[[mount]]\nat = \"/v\"\nmanifest = \"other\"\n"),
            "vrift.toml:7: \"/v\" is a mount point already (vrift.toml:3); leave one of the two out",
        ),
        // Rules.
        (
            head("[[rule]]\npaths = []\naccess = \"deny\"\n"),
            "vrift.toml:3: `paths` is empty; name at least one path",
        ),
        (
            head("[[rule]]\npaths = [\"/a\", \"\"]\naccess = \"deny\"\n"),
            "vrift.toml:3: `paths` is empty; give it a value",
        ),
        (
            head("[[rule]]\npaths = [\"/a\"]\naccess = \"hidden\"\n"),
            "vrift.toml:4: unknown value `hidden`; did you mean `hide`?",
        ),
        (
            head("[[rule]]\npaths = [\"/a\"]\nreason = \"none\"\n"),
            "vrift.toml:2: the rule says nothing; give it `access`, or `exec`",
        ),
        (
            head(
                "[[rule]]\npaths = [\"/a\"]\naccess = \"hide\"\nexec = false\nenforce = \"landlock\"\n",
            ),
            "vrift.toml:6: Landlock can only deny and keep from writing and running; use it with \
             `access = \"deny\"`, `access = \"read-only\"` or `exec = false`",
        ),
    ] {
        assert_eq!(refusal(&text), message, "in:\n{text}");
    }
}

#[test]
fn what_is_not_toml_is_told_with_its_line() {
    for text in ["version = 1\n[job\n", "version = 1\njob = {\n", "version = 1\nname = nothing\n"] {
        assert!(refusal(text).starts_with("vrift.toml:2: "), "{}", refusal(text));
    }
    let twice = refusal("version = 1\n[trace]\nreads = true\nreads = false\n");
    assert!(twice.starts_with("vrift.toml:4: ") && twice.contains("duplicate key"), "{twice}");
}

#[test]
fn the_version_must_come_first() {
    let message = refusal("job = {}\nversion = 1\n");
    assert_eq!(
        message,
        "vrift.toml:2: `version` must come first; begin the file with `version = 1`"
    );
}

#[test]
fn files_are_read_and_named() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("p.toml");
    std::fs::write(&path, "version = 1\n[job]\nname = \"n\"\n").expect("write");
    assert_eq!(Policy::load(&path).expect("load").job.name.as_deref(), Some("n"));

    std::fs::write(&path, b"version = 1\n# \xff\n").expect("write");
    let message = Policy::load(&path).expect_err("not UTF-8").to_string();
    assert!(message.starts_with(&format!("{}:2: a byte that is not UTF-8", path.display())));

    let missing = dir.path().join("missing.toml");
    let message = Policy::load(&missing).expect_err("missing").to_string();
    assert!(
        message.starts_with(&format!(
            "{}: cannot read the policy file: No such file",
            missing.display()
        )),
        "{message}"
    );
    let message = Policy::load(dir.path()).expect_err("a directory").to_string();
    assert!(message.contains("cannot read the policy file: Is a directory"), "{message}");
}

#[test]
fn a_policy_that_fits_together_can_be_obeyed() {
    assert_eq!(parse(WHOLE).unsupported(), [""; 0]);
    let plain = "version = 1\n[[mount]]\nat = \"/v\"\nmanifest = \"m\"\nmode = \"read-only\"\n";
    assert_eq!(parse(plain).unsupported(), [""; 0]);
}

#[test]
fn what_a_read_only_mount_has_no_use_for_is_named() {
    for (argument, what) in [
        ("/v=m,upper=/u", "upper \"/u\" is for changes"),
        ("/v=m,commit=r", "on_exit \"commit:r\" is about changes"),
    ] {
        let spec = mount(argument.as_bytes()).expect("a mount");
        let [reason] = &spec.unsupported()[..] else { panic!("{:?}", spec.unsupported()) };
        assert!(reason.starts_with(&format!("--mount {argument}: {what}")), "{reason}");
        assert!(reason.contains("; leave it out"), "{reason}");
        let writable = mount(format!("{argument},mode=overlay").as_bytes()).expect("a mount");
        assert_eq!(writable.unsupported(), [""; 0]);
    }
}

#[test]
fn changes_end_as_was_said() {
    for (argument, end) in [
        ("/v=m,mode=overlay", OnExit::Discard),
        ("/v=m,mode=overlay,upper=/u", OnExit::Keep),
        ("/v=m,mode=overlay,upper=/u,commit=r", OnExit::Commit("r".into())),
    ] {
        assert_eq!(mount(argument.as_bytes()).expect("a mount").end(), end, "{argument}");
    }
}

fn mount(argument: &[u8]) -> Result<MountSpec, String> {
    MountSpec::parse_arg(OsStr::from_bytes(argument), Path::new("/vrift"))
        .map_err(|error| error.to_string())
}

#[test]
fn mount_arguments_are_read() {
    for (argument, at, manifest) in [
        (b"/vrift/deps=deps".as_slice(), b"/vrift/deps".as_slice(), b"deps".as_slice()),
        (b"deps", b"/vrift", b"deps"),
        (b"deps,mode=read-only", b"/vrift", b"deps"),
        (b"/a=toolchain/gcc-12,mode=read-only", b"/a", b"toolchain/gcc-12"),
        // Escaped, and not UTF-8.
        (b"/a\\,b\\=c=d\\,e", b"/a,b=c", b"d,e"),
        (b"/a=b=c", b"/a", b"b=c"),
        (b"x\\=y", b"/vrift", b"x=y"),
        (b"/a\\\\b=c", b"/a\\b", b"c"),
        (b"/\xff=./m\xfe", b"/\xff", b"./m\xfe"),
    ] {
        let spec = mount(argument).expect("a mount");
        assert_eq!(spec.at.as_os_str().as_bytes(), at);
        assert_eq!(spec.manifest.as_bytes(), manifest);
        assert_eq!((spec.mode, spec.upper, spec.on_exit), (Mode::ReadOnly, None, None));
    }
    let spec = mount(b"/a=m,commit=new\\,er,upper=/u\\,v,mode=overlay").expect("a mount");
    assert_eq!(spec.mode, Mode::Overlay);
    assert_eq!(spec.upper.as_deref(), Some(Path::new("/u,v")));
    assert_eq!(spec.on_exit, Some(OnExit::Commit("new,er".to_owned())));
}

#[test]
fn each_mistake_in_a_mount_argument_is_one_line() {
    for (argument, message) in [
        ("", "--mount : no manifest is named; write AT=REF, or REF alone"),
        ("/a=", "--mount /a=: no manifest is named; write AT=REF, or REF alone"),
        (
            ",mode=overlay",
            "--mount ,mode=overlay: no manifest is named; write AT=REF, or REF alone",
        ),
        (
            "a=m",
            "--mount a=m: mount point \"a\" is not absolute; begin it with `/` (an `=` that belongs to a manifest's name is written `\\=`)",
        ),
        ("/a/=m", "--mount /a/=m: mount point \"/a/\" holds a trailing slash; write it as \"/a\""),
        (
            "/a=m,mod=overlay",
            "--mount /a=m,mod=overlay: unknown option `mod`; did you mean `mode=…`?",
        ),
        ("/a=m,mode", "--mount /a=m,mode: unknown option `mode`; write `mode=…`"),
        (
            "/a=m,ro",
            "--mount /a=m,ro: unknown option `ro`; the options are `mode=`, `upper=` and `commit=` (a `,` that belongs to a name is written `\\,`)",
        ),
        (
            "/a=m,mode=readonly",
            "--mount /a=m,mode=readonly: `readonly` is no value of `mode`; did you mean `read-only`?",
        ),
        (
            "/a=m,mode=rw",
            "--mount /a=m,mode=rw: `rw` is no value of `mode`; use `read-only`, `copy-on-write` or `overlay`",
        ),
        (
            "/a=m,mode=overlay,mode=overlay",
            "--mount /a=m,mode=overlay,mode=overlay: `mode` is given twice; leave one out",
        ),
        ("/a=m,upper=", "--mount /a=m,upper=: `` is no value of `upper`; name a directory"),
        ("/a=m,commit=", "--mount /a=m,commit=: `` is no value of `commit`; name a ref"),
        (
            "/a=m\nx,\u{1b}=1",
            "--mount /a=m\\nx,\\u{1b}=1: unknown option `\\u{1b}`; the options are `mode=`, `upper=` and `commit=` (a `,` that belongs to a name is written `\\,`)",
        ),
        ("/a=m\\", "--mount /a=m\\: ends in a lone backslash; write `\\\\` for a backslash"),
    ] {
        assert_eq!(mount(argument.as_bytes()).expect_err(argument), message);
    }
    let bad_default = MountSpec::parse_arg(OsStr::new("deps"), Path::new("vrift"));
    assert_eq!(
        bad_default.expect_err("a relative default").to_string(),
        "--mount deps: mount point \"vrift\" is not absolute; begin it with `/` (no mount point was given, so this default was taken)"
    );
}
