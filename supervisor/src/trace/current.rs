//! The call that this thread is answering, as far as it is known yet.
//!
//! A call is received, resolved, decided and answered on one thread, so what is known of it is
//! kept there, and each place that knows something adds it in one line without a handle being
//! passed through every handler. Without a trace there is no draft, and each of these lines is one
//! look at a thread's own flag.

use super::event::{Exec, Kind};
use super::look::{self, Look};
use super::{Recorder, program};
use crate::caller::Caller;
use crate::job::{Job, Spot};
use crate::listener::Answer;
use crate::resolve::{AT_FDCWD, Found};
use crate::sys::proc::PathBuffer;
use crate::table::{Arch, At};
use crate::view::Seen;
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use vrift_policy::{Errno, Mode, Origin};
use vrift_projection::{NodeRef, walk};

/// What a call wants with one of its paths.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Want {
    /// To open it with these flags.
    Open(i32),
    /// To know about it.
    Stat,
    /// The same with this mode of access(2).
    Access(i32),
    /// A link's target.
    ReadLink,
    /// To make it the current directory.
    Enter,
    /// To run it.
    Exec,
    /// To make it.
    Make(Kind),
    /// To remove it; a directory?
    Remove(bool),
    /// To give it another name.
    MoveFrom,
    /// To be that name or a new link; may something be there?
    MoveTo(bool),
    /// Two names change places.
    Exchange,
    /// To give it one more name.
    LinkFrom,
    /// To change its content or metadata.
    Change,
    /// To connect to the socket there.
    Connect,
    /// To lock it, or to have a lease on it.
    Lock,
}

/// A path of a call.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Which arguments it is.
    pub at: At,
    /// Is a link that it ends in followed?
    pub follow: bool,
    /// What is wanted.
    pub want: Want,
    address: u64,
}

impl Asked {
    /// The path at `at` of a call of `caller`.
    pub fn new(caller: &Caller<'_>, at: At, follow: bool, want: Want) -> Asked {
        Asked { at, follow, want, address: caller.arg(at.path) }
    }

    /// What is wanted of what is behind the descriptor in argument `index`.
    pub fn by_descriptor(index: u8, want: Want) -> Asked {
        Asked { at: At { dirfd: Some(index), path: index }, follow: false, want, address: 0 }
    }

    /// What is wanted of the name at `address`, which no argument points to by itself.
    pub fn by_address(address: u64, follow: bool, want: Want) -> Asked {
        Asked { at: At { dirfd: None, path: 0 }, follow, want, address }
    }
}

/// Where a path leads.
#[derive(Debug)]
pub struct Place {
    /// The absolute path, links resolved as far as is known.
    pub text: Vec<u8>,
    /// The mount, if it is projected.
    pub mount: Option<Vec<u8>>,
    /// What stands there; of a real place, nobody has looked.
    pub kind: Option<Kind>,
    /// The content's hash, of a projected file.
    pub blob: Option<vrift_store::Hash>,
    /// Nobody but the kernel knows what is there.
    pub real: bool,
}

/// One path of the draft.
#[derive(Debug)]
pub struct Named {
    /// What was asked.
    pub asked: Asked,
    /// The path as the task gave it.
    pub given: Option<Vec<u8>>,
    /// Where it leads.
    pub place: Option<Place>,
    /// What a look before the kernel's turn said.
    pub look: Option<Look>,
}

/// How the call was answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Not yet; or the task is gone.
    None,
    /// It went on in the kernel.
    Kernel,
    /// It returned this, or failed with the errno of which this is the negative.
    Returned(i64),
}

