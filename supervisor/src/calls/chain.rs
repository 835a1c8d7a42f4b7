//! From the program that exec names to the file that is loaded: the chain of `#!` interpreters and
//! the program interpreter are resolved here, since the kernel opens them unseen.

use super::{AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, Call, gate};
use crate::access;
use crate::caller::PATH_MAX;
use crate::program::{Kind, inspect};
use crate::resolve::{AT_FDCWD, Found, RealPlace, resolve};
use crate::table::At;
use crate::twin::{Interpreter, key_of_real};
use crate::view::Seen;
use crate::writable::files;
use nix::fcntl::OFlag;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use vrift_policy::{Errno, Operation, Outcome};
use vrift_projection::{Content, NodeRef};

/// The most interpreters of interpreters, as exec_binprm() of fs/exec.c counts.
const MAX_DEPTH: usize = 5;

/// How the program is run instead.
pub struct Plan {
    /// What is executed: a twin, or a real file.
    pub file: File,
    /// Arguments that take the place of the first one.
    pub prefix: Option<Vec<Vec<u8>>>,
    /// What the job calls it: `AT_EXECFN`.
    pub name: Vec<u8>,
    /// It was named by a descriptor alone.
    pub by_descriptor: bool,
    /// The address of a NUL in the caller's memory.
    pub empty: u64,
}

/// One file of the chain.
enum Link {
    Node(NodeRef),
    /// A real file, by a path that the supervisor can open.
    Real(PathBuf),
}

