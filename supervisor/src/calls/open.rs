//! open, openat, openat2, creat: a fresh descriptor of the blob, or of the directory's stand-in.

use super::{Call, Verdict, maps};
use crate::access;
use crate::caller::PATH_MAX;
use crate::listener::{Answer, Pending};
use crate::resolve::{AT_FDCWD, Found, resolve};
use crate::rewrite;
use crate::table::OpenForm;
use nix::fcntl::OFlag;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering::Relaxed;
use vrift_policy::{Errno, Operation, Outcome, Target, decide};
use vrift_projection::NodeRef;
use vrift_store::{Hash, NodeKind};

/// What the caller asked for.
struct Request {
    dirfd: i32,
    path: u8,
    flags: OFlag,
    /// `RESOLVE_*` of openat2.
    resolve: u64,
}

/// What is handed out.
struct Opened {
    fd: OwnedFd,
    /// The content, where it is a file's.
    blob: Option<(NodeRef, Hash)>,
}

/// Answers the open family.
pub fn handle(call: &Call<'_>, form: OpenForm, pending: Pending<'_>) {
    let outcome = request(call, form).and_then(|request| {
        let close_on_exec = request.flags.contains(OFlag::O_CLOEXEC);
        find(call, &request).map(|found| (found, close_on_exec, request.path))
    });
    match outcome {
        Err(e) => pending.answer(&Answer::Fail(e)),
        Ok((Way::Verdict(Verdict::Answer(answer)), ..)) => pending.answer(&answer),
        Ok((Way::Verdict(Verdict::Redirect(paths)), ..)) => {
            rewrite::redirect(call, pending, &paths);
        }
        Ok((Way::Opened(opened), close_on_exec, _)) => {
            let tid = call.caller.tid;
            let sent = pending.answer_descriptor(opened.fd.as_fd(), close_on_exec, |number| {
                if let Some((node, hash)) = &opened.blob {
                    call.job.remember(tid, number, *node, hash);
                }
            });
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

fn request(call: &Call<'_>, form: OpenForm) -> Result<Request, Errno> {
    let caller = call.caller;
    let plain = |dirfd, path, flags| Request {
        dirfd,
        path,
        flags: OFlag::from_bits_retain(flags),
        resolve: 0,
    };
    Ok(match form {
        OpenForm::Open => plain(AT_FDCWD, 0, caller.int(1)),
        OpenForm::Creat => plain(AT_FDCWD, 0, libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC),
        OpenForm::OpenAt => plain(caller.int(0), 1, caller.int(2)),
        OpenForm::OpenAt2 => {
            // struct open_how, version 0: flags, mode, resolve.
            let mut how = [0u8; 24];
            if caller.arg(3) < 24 {
                return Err(Errno::EINVAL);
            }
            caller.read_exact(caller.arg(2), &mut how)?;
            let word = |i: usize| {
                u64::from_ne_bytes([
                    how[i],
                    how[i + 1],
                    how[i + 2],
                    how[i + 3],
                    how[i + 4],
                    how[i + 5],
                    how[i + 6],
                    how[i + 7],
                ])
            };
            let flags = i32::try_from(word(0)).map_err(|_| Errno::EINVAL)?;
            Request { resolve: word(16), ..plain(caller.int(0), 1, flags) }
        }
    })
}

fn find(call: &Call<'_>, request: &Request) -> Result<Way, Errno> {
    let flags = request.flags;
    let mut buf = [0u8; PATH_MAX];
    let path = call.caller.read_path(call.caller.arg(request.path), &mut buf)?;
    let exclusive = flags.contains(OFlag::O_CREAT | OFlag::O_EXCL);
    let follow = !flags.contains(OFlag::O_NOFOLLOW) && !exclusive;
    let counters = &call.job.counters;
    counters.look_ups.fetch_add(1, Relaxed);
    let found = resolve(call.job, call.caller, request.dirfd, path, follow)?;
    if let Found::Kernel(place) = &found
        && let Some(path) = &place.path
        && maps::is_listing(path)
        && !writes(flags)
        && let Some(fd) = maps::snapshot(call, path)?
    {
        return Ok(Way::Opened(Opened { fd, blob: None }));
    }
    if let Found::Kernel(_) | Found::Magic(_) = found {
        return Ok(Way::Verdict(Verdict::CONTINUE));
    }
    if request.resolve != 0 {
        // What a caller wants excluded (links, magic links, other mounts) would have to be asked
        // of the walk; callers of these flags fall back to openat where they are missing.
        return Err(Errno::ENOSYS);
    }
    validate(flags)?;
    match found {
        Found::Foreign(path) => Ok(Way::Verdict(Verdict::Redirect(vec![(request.path, path)]))),
        Found::Missing { parent, name, slash } => {
            let operation = operation(flags, Target::Missing);
            let errno = match decide(operation, call.job.mode(parent), Target::Missing) {
                Outcome::Refuse(Errno::EROFS) if slash => Errno::EISDIR,
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

/// What build_open_flags() of fs/open.c refuses before it looks at a path.
fn validate(flags: OFlag) -> Result<(), Errno> {
    let temp = flags.bits() & (libc::O_TMPFILE & !libc::O_DIRECTORY) != 0;
    if temp && (!flags.contains(OFlag::O_DIRECTORY) || !writes(flags)) {
        return Err(Errno::EINVAL);
    }
    if flags.contains(OFlag::O_CREAT | OFlag::O_DIRECTORY) {
        return Err(Errno::EINVAL);
    }
    Ok(())
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
        if writes(flags) || flags.contains(OFlag::O_TRUNC) {
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
    let truncates = flags.contains(OFlag::O_TRUNC);
    if operation.permission_first(target).is_some()
        || (operation == Operation::CreateWrite && target == Target::File && !truncates)
    {
        let read = flags.bits() & libc::O_ACCMODE == libc::O_RDWR;
        let want = access::WRITE | if read { access::READ } else { 0 };
        if !access::may(job, call.caller, &attr, want) {
            return Err(Errno::EACCES);
        }
    }
    if let Outcome::Refuse(e) = decide(operation, job.mode(node), target) {
        return Err(job.refused(call.row.name, e, job.path(node)));
    }
    let path_only = flags.contains(OFlag::O_PATH);
    if !path_only && !access::may(job, call.caller, &attr, access::READ) {
        return Err(Errno::EACCES);
    }
    job.counters.opens.fetch_add(1, Relaxed);
    match attr.kind {
        NodeKind::Directory => Ok(Opened { fd: stand_in(call, node)?, blob: None }),
        NodeKind::File => {
            let hash = job.check(job.projection.blob(node))?.ok_or(Errno::EIO)?;
            // An O_PATH descriptor can't be handed over: one for reading takes its place.
            let passed = OFlag::O_APPEND
                | OFlag::O_ASYNC
                | OFlag::O_DIRECT
                | OFlag::O_DSYNC
                | OFlag::O_NONBLOCK
                | OFlag::O_SYNC;
            let wanted = if path_only { OFlag::O_NONBLOCK } else { flags & passed };
            let fd = job.open_blob(&hash, OFlag::O_RDONLY | wanted)?;
            job.counters.content(node, attr.size);
            Ok(Opened { fd, blob: Some((node, hash)) })
        }
        // O_PATH | O_NOFOLLOW on a link: a descriptor of the link itself, which can't be made.
        NodeKind::Symlink => Err(Errno::ELOOP),
    }
}

/// A descriptor of the directory that stands for a projected one.
pub fn stand_in(call: &Call<'_>, node: NodeRef) -> Result<OwnedFd, Errno> {
    let private = call.job.private.as_ref().ok_or(Errno::EIO)?;
    private.open_directory(node).map_err(|e| {
        call.job.counters.fail(format!("directory for a projected one: {e}"));
        crate::caller::job_errno(e)
    })
}
