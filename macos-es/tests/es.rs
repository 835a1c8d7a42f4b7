//! The Endpoint Security client over synthetic events: what is allowed, what is recorded, what is
//! noticed as lost, and that every event that asks is answered once and in time.

#![expect(clippy::tests_outside_test_module, reason = "an integration test is one test module")]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use vrift_events::event::{Access, Event, Kind};
use vrift_macos_es::es::adapter::{Endpoint, EndpointError, Message};
use vrift_macos_es::es::client::Client;
use vrift_macos_es::es::decide::{ALL, FREAD, FWRITE, Guard, O_TRUNC, READING, Reply, decide};
use vrift_macos_es::es::event::{Action, Change, EsEvent, File, Look, Process, ProcessKey, What};
use vrift_macos_es::es::json::{LineError, Reader};
use vrift_macos_es::es::mute::{Mute, Plan, plan};
use vrift_macos_es::es::record::Recorder;
use vrift_macos_es::es::tree::ProcessTree;
use vrift_policy::{Policy, Surroundings};

const FIRST: ProcessKey = ProcessKey { pid: 500, version: 10 };

fn fixture(name: &str) -> BufReader<std::fs::File> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/eslogger").join(name);
    BufReader::new(std::fs::File::open(path).expect("a fixture"))
}

fn guard(rules: &str) -> Guard {
    let text = format!(
        "version = 1\n[[mount]]\nat = \"/vrift/deps\"\nmanifest = \"deps\"\n\
         [[mount]]\nat = \"/opt/tools\"\nmanifest = \"tools\"\n{rules}"
    );
    let policy = Policy::parse(&text, Path::new("vrift.toml")).expect("a policy");
    let around = Surroundings { home: Some("/Users/u".into()), ..Surroundings::default() };
    let places = (Path::new("/Users/u/store"), Path::new("/Users/u/store/jobs/j"));
    Guard::new(&policy, Some(places), &around).expect("rules")
}

fn process(pid: i32, version: u32, parent: i32) -> Process {
    Process {
        key: ProcessKey { pid, version },
        parent,
        executable: b"/bin/sh".to_vec(),
        platform: false,
        client: false,
        signing: 0,
    }
}

fn event(process: Process, what: What) -> EsEvent {
    EsEvent {
        action: Action::Auth,
        client: 0,
        name: "event".into(),
        seq: None,
        global_seq: None,
        at: 1_000,
        deadline: Some(2_000),
        process,
        what,
    }
}

fn file(path: &str) -> File {
    File { path: path.into(), truncated: false, kind: File::REGULAR }
}

fn dir(path: &str) -> File {
    File { kind: File::DIRECTORY, ..file(path) }
}

fn ours(what: What) -> EsEvent {
    event(process(500, 10, 1), what)
}

