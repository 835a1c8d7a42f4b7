//! bind and connect of Unix sockets whose address is a projected path.

use super::make::new_name;
use super::{Call, DONE, Verdict};
use crate::access;
use crate::caller::job_errno;
use crate::resolve::holder::{Holder, held};
use crate::resolve::{AT_FDCWD, Found, resolve};
use crate::sys::proc::PathBuffer;
use crate::sys::process::descriptor_of_task;
use crate::writable::sockets;
use nix::sys::socket::{UnixAddr, getpeername, getsockname};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::PoisonError;
use vrift_policy::{Errno, Operation, Outcome, decide};
use vrift_projection::Kind;

/// Size of `struct sockaddr_un`.
pub const ADDRESS: usize = 110;

/// bind(fd, addr, len) and connect(fd, addr, len).
pub fn handle(call: &Call<'_>, op: Operation) -> Result<Verdict, Errno> {
    with_address(call, op, call.caller.int(0), call.caller.arg(1), call.caller.int(2))
}

/// socketcall(call, args): the arguments are three words of 32 bits in memory.
pub fn multiplexed(call: &Call<'_>) -> Result<Verdict, Errno> {
    match unpacked(call) {
        Some((op, fd, at, len)) => with_address(call, op, fd, at, len),
        None => Ok(Verdict::CONTINUE),
    }
}

/// What socketcall means, the descriptor, the address and its length; None: something else.
pub fn unpacked(call: &Call<'_>) -> Option<(Operation, i32, u64, i32)> {
    let op = match call.caller.int(0) {
        2 => Operation::BindSocket,
        3 => Operation::ConnectSocket,
        _ => return None,
    };
    let mut args = [0u8; 12];
    call.caller.read_exact(call.caller.arg(1), &mut args).ok()?;
    let word = |i: usize| u32::from_ne_bytes([args[i], args[i + 1], args[i + 2], args[i + 3]]);
    Some((op, word(0).cast_signed(), word(4).into(), word(8).cast_signed()))
}

/// Where the name begins in a `struct sockaddr_un` at this address.
pub const fn name_at(address: u64) -> u64 {
    address.wrapping_add(2)
}

/// The file that a socket's address names, if it is one.
pub fn file_name<'b>(
    call: &Call<'_>,
    at: u64,
    len: i32,
    address: &'b mut [u8; ADDRESS],
) -> Option<&'b [u8]> {
    // Not what unix_validate_addr() refuses, nor names of no file.
    let len = usize::try_from(len).ok().filter(|len| (3..=ADDRESS).contains(len))?;
    call.caller.read_exact(at, &mut address[..len]).ok()?;
    let family = i32::from(u16::from_ne_bytes([address[0], address[1]]));
    let name = address[2..len].split(|&b| b == 0).next().unwrap_or_default();
    // Neither another family nor an abstract name.
    let name = (family == libc::AF_UNIX && !name.is_empty()).then_some(name)?;
    crate::trace::current::path_read(name_at(at), name);
    Some(name)
}

fn with_address(
    call: &Call<'_>,
    op: Operation,
    fd: i32,
    address_at: u64,
    len: i32,
) -> Result<Verdict, Errno> {
    let mut address = [0u8; ADDRESS];
    let Some(name) = file_name(call, address_at, len, &mut address) else {
        return Ok(Verdict::CONTINUE);
    };
    let len = usize::try_from(len).unwrap_or(0);
    let job = call.job;
    let mut buf: PathBuffer = [0; 4096];
    if !call.caller.descriptor(fd, &mut buf).is_ok_and(|text| text.starts_with(b"socket:")) {
        // The kernel says what it is instead.
        return Ok(Verdict::CONTINUE);
    }
    let connects = op == Operation::ConnectSocket;
    if !connects {
        return bind(call, op, fd, name, len);
    }
    match resolve(job, call.caller, AT_FDCWD, name, true)? {
        Found::Kernel(_) | Found::Magic(_) => Ok(Verdict::CONTINUE),
        Found::Foreign(path) => elsewhere(call, &path, len),
        Found::Missing { .. } => Err(Errno::ENOENT),
        Found::Node(node) if job.check(job.projection.kind(node))? == Kind::Socket => {
            if call.row.name == "socketcall" {
                job.counters.fail(
                    "socketcall: connect to a socket in a writable mount is not built".into(),
                );
                return Err(Errno::ECONNREFUSED);
            }
            Ok(Verdict::OnUpper(1, node))
        }
        Found::Node(node) => {
            let target = job.target(node)?;
            if op.permission_first(target).is_some()
                && !access::may(job, call.caller, &job.attr(node)?, access::WRITE)
            {
                return Err(Errno::EACCES);
            }
            match decide(op, job.mode(node), target) {
                Outcome::Serve => Err(Errno::ECONNREFUSED),
                Outcome::Refuse(e) => Err(job.refused(call.row.name, e, job.path(node))),
            }
        }
    }
}