/// What execve or, with `at`, execveat comes to. None: the kernel's business alone.
pub fn plan(call: &Call<'_>, at: bool) -> Result<Option<Plan>, Errno> {
    let job = call.job;
    let caller = call.caller;
    let first = u8::from(at);
    let dirfd = if at { caller.int(0) } else { AT_FDCWD };
    let flags = if at { caller.int(4) } else { 0 };
    let address = caller.arg(first);
    let mut buf = [0u8; PATH_MAX];
    let path = caller.read_path(address, &mut buf)?;
    let empty = address + path.len() as u64;
    if path.is_empty() && flags & AT_EMPTY_PATH == 0 {
        return Err(Errno::ENOENT);
    }
    if flags & !(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0 {
        // Refused before the path is looked at; of a real one the kernel says so itself.
        let at = At { dirfd: Some(0), path: first };
        return call.unless_real(at, true, Err(Errno::EINVAL)).map(|_| None);
    }
    let by_descriptor = path.is_empty();
    let (found, name) = if by_descriptor {
        match call.node_of_descriptor(dirfd)? {
            // The kernel has the file itself, whatever became of its name.
            Some(node) if job.projection.is_gone(node) && call.is_upper_file(dirfd, node) => {
                return Ok(None);
            }
            Some(node) => (Found::Node(node), format!("/dev/fd/{dirfd}").into_bytes()),
            None => return Ok(None),
        }
    } else {
        let follow = flags & AT_SYMLINK_NOFOLLOW == 0;
        (resolve(job, caller, dirfd, path, follow)?, name_for(dirfd, path))
    };
    let (link, outside) = match found {
        Found::Magic(_) => return Ok(None),
        Found::Missing { .. } => return Err(Errno::ENOENT),
        Found::Node(node) => (Link::Node(node), false),
        Found::Foreign(path) => (Link::Real(OsStr::from_bytes(&path).into()), true),
        Found::Kernel(place) => (Link::Real(reachable(call, dirfd, path, place)), false),
    };
    if let Link::Real(path) = &link
        && flags & AT_SYMLINK_NOFOLLOW != 0
        && path.is_symlink()
    {
        // Of its own paths the kernel says so itself.
        return if outside { Err(Errno::ELOOP) } else { Ok(None) };
    }
    let Some((file, prefix)) = follow_chain(call, link, &name, by_descriptor, outside)? else {
        return Ok(None);
    };
    job.counters.execs.fetch_add(1, Relaxed);
    Ok(Some(Plan { file, prefix, name, by_descriptor, empty }))
}

/// What the kernel calls a program given by descriptor and path (alloc_bprm() of fs/exec.c).
fn name_for(dirfd: i32, path: &[u8]) -> Vec<u8> {
    if dirfd == AT_FDCWD || path.first() == Some(&b'/') {
        path.to_vec()
    } else {
        [format!("/dev/fd/{dirfd}/").as_bytes(), path].concat()
    }
}

type Chain = Option<(File, Option<Vec<Vec<u8>>>)>;

/// Follows `#!` to the file that the kernel loads. None: nothing of ours takes part.
fn follow_chain(
    call: &Call<'_>,
    start: Link,
    name: &[u8],
    by_descriptor: bool,
    outside: bool,
) -> Result<Chain, Errno> {
    let mut link = start;
    let mut ours = outside;
    // Of a mounted tree it runs what it finds there.
    let by_kernel = call.job.seen == Seen::Mounted;
    let mut prefix: Option<Vec<Vec<u8>>> = None;
    let mut called = name.to_vec();
    for _ in 0..=MAX_DEPTH {
        let opened = open(call, &link);
        ours |= matches!(link, Link::Node(_));
        let file = match opened {
            Ok(file) => file,
            // The kernel says what is wrong with its own files; it may even run what can't be read.
            Err(e) if !ours && e != Errno::EMFILE && e != Errno::ENFILE => {
                call.job
                    .counters
                    .execs
                    .fetch_add(u64::from(matches!(opened, Err(Errno::EACCES))), Relaxed);
                return Ok(None);
            }
            Err(e) => return Err(e),
        };
        let kind = inspect(&file).map_err(|_| Errno::EIO)?;
        // The kernel calls a program that was given by a descriptor alone by its file's own name.
        let own = match link {
            Link::Node(node) if by_descriptor => Some(call.job.path(node)),
            _ => None,
        };
        let called_as = own.as_deref().unwrap_or(&called);
        let Kind::Script { interpreter, argument } = kind else {
            if let Kind::Dynamic { interpreter, header } = &kind
                && let Found::Node(node) = interpreter_place(call, interpreter)?
                && !by_kernel
            {
                let twin = interpreter_twin(call, node)?;
                let with = Interpreter { twin: &twin, header: *header };
                let file = finish(call, &link, file, called_as, Some(&with))?;
                return Ok(Some((file, prefix)));
            }
            if !ours || by_kernel {
                call.job.counters.execs.fetch_add(1, Relaxed);
                return Ok(None);
            }
            return Ok(Some((finish(call, &link, file, called_as, None)?, prefix)));
        };
        let mut arguments = vec![interpreter.clone()];
        arguments.extend(argument);
        arguments.push(called);
        arguments.extend(prefix.into_iter().flatten().skip(1));
        prefix = Some(arguments);
        link = match interpreter_place(call, &interpreter)? {
            Found::Node(node) => Link::Node(node),
            Found::Missing { .. } => return Err(Errno::ENOENT),
            Found::Foreign(path) => {
                ours = true;
                Link::Real(OsStr::from_bytes(&path).into())
            }
            Found::Magic(path) => Link::Real(OsStr::from_bytes(&path).into()),
            Found::Kernel(place) => Link::Real(reachable(call, AT_FDCWD, &interpreter, place)),
        };
        called = interpreter;
    }
    Err(Errno::ELOOP)
}

fn interpreter_place(call: &Call<'_>, path: &[u8]) -> Result<Found, Errno> {
    let found = resolve(call.job, call.caller, AT_FDCWD, path, true)?;
    gate::may_interpret(call, &found, path)?;
    Ok(found)
}

/// Where the supervisor finds what the caller calls `path`, a real file.
fn reachable(call: &Call<'_>, dirfd: i32, path: &[u8], place: RealPlace) -> PathBuf {
    let tid = call.caller.tid;
    let path = match place.path {
        Some(path) => path,
        None if path.first() == Some(&b'/') => path.to_vec(),
        None if dirfd == AT_FDCWD => [format!("/proc/{tid}/cwd/").as_bytes(), path].concat(),
        None => [format!("/proc/{tid}/fd/{dirfd}/").as_bytes(), path].concat(),
    };
    OsStr::from_bytes(&path).into()
}

/// Opens one file of the chain for reading.
fn open(call: &Call<'_>, link: &Link) -> Result<File, Errno> {
    match link {
        Link::Node(node) => open_program(call, *node),
        Link::Real(path) => {
            // Not blocking: a fifo is no program, and nobody here waits for one.
            let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
            let fd =
                nix::fcntl::open(path, flags, nix::sys::stat::Mode::empty()).map_err(
                    |e| match e {
                        // A socket or a device without a driver: no regular file.
                        nix::errno::Errno::ENXIO => Errno::EACCES,
                        e => call.job.errno("open of a program")(e),
                    },
                )?;
            let file = File::from(fd);
            match file.metadata() {
                Ok(m) if m.is_file() && access::may_read_real(call.job, call.caller, &file) => {
                    Ok(file)
                }
                _ => Err(Errno::EACCES),
            }
        }
    }
}

/// Opens a projected program's blob, if the caller may run it.
fn open_program(call: &Call<'_>, node: NodeRef) -> Result<File, Errno> {
    let job = call.job;
    if let Outcome::Refuse(e) = job.decide(Operation::Execute, node)? {
        return Err(e);
    }
    let attr = job.attr(node)?;
    if !access::may(job, call.caller, &attr, access::EXECUTE) {
        return Err(Errno::EACCES);
    }
    let fd = match job.check(job.projection.content(node))?.ok_or(Errno::EACCES)? {
        Content::Blob(hash, size) => call.open_blob(node, (&hash, size), OFlag::O_RDONLY)?,
        Content::Upper => files::open(files::overlay(call, node)?, node.node, OFlag::O_RDONLY)?,
    };
    job.counters.content(node, attr.size);
    Ok(File::from(fd))
}

/// The shared twin of a projected program interpreter: the kernel opens it by its path.
fn interpreter_twin(call: &Call<'_>, node: NodeRef) -> Result<PathBuf, Errno> {
    let job = call.job;
    let file = open_program(call, node)?;
    let twin = match job.check(job.projection.content(node))?.ok_or(Errno::EIO)? {
        Content::Blob(hash, _) => job.twins.shared(&hash.to_string(), &file, None),
        Content::Upper => run_as(call, node, b"interpreter"),
    };
    job.check(twin.map_err(|e| format!("runnable copy of an interpreter: {e}")))
}

/// The path under which a changed file is run by this name: it is no copy.
fn run_as(call: &Call<'_>, node: NodeRef, called: &[u8]) -> std::io::Result<PathBuf> {
    let overlay = call.job.overlay(node).ok_or(std::io::ErrorKind::NotFound)?;
    overlay.upper().run_as(node.node, OsStr::from_bytes(called))
}

/// The file that the task will execute.
fn finish(
    call: &Call<'_>,
    link: &Link,
    file: File,
    called: &[u8],
    interpreter: Option<&Interpreter<'_>>,
) -> Result<File, Errno> {
    let job = call.job;
    let made = match link {
        Link::Real(_) if interpreter.is_none() => return Ok(file),
        Link::Real(path) => key_of_real(&file)
            .and_then(|key| job.twins.shared(&key, &file, interpreter))
            .inspect(|twin| job.twins.stands_for(twin, path)),
        Link::Node(node) => {
            let base = called.rsplit(|&b| b == b'/').next().unwrap_or(b"program");
            match job.check(job.projection.content(*node))?.ok_or(Errno::EIO)? {
                Content::Blob(hash, _) => job
                    .twins
                    .shared(&hash.to_string(), &file, interpreter)
                    .and_then(|shared| job.twins.link(job, *node, base, &shared)),
                Content::Upper if interpreter.is_none() => run_as(call, *node, base),
                Content::Upper => {
                    let own = PathBuf::from(OsStr::from_bytes(&job.path(*node)));
                    key_of_real(&file)
                        .and_then(|key| job.twins.shared(&key, &file, interpreter))
                        .inspect(|twin| job.twins.stands_for(twin, &own))
                }
            }
        }
    };
    let path = job.check(
        made.map_err(|e| format!("runnable copy of {}: {e}", String::from_utf8_lossy(called))),
    )?;
    let handed = job.handed.as_ref().ok_or(Errno::EIO)?;
    let opened = handed.open(&path, OFlag::O_RDONLY);
    job.check(opened.map(File::from).map_err(|e| format!("open {}: {e}", path.display())))
}
