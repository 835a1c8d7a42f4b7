//! open, openat, openat2, creat: a fresh descriptor of the blob, or of the directory's stand-in.

use super::open_flags::{self, Request};
use super::{Call, Verdict, conclude, maps};
use crate::access;
use crate::caller::{PATH_MAX, job_errno};
use crate::listener::{Answer, Pending};
use crate::resolve::{Found, Way as Walked, resolve_in};
use crate::rewrite::{self, Lent};
use crate::table::{At, OpenForm};
use crate::writable::files;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering::Relaxed;
use vrift_policy::{Errno, Opening, Operation, Outcome, Target, decide};
use vrift_projection::{Attr, Content, Kind, NodeRef};
use vrift_store::Hash;

/// What is handed out.
struct Opened {
    fd: OwnedFd,
    directory: bool,
    /// It is a directory that holds the link of this name, which is what is opened.
    link: Option<String>,
    /// The content, where it is a file's that others share.
    shared: Option<(NodeRef, Hash)>,
}

/// Answers the open family.
pub fn handle(call: &Call<'_>, form: OpenForm, mut pending: Pending<'_>) {
    let request = open_flags::request(call, form);
    let close_on_exec = request.flags.contains(OFlag::O_CLOEXEC);
    match find(call, &request) {
        Err(e) => conclude(call, pending, e.into()),
        Ok(Way::Verdict(verdict)) => conclude(call, pending, verdict),
        Ok(Way::Opened(opened)) => {
            let tid = call.caller.tid;
            let hints = &call.job.hints;
            let flags = request.flags;
            if flags.contains(OFlag::O_PATH) {
                let kept = libc::O_PATH | libc::O_CLOEXEC | libc::O_DIRECTORY | libc::O_NOFOLLOW;
                let what = match &opened.link {
                    Some(name) => Lent::Holder(name),
                    None if opened.directory => Lent::Directory,
                    None => Lent::File,
                };
                let how = (what, flags.bits() & kept);
                let note = |number| {
                    if let Some((node, hash)) = &opened.shared {
                        hints.note(hash, tid, number, *node);
                    }
                };
                let fd = opened.fd.as_fd();
                match rewrite::open_path_only(call, pending, fd, how, note) {
                    // What stands in for it would be another thing.
                    Some(back) if opened.link.is_some() => {
                        return back.answer(&Answer::Fail(Errno::ELOOP));
                    }
                    Some(back) => pending = back,
                    None => return,
                }
            }
            let sent = pending.answer_descriptor(opened.fd, close_on_exec);
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

/// What a call of the open family comes to.
fn find(call: &Call<'_>, request: &Request) -> Result<Way, Errno> {
    loop {
        match find_once(call, request) {
            // Somebody else made the file while this call was about to: then it is there.
            Err(Errno::EEXIST) if !request.flags.contains(OFlag::O_EXCL) => {}
            other => return other,
        }
    }
}

fn find_once(call: &Call<'_>, request: &Request) -> Result<Way, Errno> {
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
        return Ok(Way::Opened(Opened { fd, directory: false, link: None, shared: None }));
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
                Outcome::Serve => {
                    let (_, fd) = files::create(call, parent, &name, (shown(flags), request.mode))?;
                    counters.opens.fetch_add(1, Relaxed);
                    let (directory, link, shared) = (false, None, None);
                    return Ok(Way::Opened(Opened { fd, directory, link, shared }));
                }
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
        Found::Node(node) => open_node(call, node, request),
        Found::Kernel(_) | Found::Magic(_) => Ok(Way::Verdict(Verdict::CONTINUE)),
    }
}

fn writes(flags: OFlag) -> bool {
    flags.bits() & libc::O_ACCMODE != libc::O_RDONLY
}

/// The call's name in the decision table.
pub fn operation(flags: OFlag, target: Target) -> Operation {
    let opening = Opening {
        write: writes(flags),
        create: flags.contains(OFlag::O_CREAT),
        exclusive: flags.contains(OFlag::O_EXCL),
        truncate: flags.contains(OFlag::O_TRUNC),
        directory: flags.contains(OFlag::O_DIRECTORY),
        temporary: flags.bits() & (libc::O_TMPFILE & !libc::O_DIRECTORY) != 0,
        path_only: flags.contains(OFlag::O_PATH),
    };
    opening.operation(target)
}

/// What fcntl(F_GETFL) shows later, and how a file is opened.
fn shown(flags: OFlag) -> OFlag {
    let kept = OFlag::O_APPEND
        | OFlag::O_ASYNC
        | OFlag::O_DIRECT
        | OFlag::O_DIRECTORY
        | OFlag::O_DSYNC
        | OFlag::O_NOATIME
        | OFlag::O_NOFOLLOW
        | OFlag::O_NONBLOCK
        | OFlag::O_SYNC;
    let access = OFlag::from_bits_retain(libc::O_ACCMODE);
    flags & (kept | access | OFlag::O_TRUNC | OFlag::O_TMPFILE | OFlag::O_EXCL)
}

/// The rights that opening with these flags takes (`ACC_MODE` of fs/open.c).
fn wanted_rights(flags: OFlag) -> u32 {
    let access = match flags.bits() & libc::O_ACCMODE {
        libc::O_RDONLY => access::READ,
        libc::O_WRONLY => access::WRITE,
        _ => access::READ | access::WRITE,
    };
    if flags.contains(OFlag::O_TRUNC) { access | access::WRITE } else { access }
}

fn open_node(call: &Call<'_>, node: NodeRef, request: &Request) -> Result<Way, Errno> {
    let flags = request.flags;
    let job = call.job;
    let attr = job.attr(node)?;
    let target = job.target(node)?;
    let operation = operation(flags, target);
    // Without O_TRUNC the mode bits come before the read-only mount, as in may_open().
    if operation.permission_first(target).is_some() {
        if !access::may(job, call.caller, &attr, wanted_rights(flags)) {
            return Err(Errno::EACCES);
        }
        keeps_time(call, &attr, flags)?;
    }
    if let Outcome::Refuse(e) = decide(operation, job.mode(node), target) {
        return Err(job.refused(call.row.name, e, job.path(node)));
    }
    let path_only = flags.contains(OFlag::O_PATH);
    if operation == Operation::MakeTempFile {
        let (_, fd) = files::nameless(call, node, (shown(flags), request.mode))?;
        job.counters.opens.fetch_add(1, Relaxed);
        return Ok(Way::Opened(Opened { fd, directory: false, link: None, shared: None }));
    }
    if !path_only && !access::may(job, call.caller, &attr, wanted_rights(flags)) {
        return Err(Errno::EACCES);
    }
    keeps_time(call, &attr, flags)?;
    job.counters.opens.fetch_add(1, Relaxed);
    // An O_PATH descriptor is made of one for reading, or that takes its place.
    let wanted = if path_only { OFlag::O_NONBLOCK } else { shown(flags) };
    let directory = attr.kind == Kind::Directory;
    let (fd, shared) = match attr.kind {
        Kind::Directory => (open_directory(call, node, wanted, path_only)?, None),
        Kind::File => open_file(call, node, &attr, wanted, (!path_only).then_some(request.at))?,
        Kind::Symlink if path_only => return link_itself(call, node).map(Way::Opened),
        Kind::Symlink => return Err(Errno::ELOOP),
        Kind::Socket if !path_only => return Err(Errno::ENXIO),
        // The task opens it by itself: it may have to wait.
        Kind::Fifo | Kind::Socket | Kind::CharDevice | Kind::BlockDevice => {
            return Ok(Way::Verdict(Verdict::OnUpper(request.at.path, node)));
        }
    };
    Ok(Way::Opened(Opened { fd, directory, link: None, shared }))
}

/// `O_PATH | O_NOFOLLOW` of a link: the task opens one like it, in the private tree.
fn link_itself(call: &Call<'_>, node: NodeRef) -> Result<Opened, Errno> {
    let job = call.job;
    let target = job.check(job.projection.link_target(node))?;
    let private = job.private.as_ref().ok_or(Errno::EIO)?;
    let (fd, name) = private.link(node, &target).map_err(job.errno("open of a link"))?;
    Ok(Opened { fd, directory: false, link: Some(name), shared: None })
}

/// A descriptor of a directory's stand-in, or of the directory that is watched in its place.
fn open_directory(
    call: &Call<'_>,
    node: NodeRef,
    wanted: OFlag,
    path_only: bool,
) -> Result<OwnedFd, Errno> {
    if !path_only
        && let Some(overlay) = call.job.overlay(node)
        && let Some(fd) = overlay.open_seen(node.node, files::flags(wanted))
    {
        return Ok(fd);
    }
    let fd = stand_in(call, node)?;
    let more = wanted.difference(OFlag::O_DIRECTORY);
    if wanted.contains(OFlag::O_DIRECTORY) && more.is_empty() {
        return Ok(fd);
    }
    let wanted = wanted | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    openat(&fd, ".", wanted, Mode::empty()).map_err(call.job.errno("open of a directory"))
}

/// A descriptor of a file's content: of its own in a writable mount, else of the blob. Content that
/// other files share is told with it.
fn open_file(
    call: &Call<'_>,
    node: NodeRef,
    attr: &Attr,
    wanted: OFlag,
    seen_at: Option<At>,
) -> Result<(OwnedFd, Option<(NodeRef, Hash)>), Errno> {
    let job = call.job;
    job.counters.content(node, attr.size);
    if job.overlay(node).is_some()
        && let Some(fd) = files::open_existing(call, node, (wanted, writes(wanted)), seen_at)?
    {
        return Ok((fd, None));
    }
    let Some(Content::Blob(hash, size)) = job.check(job.projection.content(node))? else {
        return Err(Errno::EIO);
    };
    let fd = call.open_blob(node, (&hash, size), wanted.difference(OFlag::O_TRUNC))?;
    if !job.has_several_paths(&hash) {
        return Ok((fd, None));
    }
    job.mark(fd.as_fd(), &hash, node)?;
    Ok((fd, Some((node, hash))))
}

/// `O_NOATIME` is the owner's right.
fn keeps_time(call: &Call<'_>, attr: &Attr, flags: OFlag) -> Result<(), Errno> {
    if flags.contains(OFlag::O_NOATIME) && !access::owns(call.job, call.caller, attr) {
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