#[test]
fn what_may_happen() {
    let tree = ProcessTree::of(FIRST);
    let guard = guard(
        "[[rule]]\npaths = [\"/etc/**\"]\naccess = \"read-only\"\n\
         [[rule]]\npaths = [\"~/.ssh/**\"]\naccess = \"hide\"\n\
         [[rule]]\npaths = [\"/private/**\"]\naccess = \"deny\"\n\
         [[rule]]\npaths = [\"/Users/u/bad/**\"]\nexec = false\n",
    );
    let run = |path: &str| What::Exec {
        target: process(500, 11, 1),
        file: file(path),
        args: Vec::new(),
        env: Vec::new(),
        cwd: None,
        script: None,
    };
    let open = |path: &str| What::Open(file(path), FREAD);
    let rename = |from: &str, to: &str| What::Rename(file(from), file(to));
    let change = |change, path: &str| What::Change(change, file(path));
    let blob = "/Users/u/store/blobs/ab/abcd";
    let clone = "/Users/u/store/jobs/j/c/0/run";
    let (yes, no) = (Reply::Allow, Reply::Deny);
    for (what, expected) in [
        // Opens: by what may be had, not by what is asked for.
        (open("/Users/u/src/a.c"), Reply::Flags(ALL)),
        (open("/vrift/deps/a.h"), Reply::Flags(READING)),
        (open(blob), Reply::Flags(READING)),
        (open(clone), Reply::Flags(READING)),
        (open("/etc/hosts"), Reply::Flags(READING)),
        (open("/Users/u/.ssh/key"), Reply::Flags(0)),
        (open("/private/x"), Reply::Flags(0)),
        (open("/vrift/depsother"), Reply::Flags(ALL)),
        (What::Open(dir("/vrift/deps"), FREAD), Reply::Flags(READING)),
        // Names.
        (What::Create(file("/Users/u/src/a.o")), yes),
        (What::Create(file("/vrift/deps/new")), no),
        (What::Create(file("/opt/tools/new")), no),
        (What::Create(file("/Users/u/store/refs/x")), no),
        (What::Create(dir("/Users/u/store/jobs/j/d/0-3")), yes),
        (What::Create(file("/etc/new")), no),
        (What::Create(file("/private/new")), no),
        (What::Unlink(file("/Users/u/src/a.o")), yes),
        (What::Unlink(file(blob)), no),
        (What::Unlink(file(clone)), no),
        (What::Unlink(dir("/opt/tools")), no),
        (What::Unlink(dir("/Users/u")), no),
        (What::Unlink(file("/etc/hosts")), no),
        (rename("/Users/u/src/a", "/Users/u/src/b"), yes),
        (rename("/Users/u/src/a", blob), no),
        (rename(blob, "/Users/u/src/b"), no),
        (rename("/opt", "/opt2"), no),
        (rename("/Users/u/src/a", "/opt/tools"), no),
        (rename("/etc/hosts", "/Users/u/hosts"), no),
        (What::Exchange(file("/Users/u/a"), file(blob)), no),
        (What::Link(file(blob), file("/Users/u/src/b")), no),
        (What::Link(file("/Users/u/src/a"), file("/Users/u/src/b")), yes),
        (What::Link(file("/etc/hosts"), file("/Users/u/src/b")), no),
        // A clone is no other name.
        (What::Clone(file(blob), file("/Users/u/src/b")), yes),
        (What::Clone(file(blob), file(clone)), yes),
        (What::Clone(file("/Users/u/src/a"), file("/vrift/deps/b")), no),
        (What::Clone(file("/private/x"), file("/Users/u/src/b")), no),
        // Changes.
        (change(Change::Mode, blob), no),
        (change(Change::Mode, clone), yes),
        (change(Change::Truncate, clone), no),
        (change(Change::Flags, blob), no),
        (change(Change::Xattr, "/vrift/deps/a.h"), no),
        (change(Change::Owner, "/Users/u/src/a"), yes),
        (change(Change::Times, "/etc/hosts"), no),
        (change(Change::Acl, "/private/x"), no),
        // Running and looking.
        (run("/opt/tools/cc"), yes),
        (run("/Users/u/bad/x"), no),
        (run("/private/x"), no),
        (What::Look(Look::Stat, file("/private/x")), yes),
        (What::Look(Look::ReadLink, File { kind: File::LINK, ..file("/private/l") }), no),
        (What::Look(Look::Enter, dir("/Users/u/.ssh/d")), no),
        (What::Mount(b"/Users/u/mnt".to_vec()), yes),
        (What::Mount(b"/vrift".to_vec()), no),
        (What::Mount(b"/vrift/deps/x".to_vec()), no),
        (What::Unknown("news".into()), yes),
    ] {
        let event = ours(what);
        assert_eq!(decide(&event, &tree, &guard), expected, "{:?}", event.what);
        // Nobody else's processes are touched, nor other clients.
        let other = EsEvent { process: process(900, 1, 1), ..event.clone() };
        assert!(matches!(decide(&other, &tree, &guard), Reply::Allow | Reply::Flags(ALL)));
        let told = EsEvent { action: Action::Notify, ..event };
        assert!(matches!(decide(&told, &tree, &guard), Reply::Allow | Reply::Flags(ALL)));
    }
}

#[test]
fn a_guard_without_mounts_keeps_nothing() {
    let text = "version = 1\n[[rule]]\npaths = [\"/etc/**\"]\naccess = \"read-only\"\n";
    let policy = Policy::parse(text, Path::new("vrift.toml")).expect("a policy");
    let guard = Guard::new(&policy, None, &Surroundings::default()).expect("rules");
    assert!(guard.trees().is_empty() && guard.private().is_none() && guard.has_rules());
    let tree = ProcessTree::of(FIRST);
    let asked = |what| decide(&ours(what), &tree, &guard);
    assert_eq!(asked(What::Unlink(file("/Users/u/a"))), Reply::Allow);
    assert_eq!(asked(What::Create(file("/a"))), Reply::Allow);
    assert_eq!(asked(What::Unlink(file("/etc/hosts"))), Reply::Deny);
}

