//! What is learnt from a few calls, as the text of the policy.

use super::*;
use crate::trace::event::Event;
use crate::trace::reader::Trace;
use serde_json::json;

fn model(cwd: &str, ops: &[serde_json::Value]) -> Model {
    let job = json!({
        "event": "job", "version": 1, "program": "t", "began": 0, "command": ["t"], "cwd": cwd,
        "kernel": "6", "machine": "m", "mounts": [], "reads": true, "probes": true,
    });
    let Ok(Event::Job(job)) = serde_json::from_value(job) else { panic!("a job") };
    let mut events = vec![json!({"event": "start", "t": 0, "process": 1, "pid": 9})];
    for (n, op) in (1..).zip(ops) {
        let mut op = op.clone();
        let more = json!({"event": "op", "t": n, "n": n, "process": 1});
        for (key, value) in more.as_object().expect("an object") {
            op[key] = value.clone();
        }
        events.push(op);
    }
    let events = events.into_iter().map(|e| serde_json::from_value(e).expect("an event")).collect();
    Model::new(Trace { job, events, cut: false })
}

fn around(job: &str) -> Surroundings {
    Surroundings { home: Some("/home/u".into()), job: job.into(), ..Surroundings::default() }
}

fn op(call: &str, access: &str, path: &str) -> serde_json::Value {
    json!({"call": call, "access": access, "path": path, "kind": "file"})
}

fn with(
    mut op: serde_json::Value,
    key: &str,
    value: impl Into<serde_json::Value>,
) -> serde_json::Value {
    op[key] = value.into();
    op
}

fn runs(path: &str) -> serde_json::Value {
    with(op("execve", "exec", path), "exec", json!({"argv": [path], "env": "0".repeat(64)}))
}

fn learnt(ops: &[serde_json::Value], old: Option<&str>) -> Learnt {
    let old = old.map(|text| (Path::new("p.toml"), text));
    learn(&[model("/home/u/job", ops)], &[], old, &around("/home/u/job")).expect("a policy")
}

/// The patterns of the rule with this reason.
fn patterns(text: &str, reason: &str) -> Vec<String> {
    let policy = Policy::parse(text, Path::new("p.toml")).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let rules = policy.rules.iter().filter(|rule| rule.reason.as_deref() == Some(reason));
    rules.flat_map(|rule| rule.paths.iter().map(|path| path.pattern.clone())).collect()
}

const HIDDEN: &str = "learnt: nobody needed it";
const NAMED: &str = "learnt: looked at, or listed, and not opened";
const READ: &str = "learnt: read";
const CHANGED: &str = "learnt: made or changed";
const RUN: &str = "learnt: run";
const RUN_ONLY: &str = "learnt: run where another rule says what else may be done";

#[test]
fn what_belongs_together_is_one_pattern() {
    let mut ops = vec![
        runs("/usr/bin/no-such-make"),
        op("openat", "read", "/usr/include/no-such/a.h"),
        op("openat", "read", "/usr/include/no-such/sys/b.h"),
        op("openat", "read", "/usr/lib/no-such-gcc/x86/12/specs"),
        op("openat", "read", "/usr/lib/no-such-gcc/x86/12/include/c.h"),
        op("openat", "read", "/etc/no-such.conf"),
        op("openat", "read", "/home/u/.no-such-rc"),
        op("openat", "create", "/tmp/ccA1b2C3.s"),
        op("unlink", "delete", "/tmp/ccA1b2C3.s"),
        op("openat", "create", "/tmp/ccZ9y8X7.s"),
        op("unlink", "delete", "/tmp/ccZ9y8X7.s"),
        op("openat", "read", "/home/u/job/Makefile"),
        with(op("mkdir", "create", "/home/u/job/out"), "kind", "dir"),
        op("openat", "create", "/home/u/job/out/deep.o"),
        op("openat", "create", "/home/u/job/one.d"),
    ];
    for name in ["a", "b", "c", "d"] {
        ops.push(op("openat", "read", &format!("/home/u/job/src/{name}.c")));
        ops.push(op("openat", "create", &format!("/home/u/job/src/{name}.o")));
    }
    let text = learnt(&ops, None).text;
    assert_eq!(patterns(&text, HIDDEN), ["/**"], "the way to what is open is open: {text}");
    assert_eq!(
        patterns(&text, READ),
        [
            "${job}/Makefile",
            "${job}/src/*.c",
            "/etc/no-such.conf",
            "/usr/include/no-such",
            "/usr/lib/no-such-gcc/x86/12",
            "~/.no-such-rc",
        ]
    );
    assert_eq!(
        patterns(&text, CHANGED),
        ["${job}/one.d", "${job}/out", "${job}/src/*.o", "/tmp/cc??????.s"]
    );
    assert_eq!(patterns(&text, RUN), ["/usr/bin/no-such-make"]);
    assert!(text.contains("# by no-such-make\n    \"/etc/no-such.conf\""), "{text}");
    assert_eq!(learnt(&ops, None).text, text, "the same comes of the same");
    assert_eq!(learnt(&ops, Some(&text)).text, text, "learning it again changes nothing");
}

