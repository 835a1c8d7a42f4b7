//! The recorder of one job: from the drafts of answered calls to events.

use super::current::{self, Draft, Named, Outcome, Place, Want};
use super::event::{self, Access, Event, Kind, Op, Refused, Rule, Word};
use super::exits::Exits;
use super::syscalls::Syscalls;
use super::{Writer, Written};
use crate::calls::Call;
use crate::counters::Counters;
use crate::job::Job;
use crate::table::Arch;
use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use vrift_policy::{Errno, Mode, Origin};

/// What is recorded, as the policy's `[trace]` says.
#[derive(Clone, Copy, Debug)]
pub struct Scope {
    /// Files that are read.
    pub reads: bool,
    /// Look-ups, those that found nothing among them.
    pub probes: bool,
    /// Every system call.
    pub syscalls: bool,
}

/// Records a job.
pub struct Recorder {
    writer: Arc<Writer>,
    began: OnceLock<Instant>,
    calls: AtomicU64,
    exits: Exits,
    scope: Scope,
    mounts: Vec<Mounted>,
    /// Tasks that the supervisor makes do calls: those are not the job's own.
    held: Mutex<HashSet<i32>>,
    holding: AtomicUsize,
    /// Calls that are being answered or are not told yet.
    under_way: AtomicUsize,
    unseen: Counters,
    syscalls: Option<Syscalls>,
}

/// How long the end waits for calls that are under way: a receiver may hang in a file system.
const LAST_CALLS: Duration = Duration::from_secs(2);

impl Recorder {
    /// Makes the file and its first line. Nothing is written before [`Recorder::start`].
    pub fn new(
        path: &Path,
        first: event::Job,
        mounts: Vec<Mounted>,
        scope: Scope,
    ) -> std::io::Result<Recorder> {
        let writer = Arc::new(Writer::create(path)?);
        writer.put(Event::Job(first));
        Ok(Recorder {
            exits: Exits::new(Arc::clone(&writer))?,
            writer,
            began: OnceLock::new(),
            calls: AtomicU64::new(0),
            scope,
            mounts,
            held: Mutex::default(),
            holding: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            unseen: Counters::new([]),
            syscalls: scope.syscalls.then(Syscalls::default),
        })
    }

    /// Starts the threads: after the last fork of this process.
    pub fn start(&self) -> std::io::Result<()> {
        let began = *self.began.get_or_init(Instant::now);
        self.writer.start()?;
        self.exits.start(began)
    }

    /// Where failures to look into a task are told that the job does not see.
    pub fn unseen(&self) -> &Counters {
        &self.unseen
    }

    fn now(&self) -> u64 {
        let since = self.began.get().map(Instant::elapsed).unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Answers a call by `answer`, and records it.
    pub fn record(
        self: &Arc<Self>,
        call: &Call<'_>,
        asked: Vec<current::Asked>,
        answer: impl FnOnce(),
    ) {
        let tid = call.caller.tid;
        if self.writer.stopped() || self.is_held(tid) {
            return answer();
        }
        self.under_way.fetch_add(1, Ordering::Relaxed);
        let ending = Ending(self, tid);
        let t = self.now();
        let n = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let process = self.exits.process(tid, t, call.job);
        current::begin(self, call.job, call.caller, asked);
        answer();
        self.let_go(tid);
        let Some(draft) = current::take() else { return };
        for mut op in self.operations(draft, Op { t, n, process, ..blank(call.row.name) }) {
            if let Some(container) = &call.job.container
                && let Some(inside) =
                    op.resolved.as_ref().and_then(|p| container.path_inside(p.as_bytes()))
            {
                op.resolved = Some(inside.into()).filter(|inside| Some(inside) != op.path.as_ref());
            }
            self.writer.put(Event::Op(Box::new(op)));
        }
        drop(ending);
    }

    /// Records which call it is, where that is asked for.
    pub fn call(&self, job: &Job, tid: i32, call: (Arch, u32), is_exec: bool, args: &[u64; 6]) {
        let Some(syscalls) = &self.syscalls else { return };
        if !syscalls.begun(is_exec) || self.writer.stopped() || self.is_held(tid) {
            return;
        }
        let t = self.now();
        syscalls.tell(&self.writer, t, self.exits.process(tid, t, job), call, args);
    }

    fn is_held(&self, tid: i32) -> bool {
        self.holding.load(Ordering::Acquire) > 0
            && self.held.lock().unwrap_or_else(PoisonError::into_inner).contains(&tid)
    }

    /// From now on the calls of this task are the supervisor's, as long as it is answered.
    pub fn hold(&self, tid: i32) {
        if self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(tid) {
            self.holding.fetch_add(1, Ordering::Release);
        }
    }

    /// From now on its calls are its own.
    pub fn let_go(&self, tid: i32) {
        if self.holding.load(Ordering::Acquire) > 0
            && self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&tid)
        {
            self.holding.fetch_sub(1, Ordering::Release);
        }
    }

