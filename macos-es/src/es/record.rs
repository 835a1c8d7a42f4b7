//! From ES events to the events of a trace, the same as the Linux supervisor writes.
//!
//! ES tells of what succeeded. What is looked up in vain is not told at all, so a trace from macOS
//! has no probes; the shim knows them.

use super::decide::{FREAD, FWRITE, O_TRUNC, Reply};
use super::event::{Action, Change, EsEvent, File, Look, What};
use super::tree::ProcessTree;
use std::path::PathBuf;
use vrift_events::Text;
use vrift_events::event::{Access, Event, Exec, Exit, Kind, Op, Refused, Rule, Start};

/// Makes the events of a trace.
#[derive(Debug, Default)]
pub struct Recorder {
    began: u64,
    calls: u64,
    mounts: Vec<PathBuf>,
    events: Vec<Event>,
}

impl Recorder {
    /// A recorder for a job that began at this time of the machine's clock, nanoseconds.
    #[must_use]
    pub fn new(began: u64, mounts: Vec<PathBuf>) -> Recorder {
        Recorder { began, mounts, ..Recorder::default() }
    }

    /// What was recorded since the last time that this was asked.
    pub fn take(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    fn since(&self, event: &EsEvent) -> u64 {
        event.at.saturating_sub(self.began)
    }

    /// A process is heard of.
    pub fn born(&mut self, event: &EsEvent, number: u32, tree: &ProcessTree) {
        let key = match &event.what {
            What::Fork(child) if tree.get(child.key).is_some_and(|m| m.number == number) => {
                child.key
            }
            _ => event.process.key,
        };
        let parent = tree.get(key).and_then(|member| member.parent);
        let t = self.since(event);
        self.events.push(Event::Start(Start { t, process: number, pid: key.pid, parent }));
    }

    /// Something happened, or was refused. What is asked for and allowed is told again when it has
    /// happened, and recorded then.
    pub fn record(&mut self, event: &EsEvent, reply: Reply, tree: &ProcessTree) {
        let key = match &event.what {
            // By now the process is what it became.
            What::Exec { target, .. } if tree.get(target.key).is_some() => target.key,
            _ => event.process.key,
        };
        let Some(process) = tree.get(key).map(|member| member.number) else { return };
        if let What::Exit(status) = event.what {
            if event.action == Action::Notify {
                self.events.push(Event::Exit(exit(self.since(event), process, status)));
            }
            return;
        }
        let refused = match &event.what {
            What::Open(_, flags) => !reply.lets(*flags),
            _ => reply == Reply::Deny,
        };
        if event.action == Action::Auth && !refused {
            return;
        }
        let (first, second) = accesses(&event.what);
        let files = event.what.files();
        let sides = [(first, files.0), (second, files.1)];
        let told: Vec<(Access, File)> =
            sides.into_iter().filter_map(|(access, file)| Some((access?, file?.clone()))).collect();
        if told.is_empty() {
            return;
        }
        self.calls += 1;
        for (access, file) in told {
            let op = self.op(event, (process, access), &file, refused);
            self.events.push(Event::Op(Box::new(op)));
        }
    }

    fn op(&self, event: &EsEvent, who: (u32, Access), file: &File, refused: bool) -> Op {
        let (process, access) = who;
        let why = || Refused { rule: Rule::default(), why: "denied by Endpoint Security".into() };
        let within = |at: &&PathBuf| {
            use std::os::unix::ffi::OsStrExt;
            let rest = file.path.strip_prefix(at.as_os_str().as_bytes());
            rest.is_some_and(|rest| rest.first().is_none_or(|&byte| byte == b'/'))
        };
        let mount = self.mounts.iter().filter(within).max_by_key(|at| at.as_os_str().len());
        let opened_both = |flags: u32| flags & FREAD != 0 && flags & O_TRUNC == 0;
        Op {
            t: self.since(event),
            n: self.calls,
            process,
            call: event.name.clone().into(),
            access,
            path: Some(file.path.as_slice().into()),
            resolved: None,
            mount: mount.map(|at| at.as_os_str().as_encoded_bytes().into()),
            kind: kind(file),
            asks: asks(&event.what).map(Into::into),
            through: Vec::new(),
            reads: access == Access::Write
                && matches!(event.what, What::Open(_, flags) if opened_both(flags)),
            err: refused.then(|| "EPERM".into()),
            looked: false,
            blob: None,
            refused: refused.then(why),
            exec: exec(&event.what).filter(|_| !refused),
        }
    }
}

fn exit(t: u64, process: u32, status: i32) -> Exit {
    // As wait(2) packs it: the low seven bits are the signal.
    let signal = status & 0x7f;
    match signal {
        0 => Exit { t, process, status: Some((status >> 8) & 0xff), signal: None },
        signal => Exit { t, process, status: None, signal: Some(signal) },
    }
}

/// What an event did with its first and its second file.
fn accesses(what: &What) -> (Option<Access>, Option<Access>) {
    use Access as A;
    let one = |access| (Some(access), None);
    match what {
        What::Open(_, flags) if flags & (FWRITE | O_TRUNC) != 0 => one(A::Write),
        What::Open(File { kind: File::DIRECTORY, .. }, _) => one(A::List),
        What::Open(..) => one(A::Read),
        What::Create(_) => one(A::Create),
        What::Unlink(_) => one(A::Delete),
        What::Rename(..) => (Some(A::Delete), Some(A::Create)),
        What::Link(..) | What::Clone(..) => (Some(A::Read), Some(A::Create)),
        What::Exchange(..) => (Some(A::Write), Some(A::Write)),
        // The open for writing has been told.
        What::Change(Change::Write, _) | What::Close(..) => (None, None),
        What::Change(..) => one(A::Write),
        // getdirentries of a directory whose open has been told; a mapping of an open file.
        What::Look(Look::List | Look::Map, _) => (None, None),
        What::Look(..) => one(A::Stat),
        What::Exec { .. } => one(A::Exec),
        What::Fork(_) | What::Exit(_) | What::Mount(_) | What::Unknown(_) => (None, None),
    }
}

fn kind(file: &File) -> Option<Kind> {
    Some(match file.kind {
        0 => return None,
        File::REGULAR => Kind::File,
        File::DIRECTORY => Kind::Dir,
        File::LINK => Kind::Link,
        _ => Kind::Other,
    })
}

/// Of access(2): which rights it asked for, as a trace writes them.
fn asks(what: &What) -> Option<String> {
    let What::Look(Look::Access(mode), _) = what else { return None };
    let letters = [(4, 'r'), (2, 'w'), (1, 'x')];
    let asked: String =
        letters.into_iter().filter(|(bit, _)| mode & bit != 0).map(|(_, letter)| letter).collect();
    (!asked.is_empty()).then_some(asked)
}

fn exec(what: &What) -> Option<Exec> {
    let What::Exec { args, env, cwd, script, target, .. } = what else { return None };
    let mut sorted: Vec<&[u8]> = env.iter().map(Vec::as_slice).collect();
    sorted.sort_unstable();
    let all: Vec<u8> = sorted.into_iter().flat_map(|word| [word, b"\0"].concat()).collect();
    // Of a script, ES names the interpreter as the program.
    let interpreters = script.as_ref().map(|_| Text::from(target.executable.as_slice()));
    Some(Exec {
        argv: args.iter().map(|word| word.as_slice().into()).collect(),
        env: vrift_store::Hash::of(&all).to_string(),
        cwd: cwd.as_ref().map(|cwd| cwd.as_slice().into()),
        interpreters: interpreters.into_iter().collect(),
        cut: false,
    })
}
