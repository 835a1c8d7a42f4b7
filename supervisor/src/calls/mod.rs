//! One module for each family of calls. A handler looks, decides and answers; it never waits for
//! anything but the kernel, and content that is fetched ([`content`]), and never touches what the caller
//! may not.

mod access;
pub mod arguments;
mod asked;
mod chain;
mod change;
mod chdir;
mod content;
mod cwd;
mod dir;
mod exec;
mod gate;
mod lease;
mod link;
mod lock;
mod make;
mod maps;
mod observe;
mod open;
mod open_flags;
mod process;
mod readlink;
mod remove;
mod rename;
mod socket;
mod stat;
mod statfs;
mod watch;
mod xattr;

use crate::caller::{Caller, PATH_MAX};
use crate::job::{Job, Spot};
use crate::listener::{Answer, Pending};
use crate::receiver::Pool;
use crate::resolve::holder::{self, Held};
use crate::resolve::{AT_FDCWD, Found, RealPlace, resolve};
use crate::rewrite;
use crate::sys::proc::PathBuffer;
use crate::table::{At, Follow, Handler, OpenForm, Row};
use crate::view::Seen;
use nix::fcntl::OFlag;
use vrift_policy::Errno;
use vrift_projection::{Attr, Kind, NodeRef};

/// `AT_SYMLINK_NOFOLLOW`.
const AT_SYMLINK_NOFOLLOW: i32 = libc::AT_SYMLINK_NOFOLLOW;
/// `AT_SYMLINK_FOLLOW`.
const AT_SYMLINK_FOLLOW: i32 = libc::AT_SYMLINK_FOLLOW;
/// `AT_EMPTY_PATH`.
const AT_EMPTY_PATH: i32 = libc::AT_EMPTY_PATH;

/// One call on its way to an answer.
pub struct Call<'a> {
    /// The job.
    pub job: &'a Job,
    /// The task.
    pub caller: &'a Caller<'a>,
    /// The call's row.
    pub row: &'static Row,
    /// The receivers, for handlers that have to wait for the task itself.
    pub pool: &'a std::sync::Arc<Pool>,
}

/// What a handler of the simple kind comes to.
pub enum Verdict {
    /// This answer.
    Answer(Answer),
    /// The kernel has to do it, on other paths than the caller's string says: the path arguments
    /// (by index) and the real paths that they name.
    Redirect(Vec<(u8, Vec<u8>)>),
    /// The task has to do it, on the file of the upper directory that a node of a writable mount
    /// has: the argument that names it, and the node.
    OnUpper(u8, NodeRef),
}

/// The call has done what it was for.
pub const DONE: Verdict = Verdict::Answer(Answer::Value(0));

impl Verdict {
    /// The call goes on in the kernel.
    pub const CONTINUE: Verdict = Verdict::Answer(Answer::Continue);
}

/// May a path be empty, and mean the descriptor before it?
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Empty {
    /// No: ENOENT.
    No,
    /// Yes; a null pointer is EFAULT.
    Yes,
    /// Yes, and a null pointer means the same (since 6.11).
    OrNull,
}

impl Empty {
    /// As the flag `AT_EMPTY_PATH` says.
    fn flag(flags: i32, given: Empty) -> Empty {
        if flags & AT_EMPTY_PATH != 0 { given } else { Empty::No }
    }
}

impl From<Errno> for Verdict {
    fn from(e: Errno) -> Verdict {
        Verdict::Answer(Answer::Fail(e))
    }
}

/// Answers one notification, and records it where a trace is asked for.
pub fn dispatch(call: &Call<'_>, pending: Pending<'_>) {
    match &call.job.recorder {
        None => answer(call, pending),
        Some(recorder) => recorder.record(call, asked::asked(call), || answer(call, pending)),
    }
}

