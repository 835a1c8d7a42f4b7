//! Jobs on a machine that is made up: real processes, started by the real `vrift-start`; the loader's
//! variable has no effect here, and Endpoint Security tells what the test wants.

#![expect(clippy::tests_outside_test_module, reason = "an integration test is one test module")]

mod fake;

use fake::Fake;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use vrift_events::event::{Access, Event};
use vrift_macos_es::es::decide::{ALL, FREAD, READING, Reply};
use vrift_macos_es::es::event::{Action, EsEvent, File, Process, ProcessKey, What};
use vrift_macos_es::job::Job;
use vrift_policy::Restricted;

#[test]
fn the_exit_status_is_the_commands() {
    let (fake, alone) = (Fake::new(), Fake::alone());
    let (none, mount): (&[&str], &[&str]) = (&[], &["-m", "@/mnt=deps"]);
    for (command, expected) in [
        (&["sh", "-c", "exit 3"][..], 3),
        (&["true"][..], 0),
        (&["sh", "-c", "kill -TERM $$"][..], 143),
        (&["/nonexistent/program"][..], 127),
        (&["no-such-program-anywhere"][..], 127),
        (&["/"][..], 126),
        (&["sh", "-c", "test \"$0 $1\" = 'a  b'", "a", " b"][..], 0),
    ] {
        for (fake, more) in [(&fake, none), (&fake, mount), (&alone, mount)] {
            let arguments = [more, &["--"], command].concat();
            assert_eq!(fake.run(&arguments), Ok(expected), "{arguments:?}");
        }
    }
}

#[test]
fn a_process_of_a_job_is_told_of_it() {
    for restricted in Restricted::ALL {
        let fake = Fake::alone();
        let policy = format!("version = 1\n[macos]\nrestricted = \"{}\"\n", restricted.as_str());
        std::fs::write(fake.path("p.toml"), policy).expect("written");
        let script = "env >@/env; cp \"$VRIFT_SHIM_JOB\" @/job; dirname \"$VRIFT_SHIM_JOB\" >@/private; \
                      ls \"$(dirname \"$VRIFT_SHIM_JOB\")\" >@/inside";
        let arguments =
            ["-p", "@/p.toml", "-m", "@/mnt=deps", "-m", "@/other=deps", "--", "sh", "-c", script];
        assert_eq!(fake.run(&arguments), Ok(0));
        let private = String::from_utf8(fake.read("private")).expect("a path");
        let private = Path::new(private.trim_end());
        assert!(private.starts_with(fake.path("store/jobs")), "{private:?}");
        assert!(!private.exists(), "it goes with the job");
        assert_eq!(fake.read("inside"), b"c\nd\njob\nlease\n");
        let environment = String::from_utf8(fake.read("env")).expect("text");
        let has = |line: &str| environment.lines().any(|entry| entry == line);
        assert!(has("DYLD_INSERT_LIBRARIES=/lib/libvrift_shim.dylib"), "{environment}");
        assert!(has(&format!("VRIFT_SHIM_JOB={}/job", private.display())), "{environment}");
        let bytes = fake.read("job");
        let job = Job::read(&bytes).expect("a job");
        let (store, tree) = (fake.path("store"), fake.path("mnt"));
        assert_eq!(job.store, store.as_os_str().as_bytes());
        assert_eq!(job.private, private.as_os_str().as_bytes());
        assert_eq!((job.library, job.restricted), (&b"/lib/libvrift_shim.dylib"[..], restricted));
        let mounts: Vec<_> = job.mounts().collect();
        assert_eq!(mounts.len(), 2);
        assert_eq!(mounts[0].1, tree.as_os_str().as_bytes());
        let manifest = Path::new(std::ffi::OsStr::from_bytes(mounts[0].0));
        assert!(manifest.starts_with(store.join("manifests")) && manifest.is_file());
    }
}

