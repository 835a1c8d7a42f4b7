//! open, openat, openat2, creat: a fresh descriptor of the blob, or of the directory's stand-in.

use super::open_flags::{self, Request};
use super::{Call, Verdict, maps};
use crate::access;
use crate::caller::{PATH_MAX, job_errno};
use crate::listener::{Answer, Pending};
use crate::resolve::{Found, Way as Walked, resolve_in};
use crate::rewrite;
use crate::table::OpenForm;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering::Relaxed;
use vrift_policy::{Errno, Operation, Outcome, Target, decide};
use vrift_projection::NodeRef;
use vrift_store::{Hash, NodeKind};

/// What is handed out.
struct Opened {
    fd: OwnedFd,
    directory: bool,
    /// The content, where it is a file's.
    blob: Option<(NodeRef, Hash)>,
}

/// Answers the open family.
pub fn handle(call: &Call<'_>, form: OpenForm, mut pending: Pending<'_>) {
    // What a task opens on our behalf (rewrite::open_path_only).
    if form == OpenForm::OpenAt
        && call.job.path_only.load(Relaxed)
        && call.job.expected(call.caller.tid, call.caller.arg(1))
    {
        return pending.answer(&Answer::Continue);
    }
    let request = open_flags::request(call, form);
    let close_on_exec = request.flags.contains(OFlag::O_CLOEXEC);
    match find(call, &request) {
        Err(e) => pending.answer(&Answer::Fail(e)),
        Ok(Way::Verdict(Verdict::Answer(answer))) => pending.answer(&answer),
        Ok(Way::Verdict(Verdict::Redirect(paths))) => {
            rewrite::redirect(call, pending, &paths);
        }
        Ok(Way::Opened(opened)) => {
            let tid = call.caller.tid;
            let hints = &call.job.hints;
            let noted = opened.blob.filter(|(_, hash)| call.job.has_several_paths(hash));
            let flags = request.flags;
            if flags.contains(OFlag::O_PATH) {
                let kept = libc::O_PATH | libc::O_CLOEXEC | libc::O_DIRECTORY | libc::O_NOFOLLOW;
                let how = (opened.directory, flags.bits() & kept);
                let note = |number| {
                    if let Some((node, hash)) = &noted {
                        hints.lock().note(hash, tid, number, *node);
                    }
                };
                let fd = opened.fd.as_fd();
                match rewrite::open_path_only(call, pending, fd, how, note) {
                    Some(back) => pending = back,
                    None => return,
                }
            }
            // In one step the task goes on before its descriptor's number is known here: what it
            // asks about that must wait until it has been noted.
            let mut locked =
                (noted.is_some() && pending.may_be_interrupted()).then(|| hints.lock());
            let sent = pending.answer_descriptor(opened.fd.as_fd(), close_on_exec, |number| {
                if let Some((node, hash)) = &noted {
                    match &mut locked {
                        Some(locked) => locked.note(hash, tid, number, *node),
                        None => hints.lock().note(hash, tid, number, *node),
                    }
                }
            });
            drop(locked);
            if let Err(e) = sent {
                tracing::debug!("descriptor for task {tid} was not taken: {e}");
            }
        }
    }
}

enum Way {
    Verdict(Verdict),
    Opened(Opened),
}

fn find(call: &Call<'_>, request: &Request) -> Result<Way, Errno> {
    let flags = request.flags;
    let at = request.at;
    let exclusive = flags.contains(OFlag::O_CREAT | OFlag::O_EXCL);
    let follow = !flags.contains(OFlag::O_NOFOLLOW) && !exclusive;
    if let Some(e) = request.invalid {
        return call.unless_real(at, follow, Err(e)).map(Way::Verdict);
    }
    let mut buf = [0u8; PATH_MAX];
    let path = call.caller.read_path(call.caller.arg(at.path), &mut buf)?;
    let counters = &call.job.counters;
    counters.look_ups.fetch_add(1, Relaxed);
    let walk = Walked {
        follow,
        creates: flags.contains(OFlag::O_CREAT),
        in_root: request.resolve & open_flags::IN_ROOT != 0,
    };
    let found = resolve_in(call.job, call.caller, call.dirfd(at), path, walk)?;
    if let Found::Kernel(place) = &found
        && let Some(path) = &place.path
        && maps::is_listing(path)
        && !writes(flags)
        && let Some(fd) = maps::snapshot(call, path)?
    {
        return Ok(Way::Opened(Opened { fd, directory: false, blob: None }));
    }
    if let Found::Kernel(_) | Found::Magic(_) = found {
        return Ok(Way::Verdict(Verdict::CONTINUE));
    }
    if request.resolve != 0 {
        // What a caller wants excluded (links, magic links, other mounts) would have to be asked
        // of the walk; callers of these flags fall back to openat where they are missing.
        return Err(Errno::ENOSYS);
    }
    match found {
        Found::Foreign(path) => Ok(Way::Verdict(Verdict::Redirect(vec![(at.path, path)]))),
        Found::Missing { parent, name, .. } => {
            let operation = operation(flags, Target::Missing);
            let errno = match decide(operation, call.job.mode(parent), Target::Missing) {
                Outcome::Refuse(e) => e,
                Outcome::Serve => Errno::ENOENT,
            };
            if errno == Errno::ENOENT {
                counters.missing.fetch_add(1, Relaxed);
                return Err(errno);
            }
            let mut path = call.job.path(parent);
            path.push(b'/');
            path.extend_from_slice(&name);
            Err(call.job.refused(call.row.name, errno, path))
        }
        Found::Node(node) => open_node(call, node, flags).map(Way::Opened),
        Found::Kernel(_) | Found::Magic(_) => Ok(Way::Verdict(Verdict::CONTINUE)),
    }
}