fn answer(call: &Call<'_>, pending: Pending<'_>) {
    use Handler as H;
    let (mounts, rules) = (call.job.projection.mounts(), &call.job.rules);
    let mounted = call.job.seen == Seen::Mounted;
    // The kernel knows all that there is.
    let known = mounts.is_empty() || mounted;
    if known && rules.is_empty() && !(mounted && call.row.handler.guards()) {
        // The call is only told or counted.
        match &call.job.recorder {
            Some(recorder) => observe::observe(call, recorder),
            None => count(call),
        }
        return pending.answer(&Answer::Continue);
    }
    // What a task calls because the supervisor made it.
    let mine = |i| call.job.expected(call.caller.tid, call.caller.arg(i));
    if mine(0) || mine(1) {
        return pending.answer(&Answer::Continue);
    }
    if !rules.is_empty()
        && let Err(e) = gate::pass(call)
    {
        return pending.answer(&Answer::Fail(e));
    }
    if known && !gate::needs_handler(call) || mounted && call.lists_a_mount() {
        count(call);
        return pending.answer(&Answer::Continue);
    }
    let verdict = match call.row.handler {
        H::Open(form) => return open::handle(call, form, pending),
        H::ExecVe => return exec::handle(call, pending, false),
        H::ExecVeAt => return exec::handle(call, pending, true),
        H::ChDir => return chdir::handle(call, pending),
        H::Stat { at, follow, buf, flags, layout } => {
            stat::by_path(call, at, follow, buf, flags, layout)
        }
        H::FStat(layout) => stat::by_descriptor(call, layout),
        H::Access { at, flags } => access::handle(call, at, flags),
        H::ReadLink(at) => readlink::handle(call, at),
        H::GetDents { legacy } => return dir::handle(call, legacy, pending),
        H::GetCwd => cwd::handle(call),
        H::StatFs { sized } => statfs::by_path(call, sized),
        H::FStatFs { sized } => statfs::by_descriptor(call, sized),
        H::GetXattr(follow) => xattr::get(call, follow),
        H::FGetXattr => xattr::get_by_descriptor(call),
        H::ListXattr(follow) => xattr::list(call, follow),
        H::GetXattrAt => xattr::get_at(call),
        H::ListXattrAt => xattr::list_at(call),
        H::FListXattr => xattr::list_by_descriptor(call),
        H::Make { at, op } => make::handle(call, at, op),
        H::Remove { at, op, flags } => remove::handle(call, at, op, flags),
        H::Rename { old, new, flags } => rename::handle(call, old, new, flags),
        H::Link { old, new, flags } => link::handle(call, old, new, flags),
        H::Change { at, op, follow, empty, null_is_fd } => {
            change::by_path(call, at, op, follow, empty, null_is_fd)
        }
        H::FdChange(op) => change::by_descriptor(call, op),
        H::Ioctl => change::by_request(call),
        H::Socket(op) => socket::handle(call, op),
        H::SocketCall => socket::multiplexed(call),
        H::SocketName => socket::name(call),
        H::Watch => watch::handle(call),
        H::Lacking { at, follow, errno } => lacking(call, at, follow, errno),
        H::Process { pid, act } => process::handle(call, pid, act),
        H::Lease => lease::handle(call),
        H::Flock => return lock::handle(call, pending),
        H::Deny(errno, path) => Err(deny(call, errno, path)),
        H::Unshare => {
            call.job.users.expect_foreign();
            Ok(Verdict::CONTINUE)
        }
        H::Refuse(e) => Ok(e.into()),
        // Decided in the filter.
        H::PrCtl => Ok(Verdict::CONTINUE),
    };
    conclude(call, pending, verdict.unwrap_or_else(Verdict::from));
}

/// Does what a handler came to.
fn conclude(call: &Call<'_>, pending: Pending<'_>, verdict: Verdict) {
    match verdict {
        _ if call.caller.called_away.get() => content::give_way(call, pending),
        Verdict::Answer(Answer::Value(value)) if !call.caller.late.borrow().is_empty() => {
            rewrite::answer_written(call, value, pending);
        }
        Verdict::Answer(answer) => pending.answer(&answer),
        // The kernel goes the same way.
        Verdict::Redirect(_) if call.job.seen == Seen::Mounted => pending.answer(&Answer::Continue),
        Verdict::Redirect(paths) => rewrite::redirect(call, pending, &paths),
        Verdict::OnUpper(argument, node) => rewrite::on_upper(call, pending, argument, node),
    }
}

/// The flags that a call of the open family gives.
pub fn open_request(call: &Call<'_>, form: OpenForm) -> OFlag {
    open_flags::request(call, form).flags
}

/// Notes why a call that would change what paths mean is refused.
fn deny(call: &Call<'_>, errno: Errno, path: u8) -> Errno {
    let mut buf = [0u8; PATH_MAX];
    let path = match call.caller.args.get(usize::from(path)) {
        Some(&address) => call.caller.read_path(address, &mut buf).unwrap_or_default(),
        None => b"",
    };
    let why = "in a job with mounts or rules paths keep their meaning";
    crate::trace::current::refused(path, Some(why), None);
    call.job.counters.refuse(crate::counters::Refusal {
        call: call.row.name,
        errno,
        path: path.to_vec(),
        why: Some(why.into()),
        rule: None,
    });
    errno
}