/// A call on its way to an event.
pub struct Draft {
    recorder: Arc<Recorder>,
    /// Who calls, for looking into the task.
    tid: i32,
    arch: Arch,
    /// Its paths.
    pub named: Vec<Named>,
    /// Its answer.
    pub outcome: Outcome,
    /// It was refused: the path as it is told, and why.
    pub refused: Option<(Vec<u8>, Option<String>)>,
    /// What refused it, where a rule did.
    pub rule: Option<Origin>,
    /// Of an exec: where argv and envp are.
    vectors: Option<(u64, u64)>,
    /// What was run.
    pub exec: Option<Exec>,
    cwd: Option<Vec<u8>>,
    /// What the call was given by descriptor, should its path be none.
    pub by_descriptor: Option<Vec<u8>>,
    /// Real symbolic links that the way led through, and directories that it left by `..`.
    pub through: Vec<Vec<u8>>,
    interpreters: Vec<Vec<u8>>,
}

thread_local! {
    static ON: Cell<bool> = const { Cell::new(false) };
    static DRAFT: RefCell<Option<Draft>> = const { RefCell::new(None) };
}

/// Begins a draft.
pub fn begin(recorder: &Arc<Recorder>, job: &Job, caller: &Caller<'_>, asked: Vec<Asked>) {
    let exec = asked.first().filter(|asked| asked.want == Want::Exec).map(|asked| asked.at);
    let by_descriptor =
        |asked: &&Asked| matches!(asked.want, Want::Exec | Want::Change | Want::Lock);
    let descriptor = asked.first().filter(by_descriptor).and_then(|asked| asked.at.dirfd);
    let descriptor = descriptor.map(|i| caller.int(i)).filter(|fd| *fd >= 0);
    let vector = |i: u8| caller.args.get(usize::from(i)).copied().unwrap_or(0);
    let by_descriptor = descriptor.and_then(|fd| base(job, caller, fd));
    let read_only = |by: &[u8]| job.origin(by).is_some_and(|m| m.mode == Mode::ReadOnly);
    let fixed = job.seen == Seen::Mounted && by_descriptor.as_deref().is_some_and(read_only);
    let name = |asked: Asked| {
        // Known before the call is looked at: nothing in such a tree can be changed.
        let refused = fixed && asked.address == 0 && asked.want == Want::Change;
        let look = refused.then_some(Look { kind: None, err: Some(Errno::EROFS) });
        Named { asked, given: None, place: None, look }
    };
    let draft = Draft {
        recorder: Arc::clone(recorder),
        tid: caller.tid,
        arch: caller.arch,
        named: asked.into_iter().map(name).collect(),
        outcome: Outcome::None,
        refused: None,
        rule: None,
        vectors: exec.map(|at| (vector(at.path + 1), vector(at.path + 2))),
        exec: None,
        cwd: exec.and_then(|_| base(job, caller, AT_FDCWD)),
        by_descriptor,
        through: Vec::new(),
        interpreters: Vec::new(),
    };
    DRAFT.set(Some(draft));
    ON.set(true);
}

/// Ends it.
pub fn take() -> Option<Draft> {
    ON.set(false);
    DRAFT.take()
}

fn with(add: impl FnOnce(&mut Draft)) {
    if ON.get() {
        DRAFT.with_borrow_mut(|draft| draft.as_mut().map(add));
    }
}

/// The path at `address` of the caller's memory has been read.
pub fn path_read(address: u64, path: &[u8]) {
    with(|draft| {
        let mut named = draft.named.iter_mut();
        if let Some(named) = named.find(|n| n.asked.address == address && n.given.is_none()) {
            named.given = Some(path.to_vec());
        }
    });
}

/// A walk follows a real symbolic link, or leaves a real directory by `..`; empty is the root. The
/// path comes in parts, which are put together only where there is a trace.
pub fn through(parts: &[&[u8]]) {
    with(|draft| {
        let path = parts.concat();
        if !path.is_empty() && !draft.through.contains(&path) {
            draft.through.push(path);
        }
    });
}