#[test]
fn what_a_policy_asks_for_and_cant_have_ends_it_before_the_command() {
    let policy = |text: &str| format!("version = 1\n{text}");
    let mount = |more: &str| format!("[[mount]]\nat = \"/mnt/x\"\nmanifest = \"deps\"\n{more}");
    let rule = "[[rule]]\npaths = [\"/etc/**\"]\naccess = \"read-only\"\n";
    for (text, part) in [
        (mount("mode = \"overlay\"\n"), "p.toml:3: mode \"overlay\" isn't there on macOS"),
        (mount("mode = \"copy-on-write\"\n"), "mode \"copy-on-write\" isn't there on macOS"),
        (mount("upper = \"/up\"\n"), "is for changes"),
        (format!("{rule}enforce = \"landlock\"\n"), "p.toml:2: `enforce` is about Landlock"),
        ("[job]\non_leftover = \"wait\"\n".into(), "have the command wait for them"),
        (rule.into(), "rules for real paths are held by Endpoint Security"),
        ("[[mount]]\nat = \"/mnt/x\"\nmanifest = \"gone\"\n".into(), "gone"),
        ("[macos]\nrestricted = \"never\"\n".into(), "p.toml:3: unknown value `never`"),
    ] {
        let fake = Fake::alone();
        std::fs::write(fake.path("p.toml"), policy(&text)).expect("written");
        let done = fake.run(&["-p", "@/p.toml", "--", "touch", "@/ran"]);
        let complaint = done.expect_err(&text);
        assert!(complaint.contains(part), "{complaint}");
        assert_eq!(complaint.lines().count(), 1, "{complaint}");
        assert!(!fake.path("ran").exists(), "{text}");
    }
    let fake = Fake::alone();
    for (arguments, part) in [
        (&["-o", "@/t", "--", "touch", "@/ran"][..], "a trace is what Endpoint Security tells"),
        (&["-m", "@/mnt=deps,mode=overlay", "--", "touch", "@/ran"][..], "isn't there on macOS"),
        (&["-m", "/=deps", "--", "touch", "@/ran"][..], "/"),
        (&["report", "@/t"][..], "report isn't there on macOS: give the trace to"),
        (&["diff", "--json", "x"][..], "diff isn't there on macOS: nothing is kept"),
    ] {
        let complaint = fake.run(arguments).expect_err("refused");
        assert!(complaint.contains(part), "{complaint}");
        assert!(!fake.path("ran").exists() && !fake.path("t").exists());
    }
    // A tree whose contents are elsewhere.
    let store = vrift_store::Store::open(&fake.path("store")).expect("the store");
    let tree = store.resolve("deps").expect("the tree");
    let origin = vrift_store::Origin { place: b"s3://bucket/trees".to_vec(), tree };
    store.set_origin(&tree, &origin).expect("noted");
    let complaint = fake.run(&["-m", "@/mnt=deps", "--", "touch", "@/ran"]).expect_err("refused");
    assert!(complaint.contains("pull it again without --lazy"), "{complaint}");
    assert!(!fake.path("ran").exists());
}

#[test]
fn a_client_that_cant_begin_ends_it_before_the_command() {
    let fake = Fake { fails: true, ..Fake::new() };
    let complaint = fake.run(&["-o", "@/t", "--", "touch", "@/ran"]).expect_err("no client");
    assert!(complaint.contains("too many Endpoint Security clients"), "{complaint}");
    assert!(!fake.path("ran").exists());
}

/// What is told of a job whose first process has that pid: it opens a file, has its child remove one of
/// the tree and one of its own, and ends; then numbers are missing.
fn story(pid: i32, dir: &Path) -> Vec<EsEvent> {
    let process = |pid, parent| Process {
        key: ProcessKey { pid, version: 7 },
        parent,
        executable: b"/bin/sh".to_vec(),
        platform: false,
        client: false,
        signing: 0,
    };
    let file = |name: &str| File {
        path: dir.join(name).into_os_string().into_encoded_bytes(),
        truncated: false,
        kind: File::REGULAR,
    };
    let event = |action, seq, name: &str, process, what| EsEvent {
        action,
        client: 0,
        name: name.into(),
        seq: None,
        global_seq: Some(seq),
        at: 1_000 + seq,
        deadline: (action == Action::Auth).then_some(1_000_000),
        process,
        what,
    };
    let (first, child, stranger) =
        (|| process(pid, 1), || process(pid + 1, pid), || process(pid + 9, 1));
    let open = |name: &str| What::Open(file(name), FREAD);
    vec![
        event(Action::Auth, 0, "open", stranger(), open("mnt/a.h")),
        event(Action::Auth, 1, "open", first(), open("mnt/a.h")),
        event(Action::Notify, 2, "open", first(), open("mnt/a.h")),
        event(Action::Auth, 3, "open", first(), open("own")),
        event(Action::Notify, 4, "fork", first(), What::Fork(child())),
        event(Action::Auth, 5, "unlink", child(), What::Unlink(file("mnt/a.h"))),
        event(Action::Auth, 6, "unlink", child(), What::Unlink(file("own"))),
        event(Action::Notify, 7, "unlink", child(), What::Unlink(file("own"))),
        event(Action::Notify, 10, "exit", child(), What::Exit(0)),
    ]
}