fn writes(flags: OFlag) -> bool {
    flags.bits() & libc::O_ACCMODE != libc::O_RDONLY
}

fn operation(flags: OFlag, target: Target) -> Operation {
    let temp = flags.bits() & (libc::O_TMPFILE & !libc::O_DIRECTORY) != 0;
    if flags.contains(OFlag::O_PATH) {
        if flags.contains(OFlag::O_DIRECTORY) { Operation::List } else { Operation::OpenPath }
    } else if temp {
        Operation::MakeTempFile
    } else if flags.contains(OFlag::O_CREAT | OFlag::O_EXCL) {
        Operation::CreateExclusive
    } else if flags.contains(OFlag::O_CREAT) {
        if flags.contains(OFlag::O_TRUNC) {
            Operation::CreateTruncate
        } else if writes(flags) {
            Operation::CreateWrite
        } else {
            Operation::CreateFile
        }
    } else if flags.contains(OFlag::O_DIRECTORY)
        && matches!(target, Target::File | Target::Symlink | Target::Missing)
    {
        Operation::List
    } else if flags.contains(OFlag::O_TRUNC) {
        Operation::OpenTruncate
    } else if writes(flags) {
        Operation::OpenWrite
    } else {
        Operation::Read
    }
}

fn open_node(call: &Call<'_>, node: NodeRef, flags: OFlag) -> Result<Opened, Errno> {
    let job = call.job;
    let attr = job.attr(node)?;
    let target = job.target(node)?;
    let operation = operation(flags, target);
    // Without O_TRUNC the mode bits come before the read-only mount, as in may_open().
    if operation.permission_first(target).is_some() {
        let read = flags.bits() & libc::O_ACCMODE != libc::O_WRONLY;
        let want = access::WRITE | if read { access::READ } else { 0 };
        if !access::may(job, call.caller, &attr, want) {
            return Err(Errno::EACCES);
        }
        keeps_time(call, flags)?;
    }
    if let Outcome::Refuse(e) = decide(operation, job.mode(node), target) {
        return Err(job.refused(call.row.name, e, job.path(node)));
    }
    let path_only = flags.contains(OFlag::O_PATH);
    if !path_only && !access::may(job, call.caller, &attr, access::READ) {
        return Err(Errno::EACCES);
    }
    keeps_time(call, flags)?;
    job.counters.opens.fetch_add(1, Relaxed);
    // What fcntl(F_GETFL) shows later.
    let shown = OFlag::O_APPEND
        | OFlag::O_ASYNC
        | OFlag::O_DIRECT
        | OFlag::O_DIRECTORY
        | OFlag::O_DSYNC
        | OFlag::O_NOATIME
        | OFlag::O_NOFOLLOW
        | OFlag::O_NONBLOCK
        | OFlag::O_SYNC;
    // An O_PATH descriptor is made of one for reading, or that takes its place.
    let wanted = if path_only { OFlag::O_NONBLOCK } else { flags & shown };
    match attr.kind {
        NodeKind::Directory => {
            let fd = stand_in(call, node)?;
            if wanted.contains(OFlag::O_DIRECTORY)
                && wanted.difference(OFlag::O_DIRECTORY).is_empty()
            {
                return Ok(Opened { fd, directory: true, blob: None });
            }
            let wanted = wanted | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
            let fd = openat(&fd, ".", wanted, Mode::empty())
                .map_err(call.job.errno("open of a directory"))?;
            Ok(Opened { fd, directory: true, blob: None })
        }
        NodeKind::File => {
            let hash = job.check(job.projection.blob(node))?.ok_or(Errno::EIO)?;
            let fd = call.open_blob(&hash, attr.size, OFlag::O_RDONLY | wanted)?;
            job.counters.content(node, attr.size);
            Ok(Opened { fd, directory: false, blob: Some((node, hash)) })
        }
        // O_PATH | O_NOFOLLOW on a link: a descriptor of the link itself, which can't be made.
        NodeKind::Symlink => Err(Errno::ELOOP),
    }
}

/// `O_NOATIME` is the owner's right.
fn keeps_time(call: &Call<'_>, flags: OFlag) -> Result<(), Errno> {
    if flags.contains(OFlag::O_NOATIME) && !access::owns(call.job, call.caller) {
        return Err(Errno::EPERM);
    }
    Ok(())
}

/// A descriptor of the directory that stands for a projected one.
pub fn stand_in(call: &Call<'_>, node: NodeRef) -> Result<OwnedFd, Errno> {
    let private = call.job.private.as_ref().ok_or(Errno::EIO)?;
    private.open_directory(node).map_err(|e| {
        call.job.counters.fail(format!("directory for a projected one: {e}"));
        job_errno(e)
    })
}