#[test]
fn flags_are_a_mask_that_can_be_kept() {
    for (reply, flags, lets) in [
        (Reply::Flags(ALL), FREAD | FWRITE | O_TRUNC, true),
        (Reply::Flags(READING), FREAD, true),
        (Reply::Flags(READING), FREAD | FWRITE, false),
        (Reply::Flags(READING), FREAD | O_TRUNC, false),
        // A flag of a later release.
        (Reply::Flags(READING), FREAD | 0x4000_0000, true),
        (Reply::Flags(0), FREAD, false),
        (Reply::Allow, FWRITE, true),
        (Reply::Deny, FREAD, false),
    ] {
        assert_eq!(reply.lets(flags), lets, "{reply:?} {flags:#x}");
    }
    // The mask does not depend on what was asked for.
    let (tree, guard) = (ProcessTree::of(FIRST), guard(""));
    let masks = [FREAD, FWRITE, FREAD | FWRITE, 0]
        .map(|flags| decide(&ours(What::Open(file("/vrift/deps/a.h"), flags)), &tree, &guard));
    assert_eq!(masks, [Reply::Flags(READING); 4]);
}

#[test]
fn the_tree_follows_fork_exec_and_pids_that_are_given_anew() {
    let mut tree = ProcessTree::of(FIRST);
    let number = |tree: &ProcessTree, pid, version| {
        tree.get(ProcessKey { pid, version }).map(|member| (member.number, member.parent))
    };
    let told = |process, what| EsEvent { action: Action::Notify, ..event(process, what) };
    let exec = |target: Process| What::Exec {
        target,
        file: file("/bin/x"),
        args: Vec::new(),
        env: Vec::new(),
        cwd: None,
        script: None,
    };
    let first = || process(500, 10, 1);
    assert_eq!(tree.note(&told(first(), What::Fork(process(501, 11, 500)))), [2]);
    assert_eq!(number(&tree, 501, 11), Some((2, Some(1))));
    tree.note(&told(process(501, 11, 500), exec(process(501, 12, 500))));
    assert_eq!(number(&tree, 501, 12), Some((2, Some(1))));
    assert_eq!(number(&tree, 501, 11), None);
    // An exec that was not told.
    let look = || What::Look(Look::Stat, file("/x"));
    assert_eq!(tree.note(&told(process(501, 15, 500), look())), [0u32; 0]);
    assert_eq!(number(&tree, 501, 15), Some((2, Some(1))));
    // A fork that was not told.
    assert_eq!(tree.note(&told(process(502, 16, 501), look())), [3]);
    assert_eq!(number(&tree, 502, 16), Some((3, Some(2))));
    assert!(tree.get(ProcessKey { pid: 502, version: 16 }).is_some_and(|m| m.guessed));
    // Its fork comes late.
    assert_eq!(tree.note(&told(process(501, 15, 500), What::Fork(process(502, 16, 501)))), [0; 0]);
    // A stranger, and a client of ES.
    tree.note(&told(process(900, 20, 1), look()));
    assert_eq!(number(&tree, 900, 20), None);
    let client = Process { client: true, ..process(503, 21, 501) };
    tree.note(&told(client, look()));
    assert_eq!(number(&tree, 503, 21), None);
    // An end, and the pid given anew to a stranger.
    tree.ended(ProcessKey { pid: 502, version: 16 });
    assert_eq!(number(&tree, 502, 16), None);
    tree.note(&told(process(502, 30, 1), look()));
    assert_eq!(number(&tree, 502, 30), None);
    // An end that was not told, and the pid given anew to a stranger: no member any more.
    tree.note(&told(process(501, 31, 1), look()));
    assert_eq!(number(&tree, 501, 31), None);
    assert_eq!(number(&tree, 501, 15), None);
    assert_eq!(tree.len(), 1);
    assert!(!tree.is_empty());
}