    /// What the draft comes to; `base` has what all of a call's events share.
    fn operations(&self, mut draft: Draft, base: Op) -> Vec<Op> {
        let (failed, looked) = match draft.outcome {
            Outcome::None => return Vec::new(),
            Outcome::Kernel => (draft.named.iter().find_map(|n| n.look?.err), true),
            // It is made again from its start, and told then.
            Outcome::Returned(-516..=-512) => return Vec::new(),
            Outcome::Returned(value) => (errno(value), false),
        };
        let refused = draft.refused.take().filter(|_| failed.is_some());
        let exec = draft.exec.take().filter(|_| failed.is_none());
        let base = Op { err: failed.map(word), looked, ..base };
        // What is left out of the trace when it goes well is told when it is refused.
        let unnamed = draft.named.iter().all(|named| named.given.is_none());
        let mut told = Vec::with_capacity(draft.named.len());
        for named in draft.named {
            let given = named.given.as_deref().unwrap_or_default();
            if given.is_empty() {
                // By descriptor: what is run, changed or locked that way is told.
                let Some(by) = &draft.by_descriptor else { continue };
                told.push(Op {
                    access: match named.asked.want {
                        Want::Exec => Access::Exec,
                        Want::Lock => Access::Lock,
                        _ => Access::Write,
                    },
                    mount: origin(&self.mounts, by).map(|mount| mount.at.as_slice().into()),
                    resolved: Some(by.as_slice().into()),
                    ..base.clone()
                });
                continue;
            }
            let seen = Seen::of(&named, failed);
            if !self.wants(seen.access) {
                continue;
            }
            let (text, mount, blob) = match named.place {
                Some(Place { text, mount, blob, .. }) => (Some(text), mount, blob),
                None => (None, None, None),
            };
            told.push(Op {
                access: seen.access,
                kind: seen.kind,
                reads: seen.reads,
                asks: asks(named.asked.want),
                resolved: text.filter(|text| *text != given).map(Into::into),
                path: named.given.map(Into::into),
                mount: mount.map(Into::into),
                blob: blob.filter(|_| failed.is_none()).map(|blob| blob.to_string()),
                ..base.clone()
            });
        }
        // What gets another name stays what it is.
        if failed.is_none()
            && let [from, to] = told.as_mut_slice()
            && to.access == Access::Create
        {
            to.kind = from.kind;
        }
        if let Some((path, why)) = refused {
            let why = why.as_deref();
            let at = told.iter().position(|op| op.place() == path).unwrap_or(0);
            match told.get_mut(at) {
                Some(op) => *op = self.refuse(op.clone(), draft.rule.as_ref(), why),
                None if unnamed => {
                    let op = Op { access: Access::Write, resolved: Some(path.into()), ..base };
                    told.push(self.refuse(op, draft.rule.as_ref(), why));
                }
                None => {}
            }
        }
        if let Some(op) = told.first_mut() {
            op.exec = exec;
            op.through = draft.through.into_iter().map(Into::into).collect();
        }
        told
    }

    fn wants(&self, access: Access) -> bool {
        match access {
            Access::Read | Access::List => self.scope.reads,
            Access::Probe | Access::Stat => self.scope.probes,
            _ => true,
        }
    }

    fn refuse(&self, op: Op, rule: Option<&Origin>, why: Option<&str>) -> Op {
        let mount = origin(&self.mounts, op.place()).filter(|_| why.is_none());
        let rule = rule.or(mount.map(|mount| &mount.origin));
        let why = why.unwrap_or(match op.err.as_deref() {
            Some("EXDEV") => "the names lie in different file systems: a mount is one of its own",
            Some("EBUSY") => "a mount point, or a directory that holds one, stays where it is",
            _ => match mount.map(|mount| mount.mode) {
                Some(Mode::CopyOnWrite) => "in a copy-on-write mount only what is there changes",
                _ => "the mount is read-only",
            },
        });
        let refused = Refused { rule: rule.map(Rule::of).unwrap_or_default(), why: why.into() };
        Op { refused: Some(refused), ..op }
    }

    /// Writes what is left and the end.
    pub fn finish(&self, status: u8, ended: u32, supervision_ms: u64) -> Written {
        // A task goes on as soon as it is answered, and the last one was perhaps gone before its call
        // was told.
        let patience = Instant::now() + LAST_CALLS;
        while self.under_way.load(Ordering::Acquire) > 0 && Instant::now() < patience {
            std::thread::sleep(Duration::from_micros(100));
        }
        self.exits.finish();
        let t = self.now();
        self.writer.close(event::End { t, status, events: 0, ended, supervision_ms, lost: 0 })
    }
}

/// The task is let go whatever became of the answer, and the call is not under way any more.
struct Ending<'a>(&'a Recorder, i32);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.let_go(self.1);
        if std::thread::panicking() {
            drop(current::take());
        }
        self.0.under_way.fetch_sub(1, Ordering::Release);
    }
}

/// A mount, as far as a refusal is told by it.
#[derive(Clone, Debug)]
pub struct Mounted {
    /// The mount point.
    pub at: Vec<u8>,
    /// Who asked for it.
    pub origin: Origin,
    /// What the job may do there.
    pub mode: Mode,
}