#[test]
fn what_was_not_opened_is_not_opened() {
    let dir = |op| with(op, "kind", "dir");
    let failed = |op, err: &str| with(op, "err", err);
    let text = learnt(
        &[
            op("newfstatat", "stat", "/srv/no-such/seen"),
            with(op("access", "stat", "/srv/no-such/readable"), "asks", "r"),
            with(op("access", "stat", "/srv/no-such/program"), "asks", "x"),
            op("getxattr", "stat", "/srv/no-such/attributes"),
            dir(op("newfstatat", "stat", "/srv/no-such/dir")),
            dir(op("openat", "list", "/srv/no-such/listed")),
            op("newfstatat", "stat", "/srv/no-such/listed/name"),
            failed(dir(op("mkdir", "create", "/srv/no-such/made-before")), "EEXIST"),
            failed(op("newfstatat", "probe", "/srv/no-such/none"), "ENOENT"),
            dir(op("openat", "write", "/srv/no-such/tmpfile")),
        ],
        None,
    )
    .text;
    assert_eq!(
        patterns(&text, HIDDEN),
        [
            "${job}/**",
            "/**",
            "/srv/no-such/dir/**",
            "/srv/no-such/made-before/**",
            "/srv/no-such/tmpfile/**"
        ]
    );
    assert_eq!(patterns(&text, NAMED), ["/srv/no-such/listed/*", "/srv/no-such/seen"]);
    assert_eq!(
        patterns(&text, READ),
        [
            "${job}",
            "/srv/no-such/attributes",
            "/srv/no-such/dir",
            "/srv/no-such/listed",
            "/srv/no-such/made-before",
            "/srv/no-such/readable",
        ]
    );
    assert_eq!(patterns(&text, CHANGED), ["/srv/no-such/tmpfile"]);
    assert_eq!(patterns(&text, RUN), ["/srv/no-such/program"]);
}

#[test]
fn what_is_made_and_run_is_both() {
    let ops = [
        op("openat", "create", "/home/u/job/tool"),
        runs("/home/u/job/tool"),
        with(op("mkdir", "create", "/home/u/job/out"), "kind", "dir"),
        op("openat", "create", "/home/u/job/out/tool"),
        runs("/home/u/job/out/tool"),
    ];
    let text = learnt(&ops, None).text;
    assert_eq!(patterns(&text, CHANGED), ["${job}/out", "${job}/tool"]);
    assert_eq!(patterns(&text, RUN_ONLY), ["${job}/out/tool", "${job}/tool"]);
}

/// What would be changed in vain where a rule lets nobody write is still looked for in vain.
#[test]
fn what_was_not_there_stays_missing() {
    let ops = [
        op("openat", "read", "/usr/share/no-such/a"),
        op("openat", "read", "/usr/share/no-such/b"),
        with(op("unlink", "delete", "/usr/share/no-such/c"), "err", "ENOENT"),
    ];
    let text = learnt(&ops, None).text;
    assert_eq!(patterns(&text, READ), ["${job}", "/usr/share/no-such"]);
    assert_eq!(patterns(&text, HIDDEN), ["${job}/**", "/**", "/usr/share/no-such/c"]);
}