#[test]
fn the_first_process_is_known_by_its_pid_until_its_version_is_told() {
    let mut tree = ProcessTree::awaiting(500);
    let told = |process, what| EsEvent { action: Action::Notify, ..event(process, what) };
    let look = || What::Look(Look::Stat, file("/x"));
    // Whoever else is told of first is a stranger, a child of its own pid's too.
    assert_eq!(tree.note(&told(process(400, 7, 1), look())), [0u32; 0]);
    assert_eq!(tree.note(&told(process(501, 8, 500), look())), [0u32; 0]);
    assert_eq!(tree.note(&told(process(500, 10, 1), look())), [1]);
    assert_eq!(tree.get(FIRST).map(|member| (member.number, member.parent)), Some((1, None)));
    assert_eq!(tree.note(&told(process(501, 8, 500), look())), [2]);
    // Once it has ended, the pid is anybody's.
    tree.ended(FIRST);
    assert_eq!(tree.note(&told(process(500, 90, 1), look())), [0u32; 0]);
}

/// The answers to all messages, in order; None: one was dropped without.
type Answers = Rc<RefCell<Vec<(String, Option<Reply>)>>>;

/// A message of the mock's: it notes its answer, and that there was none.
struct Mock {
    event: EsEvent,
    answers: Answers,
    fails: bool,
    answered: bool,
}

impl Message for Mock {
    fn event(&self) -> &EsEvent {
        &self.event
    }

    fn answer(mut self, reply: Reply, keep: bool) -> Result<(), EndpointError> {
        assert!(!keep, "what is the job's is not another's");
        let open = matches!(self.event.what, What::Open(..));
        assert_eq!(open, matches!(reply, Reply::Flags(_)), "an open takes flags, and only an open");
        self.answered = true;
        self.answers.borrow_mut().push((self.event.name.clone(), Some(reply)));
        if self.fails { Err(EndpointError::Other(3)) } else { Ok(()) }
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        if !self.answered {
            self.answers.borrow_mut().push((self.event.name.clone(), None));
        }
    }
}

#[derive(Default)]
struct Framework {
    messages: VecDeque<Mock>,
    answers: Answers,
    now: u64,
    begun: Vec<Plan>,
}

impl Framework {
    fn say(&mut self, event: EsEvent, fails: bool) {
        let answers = Rc::clone(&self.answers);
        self.messages.push_back(Mock { event, answers, fails, answered: false });
    }
}

impl Endpoint for Framework {
    type Message = Mock;

    fn begin(&mut self, plan: &Plan) -> Result<(), EndpointError> {
        self.begun.push(plan.clone());
        Ok(())
    }

    fn next(&mut self) -> Option<Mock> {
        self.messages.pop_front()
    }

    fn now(&self) -> u64 {
        self.now
    }
}

#[test]
fn every_event_that_asks_is_answered_once() {
    let guard = guard("");
    let mut client = Client::new(&guard, ProcessTree::of(FIRST));
    let mut recorder = Recorder::new(0, vec!["/vrift/deps".into()]);
    let mut framework = Framework { now: 1_100, ..Framework::default() };
    framework.begin(&plan(&guard, true, FIRST, (14, 0))[0]).expect("begun");
    let write = || What::Open(file("/vrift/deps/a.h"), FREAD | FWRITE);
    framework.say(ours(write()), false);
    framework.say(EsEvent { action: Action::Notify, ..ours(write()) }, false);
    framework.say(ours(What::Unlink(file("/Users/u/src/a"))), true);
    framework.say(ours(What::Unlink(file("/vrift/deps/a.h"))), false);
    let taken = client.run(&mut framework, &mut recorder);
    assert_eq!(taken, Err(EndpointError::Other(3)), "the rest was dealt with all the same");
    let answers: Vec<Option<Reply>> =
        framework.answers.borrow().iter().map(|(_, reply)| *reply).collect();
    assert_eq!(answers, [Some(Reply::Flags(READING)), None, Some(Reply::Allow), Some(Reply::Deny)]);
    let tally = client.tally();
    assert_eq!((tally.events, tally.asked, tally.refused), (4, 3, 2));
    assert_eq!((tally.late, tally.failed), (0, 1));
    assert_eq!(framework.begun.len(), 1);
    // What was refused is in the trace; what was asked and allowed comes with the telling.
    let ops: Vec<_> = recorder.take().into_iter().filter_map(op).collect();
    let shown: Vec<_> =
        ops.iter().map(|op| (op.access, op.err.as_deref(), op.refused.is_some())).collect();
    assert_eq!(
        shown,
        [
            (Access::Write, Some("EPERM"), true),
            (Access::Write, None, false),
            (Access::Delete, Some("EPERM"), true)
        ]
    );
    assert_eq!(ops[0].mount, Some("/vrift/deps".into()));
}