/// The mount that `path` lies in, by its text.
pub fn origin<'a>(mounts: &'a [Mounted], path: &[u8]) -> Option<&'a Mounted> {
    let within = |mount: &&Mounted| {
        let rest = path.strip_prefix(mount.at.as_slice());
        rest.is_some_and(|rest| rest.first().is_none_or(|&b| b == b'/'))
    };
    mounts.iter().filter(within).max_by_key(|mount| mount.at.len())
}

/// What the job of this process looks like in a trace's first line.
pub fn first_line(
    command: &[std::ffi::OsString],
    name: Option<&str>,
    mounts: Vec<event::Mount>,
    scope: Scope,
) -> event::Job {
    let system = nix::sys::utsname::uname().ok();
    let part = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into();
    let began = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    event::Job {
        version: if scope.syscalls { event::VERSION_OF_SYSCALLS } else { event::VERSION },
        program: concat!("vrift-trace ", env!("CARGO_PKG_VERSION")).into(),
        began: began.ok().and_then(|d| u64::try_from(d.as_millis()).ok()).unwrap_or(0),
        command: command.iter().map(|word| word.as_bytes().into()).collect(),
        cwd: std::env::current_dir().unwrap_or_default().as_os_str().as_bytes().into(),
        name: name.map(str::to_owned),
        kernel: part(system.as_ref().map(nix::sys::utsname::UtsName::release)),
        machine: part(system.as_ref().map(nix::sys::utsname::UtsName::machine)),
        mounts,
        reads: scope.reads,
        probes: scope.probes,
    }
}

fn blank(call: &'static str) -> Op {
    Op {
        t: 0,
        n: 0,
        process: 0,
        call: Word::Borrowed(call),
        access: Access::Stat,
        path: None,
        resolved: None,
        mount: None,
        kind: None,
        asks: None,
        through: Vec::new(),
        reads: false,
        err: None,
        looked: false,
        blob: None,
        refused: None,
        exec: None,
    }
}

/// What access(2) asked for, in the order of a mode.
fn asks(want: Want) -> Option<Word> {
    let Want::Access(mode) = want else { return None };
    let words = ["", "x", "w", "wx", "r", "rx", "rw", "rwx"];
    let word = words.get(usize::try_from(mode & 7).unwrap_or(0))?;
    (!word.is_empty()).then_some(Word::Borrowed(word))
}

fn errno(value: i64) -> Option<Errno> {
    (-4095..0).contains(&value).then(|| Errno::from_raw(i32::try_from(-value).ok()?)).flatten()
}

fn word(errno: Errno) -> Word {
    errno.name().map_or_else(|| Word::Owned(errno.to_string()), Word::Borrowed)
}

/// What a call did with one path, in the trace's words.
struct Seen {
    access: Access,
    kind: Option<Kind>,
    reads: bool,
}

impl Seen {
    fn of(named: &Named, failed: Option<Errno>) -> Seen {
        let before = match (&named.look, &named.place) {
            (Some(look), _) => look.kind,
            (None, Some(place)) => place.kind,
            (None, None) => None,
        };
        let there = before.is_some();
        let nothing = matches!(failed, Some(Errno::ENOENT | Errno::ENOTDIR));
        let made = |kind| if failed.is_none() { Some(kind) } else { before };
        let look_up = if nothing { Access::Probe } else { Access::Stat };
        let plain = |access| Seen { access, kind: before, reads: false };
        match named.asked.want {
            Want::Open(flags) => {
                let has = |bits: i32| flags & bits == bits;
                let writes = flags & libc::O_ACCMODE != libc::O_RDONLY || has(libc::O_TRUNC);
                if has(libc::O_PATH) {
                    plain(look_up)
                } else if has(libc::O_TMPFILE) {
                    // A file without a name is made in it.
                    plain(Access::Write)
                } else if has(libc::O_CREAT) && !there {
                    Seen { access: Access::Create, kind: made(Kind::File), reads: false }
                } else if writes {
                    let reads = flags & libc::O_ACCMODE == libc::O_RDWR && !has(libc::O_TRUNC);
                    Seen { access: Access::Write, kind: before, reads }
                } else if nothing {
                    plain(Access::Probe)
                } else if before == Some(Kind::Dir) {
                    plain(Access::List)
                } else {
                    plain(Access::Read)
                }
            }
            Want::Stat | Want::Access(_) | Want::ReadLink | Want::Enter | Want::Connect => {
                plain(look_up)
            }
            Want::Lock => plain(Access::Lock),
            Want::Exec if nothing => plain(Access::Probe),
            Want::Exec => plain(Access::Exec),
            Want::Make(kind) => Seen { access: Access::Create, kind: made(kind), reads: false },
            Want::Remove(_) | Want::MoveFrom => plain(Access::Delete),
            Want::MoveTo(_) => plain(Access::Create),
            Want::Exchange | Want::Change => plain(Access::Write),
            Want::LinkFrom => plain(Access::Read),
        }
    }
}