/// `path` has been resolved.
pub fn found(
    job: &Job,
    caller: &Caller<'_>,
    dirfd: i32,
    path: &[u8],
    result: &Result<Found, Errno>,
) {
    with(|draft| {
        let known = draft.gives(path);
        let mut named = draft.named.iter_mut();
        let unplaced = |n: &&mut Named| n.place.is_none() && n.given.as_deref() == Some(path);
        match named.find(unplaced) {
            Some(named) => {
                let wants_content = matches!(named.asked.want, Want::Open(_) | Want::Exec);
                named.place = place(job, caller, dirfd, path, result, wants_content);
                if job.seen == Seen::Mounted && named.place.as_ref().is_some_and(|p| !p.real) {
                    named.look = look::in_tree(job, caller, named.asked.want, result);
                }
            }
            // What an exec resolves besides its own path are interpreters.
            None if draft.vectors.is_some() && !known => {
                let place = place(job, caller, dirfd, path, result, false);
                draft.interpreters.extend(place.map(|place| place.text));
            }
            None => {}
        }
    });
}

fn place(
    job: &Job,
    caller: &Caller<'_>,
    dirfd: i32,
    path: &[u8],
    result: &Result<Found, Errno>,
    wants_content: bool,
) -> Option<Place> {
    let real =
        |text: Vec<u8>| Some(Place { text, mount: None, kind: None, blob: None, real: true });
    match result {
        Ok(Found::Foreign(text) | Found::Magic(text)) => real(text.clone()),
        Ok(Found::Kernel(place)) => match (&place.path, &place.dir) {
            (Some(text), _) => real(text.clone()),
            (None, Some(dir)) => {
                let name = path.rsplit(|&b| b == b'/').next().unwrap_or_default();
                let dir = if *dir.physical == *b"/" { b"" } else { &*dir.physical };
                real([dir, b"/", name].concat())
            }
            (None, None) => real(lexical(job, caller, dirfd, path)?),
        },
        Ok(Found::Node(node)) => {
            let kind = job.projection.kind(*node).ok().map(look::of_tree);
            let content = wants_content && kind == Some(Kind::File);
            let blob = content.then(|| job.projection.unchanged(*node).ok().flatten()).flatten();
            let text = job.path(*node);
            Some(Place { text, mount: mount(job, *node), kind, blob, real: false })
        }
        Ok(Found::Missing { parent, name, .. }) => {
            let text = [job.path(*parent).as_slice(), b"/", name].concat();
            Some(Place { text, mount: mount(job, *parent), kind: None, blob: None, real: false })
        }
        Err(_) => {
            let text = lexical(job, caller, dirfd, path)?;
            let within = job.projection.enter(&text).and_then(|(node, _)| mount(job, node));
            let real = within.is_none();
            Some(Place { text, mount: within, kind: None, blob: None, real })
        }
    }
}

/// The absolute path by its text alone.
fn lexical(job: &Job, caller: &Caller<'_>, dirfd: i32, path: &[u8]) -> Option<Vec<u8>> {
    let base = match path.first() {
        Some(b'/') => Vec::new(),
        _ => base(job, caller, dirfd)?,
    };
    let mut text = Vec::new();
    walk::normalise(&base, path, &mut text);
    Some(text)
}

/// The caller's current directory, or that behind a descriptor, as the job knows it.
fn base(job: &Job, caller: &Caller<'_>, dirfd: i32) -> Option<Vec<u8>> {
    use crate::sys::proc::{ProcName, read_link};
    let mut buf: PathBuffer = [0; 4096];
    // Not by the caller's own methods, which tell the summary of what can't be read.
    let name = match dirfd {
        AT_FDCWD => ProcName::of(caller.tid, b"cwd"),
        0.. => ProcName::of_fd(caller.tid, dirfd),
        _ => return None,
    };
    let text = read_link(caller.proc, &name, &mut buf).ok()?;
    match job.spot_of_task(caller.tid, text, (dirfd >= 0).then_some(dirfd)) {
        Ok(Spot::Node(node)) => Some(job.path(node)),
        Ok(Spot::Real) => Some(text.to_vec()),
        _ => None,
    }
}

fn mount(job: &Job, node: NodeRef) -> Option<Vec<u8>> {
    use std::os::unix::ffi::OsStrExt;
    Some(job.projection.mount(node.mount)?.at().as_os_str().as_bytes().to_vec())
}