fn op(event: Event) -> Option<vrift_events::event::Op> {
    match event {
        Event::Op(op) => Some(*op),
        _ => None,
    }
}

/// When the time is nearly over the answer is the careful one, and goes out at once.
#[test]
fn an_answer_that_would_come_late_is_given_at_four_fifths() {
    let guard = guard("");
    for (now, expected, late) in
        [(1_799, Reply::Allow, 0), (1_800, Reply::Deny, 1), (5_000, Reply::Deny, 1)]
    {
        let mut client = Client::new(&guard, ProcessTree::of(FIRST));
        let mut framework = Framework { now, ..Framework::default() };
        framework.say(ours(What::Unlink(file("/Users/u/src/a"))), false);
        framework.say(ours(What::Look(Look::Stat, file("/Users/u/src/a"))), false);
        framework.say(ours(What::Open(file("/Users/u/src/a"), FREAD)), false);
        client.run(&mut framework, &mut Recorder::default()).expect("answered");
        let answers = framework.answers.borrow();
        assert_eq!(answers[0].1, Some(expected), "{now}");
        assert_eq!(answers[1].1, Some(Reply::Allow));
        let flags = if late == 1 { READING } else { ALL };
        assert_eq!(answers[2].1, Some(Reply::Flags(flags)));
        assert_eq!(client.tally().late, late * 3);
    }
}

/// The synthetic recording, from JSON to the events of a trace.
#[test]
fn a_recording_becomes_a_trace() {
    let guard = guard("");
    let mut client = Client::new(&guard, ProcessTree::of(FIRST));
    let mut recorder = Recorder::new(1_000_000, vec!["/vrift/deps".into()]);
    let mut framework = Framework::default();
    for event in Reader::new(fixture("build.jsonl")) {
        framework.say(event.expect("an event"), false);
    }
    client.run(&mut framework, &mut recorder).expect("nothing to answer");
    assert!(client.gaps().complete());
    assert!(client.tree().is_empty(), "all have ended");
    let events = recorder.take();
    // What a trace of the Linux side's is read as.
    for event in &events {
        let line = serde_json::to_string(event).expect("a line");
        assert_eq!(&serde_json::from_str::<Event>(&line).expect("read again"), event);
    }
    let shown: Vec<String> = events.iter().map(shown).collect();
    assert_eq!(
        shown,
        [
            "start 2 pid 501 parent Some(1)",
            "1 2 exec exec /opt/tools/cc",
            "2 2 stat stat /Users/u/src/main.c",
            "3 2 open read /Users/u/src/main.c",
            "4 2 open read /vrift/deps/include/a.h in /vrift/deps",
            "5 2 open list /Users/u/src",
            "6 2 access stat /Users/u/src asks rw",
            "7 2 create create /Users/u/src/main.o.tmp",
            "8 2 open write /Users/u/src/main.o.tmp and reads",
            "9 2 setmode write /Users/u/src/main.o.tmp",
            "10 2 rename delete /Users/u/src/main.o.tmp",
            "10 2 rename create /Users/u/src/main.o",
            "exit 2 Some(0) None",
            "11 1 unlink delete /Users/u/src/old.o",
            "exit 1 Some(1) None",
        ]
    );
    let exec = events.iter().find_map(|event| match event {
        Event::Op(op) => op.exec.clone(),
        _ => None,
    });
    let exec = exec.expect("an exec");
    assert_eq!(exec.argv, ["cc".into(), "-c".into(), "main.c".into()]);
    assert_eq!(exec.cwd, Some("/Users/u/src".into()));
    // The strings in byte order, each with a NUL, as on Linux.
    let hash = vrift_store::Hash::of(b"HOME=/Users/u\0PATH=/usr/bin\0");
    assert_eq!(exec.env, hash.to_string());
}