/// The last line.
fn end(trace: &vrift_events::reader::Trace) -> &vrift_events::event::End {
    match trace.events.last() {
        Some(Event::End(end)) => end,
        other => panic!("the trace is cut: {other:?}"),
    }
}

#[test]
fn what_is_told_is_answered_and_becomes_the_trace() {
    let fake = Fake { events: Some(story), ..Fake::new() };
    let script = "echo $$ >@/pid.new && mv @/pid.new @/pid";
    let arguments = ["-m", "@/mnt=deps", "-o", "@/t", "--", "sh", "-c", script];
    assert_eq!(fake.run(&arguments), Ok(0));
    let answers = fake.answers.lock().expect("the answers").clone();
    let (all, reading) = (Reply::Flags(ALL), Reply::Flags(READING));
    let expected = [
        ("open", all),
        ("open", reading),
        ("open", all),
        ("unlink", Reply::Deny),
        ("unlink", Reply::Allow),
    ];
    assert_eq!(answers, expected.map(|(name, reply)| (name.to_owned(), reply)));
    let trace = vrift_events::reader::read(&fake.path("t")).expect("a trace");
    let pid: i32 =
        String::from_utf8(fake.read("pid")).expect("text").trim().parse().expect("a pid");
    assert_eq!(trace.job.kernel, "macOS 14.5");
    assert_eq!(trace.job.mounts.len(), 1);
    let mut starts = Vec::new();
    let mut ops = Vec::new();
    for event in &trace.events {
        match event {
            Event::Start(start) => starts.push((start.process, start.pid, start.parent)),
            Event::Op(op) => ops.push((op.process, op.access, op.err.as_deref() == Some("EPERM"))),
            _ => {}
        }
    }
    assert_eq!(starts, [(1, pid, None), (2, pid + 1, Some(1))]);
    let expected =
        [(1, Access::Read, false), (2, Access::Delete, true), (2, Access::Delete, false)];
    assert_eq!(ops, expected);
    let last = end(&trace);
    assert_eq!((last.status, last.lost), (0, 2));
}

#[test]
fn reads_are_left_out_of_a_trace_that_says_so() {
    let fake = Fake { events: Some(story), ..Fake::new() };
    let policy = "version = 1\n[trace]\nreads = false\n";
    std::fs::write(fake.path("p.toml"), policy).expect("written");
    let script = "echo $$ >@/pid.new && mv @/pid.new @/pid; exit 7";
    let arguments = ["-p", "@/p.toml", "-m", "@/mnt=deps", "-o", "@/t", "--", "sh", "-c", script];
    assert_eq!(fake.run(&arguments), Ok(7));
    let trace = vrift_events::reader::read(&fake.path("t")).expect("a trace");
    assert!(!trace.job.reads);
    let read = |event: &Event| matches!(event, Event::Op(op) if op.access == Access::Read);
    assert!(!trace.events.iter().any(read));
    assert_eq!(end(&trace).status, 7);
}

#[test]
fn doctor_fails_where_a_needed_thing_is_missing() {
    let mut fake = Fake::new();
    assert_eq!(fake.run(&["doctor", "--json"]), Ok(0));
    fake.facts.library = Err("there is none".into());
    assert_eq!(fake.run(&["doctor"]), Ok(1));
    assert_eq!(fake.run(&["policy", "schema"]), Ok(0));
}