/// The call is about to go on in the kernel: looks what it will find there.
pub fn going_on() {
    with(|draft| {
        for named in &mut draft.named {
            if named.look.is_none() {
                named.look = look::at(named, draft.tid);
            }
        }
        draft.refused_by_a_tree();
        draft.outcome = Outcome::Kernel;
        let runs = |named: &Named| match &named.look {
            Some(look) => look.err.is_none(),
            None => named.given.as_deref() == Some(b""),
        };
        if draft.named.first().is_some_and(runs) {
            draft.read_program();
        }
    });
}

/// The call was answered. `taken`: the task still waited for it.
pub fn answered(answer: &Answer, taken: bool) {
    with(|draft| {
        draft.outcome = match answer {
            _ if !taken => Outcome::None,
            Answer::Continue => Outcome::Kernel,
            Answer::Value(value) => Outcome::Returned(*value),
            Answer::Fail(e) => Outcome::Returned(-i64::from(e.raw())),
        };
    });
}

/// The task is held and will make the call itself, and others for the supervisor, from now on.
/// Its memory is still as it was.
pub fn held() {
    with(|draft| {
        draft.read_program();
        draft.recorder.hold(draft.tid);
    });
}

/// The task is about to be let go: what it calls from now on is its own again, and may be received
/// before this call is done with.
pub fn let_go() {
    with(|draft| draft.recorder.let_go(draft.tid));
}

/// What came of the call of a held task.
pub fn returned(value: i64) {
    with(|draft| draft.outcome = Outcome::Returned(value));
}

/// The call is refused: the path that this is told with; why, where it is not that a mount is
/// read-only; and the rule for real paths that says so.
pub fn refused(path: &[u8], why: Option<&str>, rule: Option<&Origin>) {
    with(|draft| {
        draft.refused = Some((path.to_vec(), why.map(str::to_owned)));
        draft.rule = rule.cloned();
    });
}

impl Draft {
    /// Is this one of the paths that the task gave? It may be resolved twice.
    fn gives(&self, path: &[u8]) -> bool {
        self.named.iter().any(|named| named.given.as_deref() == Some(path))
    }

    /// Notes what a mounted tree refuses, as handlers do where the supervisor answers.
    fn refused_by_a_tree(&mut self) {
        let mounts = |named: &Named| named.place.as_ref().and_then(|place| place.mount.clone());
        if let [from, to] = self.named.as_mut_slice()
            && matches!(from.asked.want, Want::MoveFrom | Want::Exchange)
            && mounts(from) != mounts(to)
            && let (Some(first), Some(second)) = (&from.look, &to.look)
            && [first, second].iter().all(|look| !matches!(look.err, Some(e) if e != Errno::EROFS))
        {
            from.look = Some(Look { err: Some(Errno::EXDEV), ..*first });
            to.look = Some(Look { err: Some(Errno::EXDEV), ..*second });
        }
        let refuses = |named: &Named| {
            let refused = |look: Look| matches!(look.err, Some(Errno::EROFS | Errno::EXDEV));
            // Who only asks is told so, and is refused nothing.
            !matches!(named.asked.want, Want::Access(_)) && named.look.is_some_and(refused)
        };
        if self.named.iter().any(refuses) {
            let mut places = self.named.iter().filter_map(|named| named.place.as_ref());
            let first = places.find(|place| place.mount.is_some()).map(|place| &place.text);
            let path = first.or(self.by_descriptor.as_ref());
            self.refused = path.map(|path| (path.clone(), None));
        }
    }

    fn read_program(&mut self) {
        let Some((argv, envp)) = self.vectors.filter(|_| self.exec.is_none()) else { return };
        let mut exec = program::read(self.tid, self.arch, argv, envp);
        exec.cwd = self.cwd.take().map(Into::into);
        exec.interpreters = self.interpreters.drain(..).map(Into::into).collect();
        self.exec = Some(exec);
    }
}