#[test]
fn what_somebody_wrote_stays() {
    let old = r#"# ours
version = 1 # first

[job]
name = "ci"   # a name

[[rule]]
# never
paths = ["~/.ssh/**"] # keys
access = "hide"
reason = "secrets"

[[rule]]
paths = ["${job}/build"]
access = "read-write"

[trace]
probes = true
"#;
    let mut ops = vec![
        op("openat", "read", "/etc/no-such-a"),
        op("openat", "create", "/home/u/job/build/x"),
        with(op("openat", "read", "/home/u/.ssh/id"), "refused", json!({"why": "secrets"})),
    ];
    ops[2]["err"] = "ENOENT".into();
    let first = learnt(&ops, Some(old));
    assert_eq!(first.refused, 1);
    for part in old.split_inclusive('\n').filter(|line| !line.trim().is_empty()) {
        assert!(first.text.contains(part), "{part:?} is gone:\n{}", first.text);
    }
    assert_eq!(patterns(&first.text, READ), ["${job}", "/etc/no-such-a"]);
    assert!(patterns(&first.text, CHANGED).is_empty(), "another rule allows it:\n{}", first.text);
    // Somebody adds a word to what was learnt, and other rules behind it.
    let edited = first
        .text
        .replace("    \"/etc/no-such-a\"", "    # for the locale\n    \"/etc/no-such-a\"");
    let edited = edited + "\n# last\n[[rule]]\npaths = [\"/srv\"]\naccess = \"deny\"\n";
    let more = [op("openat", "read", "/etc/no-such-b"), op("openat", "write", "/etc/no-such-a")];
    let second = learnt(&more, Some(&edited)).text;
    assert_eq!(patterns(&second, READ), ["${job}", "/etc/no-such-b"]);
    assert_eq!(patterns(&second, CHANGED), ["/etc/no-such-a"], "more was needed of it");
    assert!(second.contains("# last\n[[rule]]\npaths = [\"/srv\"]"), "{second}");
    assert!(second.contains("paths = [\"~/.ssh/**\"] # keys"), "{second}");
    assert_eq!(learnt(&more, Some(&second)).text, second);
}

#[test]
fn mounts_are_written_and_what_is_in_them_is_not() {
    let mut trace = model(
        "/home/u/job",
        &[
            with(op("openat", "read", "/vrift/deps/a"), "mount", "/vrift/deps"),
            op("openat", "read", "/etc/no-such"),
        ],
    );
    let mount = json!({
        "at": "/vrift/deps", "manifest": "deps", "hash": "0".repeat(64), "mode": "overlay",
        "argument": "/vrift/deps=deps,mode=overlay,upper=/u",
    });
    trace.job.mounts = vec![serde_json::from_value(mount).expect("a mount")];
    let traces = [trace];
    let mounts = mounts(&traces).expect("mounts");
    let text = learn(&traces, &mounts, None, &around("/home/u/job")).expect("a policy").text;
    let policy =
        Policy::parse(&text, Path::new("p.toml")).unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(policy.mounts.len(), 1);
    assert_eq!(policy.mounts[0].upper, Some("/u".into()));
    assert_eq!(patterns(&text, READ), ["${job}", "/etc/no-such"]);
}

#[test]
fn what_a_policy_would_have_refused_is_told() {
    let trace = model(
        "/home/u/job",
        &[
            runs("/bin/no-such"),
            op("openat", "read", "/etc/no-such"),
            op("openat", "read", "/etc/no-such"),
            op("openat", "write", "/srv/x"),
            with(op("newfstatat", "probe", "/etc/none"), "err", "ENOENT"),
        ],
    );
    let text = "version = 1\n[[rule]]\npaths = [\"/etc\"]\naccess = \"hide\"\nreason = \"not ours\"\n\
                [[rule]]\npaths = [\"/srv\"]\naccess = \"read-only\"\n\
                [[rule]]\npaths = [\"/bin\"]\nexec = false\n";
    let policy = Policy::parse(text, Path::new("p.toml")).expect("a policy");
    let lines = refused_by(&policy, &[trace], &around("/")).expect("lines");
    assert_eq!(
        lines,
        [
            "exec /bin/no-such: EACCES, by \"/bin\" (p.toml:10); no-such",
            "read /etc/no-such: ENOENT because of /etc, by \"/etc\" (p.toml:3: not ours); no-such, 2 times",
            "write /srv/x: EROFS, by \"/srv\" (p.toml:7); no-such",
        ]
    );
}

#[test]
fn what_can_not_be_learnt_from_is_said() {
    let told = |traces: &[Model], old: &str| {
        learn(traces, &[], Some((Path::new("p.toml"), old)), &around("/")).expect_err("a fault")
    };
    let trace = || model("/home/u/job", &[op("openat", "read", "/etc/no-such")]);
    assert_eq!(
        told(&[trace()], "version = 1\nrule = [{ paths = [\"/a\"], access = \"deny\" }]\n"),
        "p.toml: `rule` is a list in brackets, which can't be added to; write each as [[rule]]"
    );
    assert!(told(&[trace()], "version = 1\n[[rule]]\npaths = 1\n").starts_with("p.toml:3: "));
    assert!(
        told(&[trace(), model("/other", &[])], "version = 1\n").contains("different directories")
    );
    let mut without = trace();
    without.job.probes = false;
    assert!(told(&[without], "version = 1\n").contains("[trace]"));
}