fn shown(event: &Event) -> String {
    match event {
        Event::Start(start) => {
            format!("start {} pid {} parent {:?}", start.process, start.pid, start.parent)
        }
        Event::Exit(exit) => format!("exit {} {:?} {:?}", exit.process, exit.status, exit.signal),
        Event::Op(op) => {
            let path = op.path.as_ref().expect("a path").shown();
            let access = op.access.word();
            let mut line = format!("{} {} {} {access} {path}", op.n, op.process, op.call);
            if let Some(mount) = &op.mount {
                line += &format!(" in {}", mount.shown());
            }
            if let Some(asks) = &op.asks {
                line += &format!(" asks {asks}");
            }
            if op.reads {
                line += " and reads";
            }
            assert!(op.kind.is_none_or(|kind| matches!(kind, Kind::File | Kind::Dir)));
            line
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn odd_lines_are_told_and_passed_over() {
    let mut reader = Reader::new(fixture("odd.jsonl"));
    let mut kinds = Vec::new();
    let mut names = Vec::new();
    for item in reader.by_ref() {
        kinds.push(match item {
            Ok(EsEvent { what: What::Unknown(name), .. }) => name,
            Ok(EsEvent { what: What::Open(file, _), .. }) => {
                names.push(file.path);
                "open".into()
            }
            Ok(other) => format!("{other:?}"),
            Err(error) => error.to_string(),
        });
    }
    assert_eq!(names, ["/Users/u/\u{e9}\n\"x\"".as_bytes()]);
    let json = &kinds[1];
    assert!(json.starts_with("line 2 is no JSON: "), "{json}");
    assert_eq!(kinds[0], "profile_add");
    assert_eq!(
        kinds[2..],
        [
            "line 4 is no event of eslogger's: not an object",
            "line 5 is no event of eslogger's: no `process`",
            "cs_invalidated",
            "open",
            "line 8 is no event of eslogger's: open: no `file`",
            "line 9 is no event of eslogger's: process: `pid` is not a number that fits",
        ]
    );
    let unknown: Vec<(&str, u64)> = reader.unknown().collect();
    assert_eq!(unknown, [("cs_invalidated", 1), ("profile_add", 1)]);
}

#[test]
fn what_is_too_much_is_bounded() {
    let line = |name: usize| {
        format!(
            "{{\"process\":{{\"audit_token\":{{\"pid\":1,\"pidversion\":1}},\"ppid\":0,\
             \"executable\":{{\"path\":\"/x\"}}}},\"event\":{{\"news{name:03}\":{{}}}}}}\n"
        )
    };
    let mut text: String = (0..100).map(line).collect();
    // A line that is too long in the middle of it; the next one is read.
    text += &"x".repeat(17 << 20);
    text += "\n";
    text += &line(3);
    // Nested deeper than a reader's stack.
    text += &"[".repeat(100_000);
    text += "\n";
    text += &line(4);
    let mut reader = Reader::new(text.as_bytes());
    let (mut events, mut long, mut other) = (0, 0, 0);
    for item in reader.by_ref() {
        match item {
            Ok(_) => events += 1,
            Err(LineError::TooLong { line: 101 }) => long += 1,
            Err(_) => other += 1,
        }
    }
    assert_eq!((events, long, other), (102, 1, 1));
    assert_eq!(reader.unknown().count(), 65);
    assert_eq!(reader.unknown().map(|(_, count)| count).sum::<u64>(), 102);
    assert_eq!(reader.unknown().last(), Some(("", 36)));
}

#[test]
fn lost_events_are_noticed() {
    use vrift_macos_es::es::gaps::Gaps;
    let numbered = |name: &str, seq, global| EsEvent {
        name: name.into(),
        seq,
        global_seq: global,
        ..ours(What::Unknown(name.into()))
    };
    let run = |events: &[(&str, Option<u64>, Option<u64>)]| {
        let mut gaps = Gaps::default();
        for (name, seq, global) in events {
            gaps.note(&numbered(name, *seq, *global));
        }
        (gaps.lost(), gaps.complete())
    };
    let whole =
        [("open", Some(7), Some(40)), ("exec", Some(0), Some(41)), ("open", Some(8), Some(42))];
    assert_eq!(run(&whole), (0, true), "a client's first number need not be 0");
    let gap = [("open", Some(7), Some(40)), ("exec", Some(0), Some(43))];
    assert_eq!(run(&gap), (2, false));
    // Both numbers jump for the same events: counted once.
    assert_eq!(run(&[("open", Some(7), Some(40)), ("open", Some(10), Some(43))]), (2, false));
    // An old message version has no global number.
    assert_eq!(run(&[("open", Some(7), None), ("exec", Some(3), None)]), (0, true));
    assert_eq!(run(&[("open", Some(7), None), ("open", Some(9), None)]), (1, false));
    assert_eq!(run(&[("open", None, Some(5)), ("open", None, Some(5))]), (0, false), "twice");
    assert_eq!(run(&[("open", Some(u64::MAX), Some(u64::MAX)), ("open", Some(0), Some(0))]).0, 0);
    // A dropped line of the recording.
    let mut gaps = Gaps::default();
    let events = Reader::new(fixture("build.jsonl")).map(|event| event.expect("an event"));
    let mut lost = 0;
    for event in events.enumerate().filter(|(at, _)| *at != 6).map(|(_, event)| event) {
        lost += gaps.note(&event);
    }
    assert_eq!((lost, gaps.lost(), gaps.complete()), (1, 1, false));
    // Two clients count by themselves.
    let mut gaps = Gaps::default();
    for (client, seq) in [(0, 7), (1, 0), (0, 8), (1, 1), (1, 3)] {
        let numbers = EsEvent { client, global_seq: Some(seq), ..ours(What::Unknown("x".into())) };
        gaps.note(&numbers);
    }
    assert_eq!(gaps.lost(), 1);
}

#[test]
fn what_is_muted() {
    let own = ProcessKey { pid: 1, version: 2 };
    let names = |plan: &Plan| -> Vec<(&str, bool)> {
        plan.subscribe.iter().map(|wanted| (wanted.name, wanted.auth)).collect()
    };
    let quiet = guard("");
    let plans = plan(&quiet, false, own, (14, 2));
    assert_eq!(plans.len(), 2);
    assert_eq!(names(&plans[0]), [("fork", false), ("exit", false), ("exec", false)]);
    assert_eq!(plans[0].mute, [Mute::Process(own)]);
    let muted = &plans[1].mute;
    assert!(muted.contains(&Mute::InvertTargets));
    for path in ["/vrift/deps", "/vrift", "/opt/tools", "/opt", "/Users/u/store", "/Users/u"] {
        assert!(muted.contains(&Mute::Target(path.into())), "{path}");
    }
    assert!(muted.contains(&Mute::TargetPrefix(b"/vrift/deps/".to_vec())));
    let different: std::collections::HashSet<String> =
        muted.iter().map(|mute| format!("{mute:?}")).collect();
    assert_eq!(different.len(), muted.len());
    assert!(names(&plans[1]).contains(&("copyfile", true)));
    // Rules speak of any path, a trace wants everything, and macOS 12 can't turn round.
    let ruled = guard("[[rule]]\npaths = [\"/etc/**\"]\naccess = \"read-only\"\n");
    for (plans, records) in [
        (plan(&ruled, false, own, (14, 2)), false),
        (plan(&quiet, true, own, (14, 2)), true),
        (plan(&quiet, false, own, (12, 0)), false),
    ] {
        assert_eq!(plans.len(), 1);
        assert_eq!(plans[0].mute, [Mute::Process(own)]);
        assert_eq!(names(&plans[0]).contains(&("stat", false)), records);
        assert!(names(&plans[0]).contains(&("open", true)));
    }
    let old = plan(&quiet, true, own, (11, 0));
    assert!(!names(&old[0]).iter().any(|(name, _)| *name == "copyfile"));
}

/// Programs that the loader keeps the shim out of are known by their flags.
#[test]
fn restricted_programs_are_known() {
    let plain = process(1, 1, 1);
    assert!(!plain.refuses_shim());
    assert!(Process { platform: true, ..plain.clone() }.refuses_shim());
    for flag in [0x800, 0x2000, 0x1_0000] {
        assert!(Process { signing: flag | 0x2000_0001 & !0x2000, ..plain.clone() }.refuses_shim());
    }
    assert!(!Process { signing: 0x2000_0001, ..plain }.refuses_shim());
}

/// Paths that a mount is recognised by, by their text.
#[test]
fn a_sisters_name_is_not_ours() {
    let mut recorder = Recorder::new(0, vec![PathBuf::from("/vrift/deps")]);
    let tree = ProcessTree::of(FIRST);
    for path in ["/vrift/deps/a", "/vrift/deps2/a", "/vrift/deps"] {
        let told = EsEvent { action: Action::Notify, ..ours(What::Open(file(path), FREAD)) };
        recorder.record(&told, Reply::Allow, &tree);
    }
    let mounts: Vec<bool> =
        recorder.take().into_iter().filter_map(op).map(|op| op.mount.is_some()).collect();
    assert_eq!(mounts, [true, false, true]);
}