/// getsockname(fd, addr, len) and getpeername: a socket that was bound for the job says the name
/// that the job gave it.
pub fn name(call: &Call<'_>) -> Result<Verdict, Errno> {
    if call.job.sockets.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
        return Ok(Verdict::CONTINUE);
    }
    let mut buf: PathBuffer = [0; 4096];
    let fd = call.caller.int(0);
    if !call.caller.descriptor(fd, &mut buf).is_ok_and(|text| text.starts_with(b"socket:")) {
        return Ok(Verdict::CONTINUE);
    }
    let socket = descriptor_of_task(call.caller.tid, fd).map_err(job_errno)?;
    let address = match call.row.name {
        "getpeername" => getpeername::<UnixAddr>(socket.as_raw_fd()),
        _ => getsockname::<UnixAddr>(socket.as_raw_fd()),
    };
    let own = address.ok().and_then(|address| address.path().map(std::path::Path::to_owned));
    let Some(called) = own.and_then(|own| sockets::called(call, own.as_os_str().as_bytes())) else {
        return Ok(Verdict::CONTINUE);
    };
    let mut bytes = 1u16.to_ne_bytes().to_vec(); // AF_UNIX
    bytes.extend_from_slice(&called);
    bytes.push(0);
    let mut length = [0u8; 4];
    call.caller.read_exact(call.caller.arg(2), &mut length)?;
    let room = usize::try_from(i32::from_ne_bytes(length)).map_err(|_| Errno::EINVAL)?;
    call.caller.write(call.caller.arg(1), &bytes[..room.min(bytes.len())])?;
    let whole = u32::try_from(bytes.len()).map_err(|_| Errno::EINVAL)?;
    call.caller.write(call.caller.arg(2), &whole.to_ne_bytes())?;
    Ok(DONE)
}

/// bind makes a name, as mknod does; only that a name that is there already is EADDRINUSE.
fn bind(
    call: &Call<'_>,
    op: Operation,
    fd: i32,
    name: &[u8],
    len: usize,
) -> Result<Verdict, Errno> {
    let job = call.job;
    if let Ok(Found::Kernel(_) | Found::Magic(_)) = resolve(job, call.caller, AT_FDCWD, name, false)
    {
        return Ok(Verdict::CONTINUE);
    }
    let held = held(job, call.caller, AT_FDCWD, name)?;
    let parent = match (&held.holder, held.mount_point(job), held.foreign()) {
        (Holder::Node(parent), ..) => *parent,
        (_, Some(_), _) => return Err(Errno::EADDRINUSE),
        (_, None, Some(path)) => return elsewhere(call, &path, len),
        (_, None, None) => return Ok(Verdict::CONTINUE),
    };
    let (target, node) = match new_name(call, &held, parent, false) {
        Err(Errno::EEXIST) => return Err(Errno::EADDRINUSE),
        other => other?,
    };
    match decide(op, job.mode(parent), target) {
        Outcome::Serve => sockets::bind(call, fd, parent, &held.name, name).map(|()| DONE),
        Outcome::Refuse(e) => Err(job.refused(call.row.name, e, job.path(node))),
    }
}

/// The same call with the real path as the address, if that fits where the caller's was.
fn elsewhere(call: &Call<'_>, path: &[u8], len: usize) -> Result<Verdict, Errno> {
    const FAMILY: usize = 2;
    if FAMILY + path.len() > len || call.row.name == "socketcall" {
        call.job.counters.fail(format!(
            "{}: {} is reached through a mount, and does not fit the socket's address; use a \
             shorter path that does not lead through the mount",
            call.row.name,
            String::from_utf8_lossy(path)
        ));
        return Err(Errno::EADDRNOTAVAIL);
    }
    let mut address = vec![0u8; len];
    address[..FAMILY].copy_from_slice(&1u16.to_ne_bytes()); // AF_UNIX
    address[FAMILY..FAMILY + path.len()].copy_from_slice(path);
    Ok(Verdict::Redirect(vec![(1, address)]))
}