/// Counts a call of a job without mounts and trace.
fn count(call: &Call<'_>) {
    let counters = &call.job.counters;
    let counter = match call.row.handler {
        Handler::ExecVe | Handler::ExecVeAt => &counters.execs,
        Handler::Open(_) | Handler::Stat { .. } | Handler::Access { .. } | Handler::ReadLink(_) => {
            &counters.look_ups
        }
        _ => return,
    };
    counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
}

impl Call<'_> {
    /// Does the call follow a link that its path ends in?
    fn follows(&self, follow: Follow) -> bool {
        match follow {
            Follow::No => false,
            Follow::Yes => true,
            Follow::Unless(i) => self.caller.int(i) & AT_SYMLINK_NOFOLLOW == 0,
            Follow::OnlyIf(i) => self.caller.int(i) & AT_SYMLINK_FOLLOW != 0,
        }
    }

    /// The directory descriptor that a path argument starts from.
    fn dirfd(&self, at: At) -> i32 {
        at.dirfd.map_or(AT_FDCWD, |i| self.caller.int(i))
    }

    /// Reads and resolves a path argument.
    fn find(&self, at: At, follow: bool) -> Result<Found, Errno> {
        let mut buf = [0u8; PATH_MAX];
        let path = self.caller.read_path(self.caller.arg(at.path), &mut buf)?;
        resolve(self.job, self.caller, self.dirfd(at), path, follow)
    }

    /// Like [`find`](Call::find), where an empty path may mean the descriptor itself: None says
    /// that it does.
    fn find_or_empty(&self, at: At, follow: bool, empty: Empty) -> Result<Option<Found>, Errno> {
        let address = self.caller.arg(at.path);
        if empty == Empty::OrNull && address == 0 {
            return Ok(None);
        }
        let mut buf = [0u8; PATH_MAX];
        let path = self.caller.read_path(address, &mut buf)?;
        if empty != Empty::No && path.is_empty() {
            return Ok(None);
        }
        resolve(self.job, self.caller, self.dirfd(at), path, follow).map(Some)
    }

    /// What the kernel says before it looks at the path: `answer` for anything but a real path, of
    /// which it says so itself.
    fn unless_real(
        &self,
        at: At,
        follow: bool,
        answer: Result<Verdict, Errno>,
    ) -> Result<Verdict, Errno> {
        match self.find(at, follow) {
            Ok(Found::Kernel(_) | Found::Magic(_)) => Ok(Verdict::CONTINUE),
            Ok(Found::Foreign(path)) => Ok(Verdict::Redirect(vec![(at.path, path)])),
            _ => answer,
        }
    }

    /// Is the path argument null or the empty string?
    fn path_is_empty(&self, at: At) -> bool {
        let address = self.caller.arg(at.path);
        let mut first = [1u8];
        address == 0 || (self.caller.read_exact(address, &mut first).is_ok() && first == [0])
    }

    /// Who holds the name that a path argument ends in.
    pub fn held(&self, at: At) -> Result<Held, Errno> {
        let mut buf = [0u8; PATH_MAX];
        let path = self.caller.read_path(self.caller.arg(at.path), &mut buf)?;
        holder::held(self.job, self.caller, self.dirfd(at), path)
    }

    /// The absolute path of a real place that [`find`](Call::find) found for `at`, its last
    /// component not followed. None: the directory is not known.
    fn real_path(&self, at: At, place: &RealPlace) -> Option<Vec<u8>> {
        if let Some(path) = &place.path {
            return Some(path.clone());
        }
        let dir = place.dir.as_ref()?;
        let mut buf = [0u8; PATH_MAX];
        let text = self.caller.read_path(self.caller.arg(at.path), &mut buf).ok()?;
        let name = text.rsplit(|&b| b == b'/').next().unwrap_or_default();
        let mut whole = dir.physical.to_vec();
        if whole != b"/" {
            whole.push(b'/');
        }
        whole.extend_from_slice(name);
        Some(whole)
    }

    /// What the descriptor in argument 0 stands for, where it is one and nothing else.
    fn node_of_number(&self) -> Result<Option<NodeRef>, Errno> {
        let fd = self.caller.int(0);
        if fd < 0 { Ok(None) } else { self.node_of_descriptor(fd) }
    }

    /// Does the call list a directory of a mount? No rule speaks of those.
    fn lists_a_mount(&self) -> bool {
        matches!(self.row.handler, Handler::GetDents { .. })
            && self.node_of_number().is_ok_and(|node| node.is_some())
    }

    /// What the caller's descriptor `fd` stands for; `AT_FDCWD` is the current directory. None:
    /// nothing of ours, or no such descriptor.
    fn node_of_descriptor(&self, fd: i32) -> Result<Option<NodeRef>, Errno> {
        match self.spot_of_descriptor(fd)? {
            Spot::Node(node) => Ok(Some(node)),
            _ => Ok(None),
        }
    }

    /// The same for a call that would change what is behind the descriptor: EROFS for what is the
    /// store's and not projected, which a task can only have been given from outside.
    fn changeable_descriptor(&self, fd: i32) -> Result<Option<NodeRef>, Errno> {
        match self.spot_of_descriptor(fd)? {
            Spot::Node(node) => Ok(Some(node)),
            Spot::Hidden => Err(Errno::EROFS),
            Spot::Real | Spot::Nowhere => Ok(None),
        }
    }

    /// The same for a number, where -100 is none.
    fn changeable_number(&self, fd: i32) -> Result<Option<NodeRef>, Errno> {
        if fd < 0 { Ok(None) } else { self.changeable_descriptor(fd) }
    }

    /// EBADF for a descriptor that was opened with `O_PATH`, as calls say that want an opened file.
    fn must_be_opened(&self, fd: i32) -> Result<(), Errno> {
        if fd < 0 || !self.job.path_only.load(std::sync::atomic::Ordering::Relaxed) {
            return Ok(());
        }
        let info = crate::locks::information(self.caller.tid, fd);
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
        if flags.is_some_and(|flags| flags & libc::O_PATH != 0) {
            Err(Errno::EBADF)
        } else {
            Ok(())
        }
    }

    /// Is the caller's descriptor `fd`, which stands for `node`, one of the changed file itself?
    fn is_upper_file(&self, fd: i32, node: NodeRef) -> bool {
        let mut buf: PathBuffer = [0; 4096];
        let Ok(text) = self.caller.descriptor(fd, &mut buf) else { return false };
        let upper = self.job.uppers.iter().find(|upper| upper.mount == node.mount);
        upper.is_some_and(|upper| {
            let file = || self.job.projection.kind(node).is_ok_and(|kind| kind != Kind::Directory);
            text.strip_prefix(upper.root.as_slice()).is_some_and(|rest| rest.starts_with(b"/f/"))
                || (upper.in_mirror(text).is_some() && file())
        })
    }

    /// A node's metadata, by the descriptor of it that the caller has: of a file without a name it
    /// is all there is.
    fn attr_of_descriptor(&self, fd: i32, node: NodeRef) -> Result<Attr, Errno> {
        let job = self.job;
        if !job.projection.is_gone(node) || !self.is_upper_file(fd, node) {
            return job.attr(node);
        }
        let link = format!("/proc/{}/fd/{fd}", self.caller.tid);
        let stat = rustix::fs::stat(link.as_str()).map_err(crate::writable::files::errno)?;
        job.check(job.projection.attr_of_open(node, &stat))
    }

    fn spot_of_descriptor(&self, fd: i32) -> Result<Spot, Errno> {
        let mut buf: PathBuffer = [0; 4096];
        let text = if fd == AT_FDCWD {
            self.caller.cwd(&mut buf)
        } else {
            self.caller.descriptor(fd, &mut buf)
        };
        // A descriptor that is not open: the kernel says so.
        let Ok(text) = text else { return Ok(Spot::Nowhere) };
        self.job.spot(self.caller, text, Some(fd))
    }
}

/// A call whose answer for anything projected is "there is no such thing here".
fn lacking(call: &Call<'_>, at: At, follow: Follow, errno: Errno) -> Result<Verdict, Errno> {
    const HANDLE_FLAGS: i32 = 0x1603; // FOLLOW, EMPTY_PATH, and those of name_to_handle_at alone
    if let Follow::OnlyIf(flags) = follow
        && call.caller.int(flags) & !HANDLE_FLAGS != 0
    {
        return call.unless_real(at, call.follows(follow), Err(Errno::EINVAL));
    }
    match call.find_or_empty(at, call.follows(follow), Empty::OrNull)? {
        None => match call.node_of_descriptor(call.dirfd(at))? {
            Some(_) => Err(errno),
            None => Ok(Verdict::CONTINUE),
        },
        Some(Found::Node(_)) => Err(errno),
        Some(Found::Missing { .. }) => Err(Errno::ENOENT),
        Some(Found::Kernel(_) | Found::Magic(_)) => Ok(Verdict::CONTINUE),
        Some(Found::Foreign(path)) => Ok(Verdict::Redirect(vec![(at.path, path)])),
    }
}
