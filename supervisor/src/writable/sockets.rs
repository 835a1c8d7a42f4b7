//! Unix sockets with a name in a writable mount.
//!
//! bind makes the name, on the caller's socket and in the caller's stead: a path of any length that
//! the call can hold works, whatever the upper directory is called. The socket then knows itself by
//! another name, which getsockname(2) and getpeername(2) are told back from.

use super::files::{errno, overlay};
use super::identity::Identity;
use super::names::may_create;
use crate::caller::job_errno;
use crate::calls::Call;
use crate::sys::process::descriptor_of_task;
use nix::sys::socket::{UnixAddr, bind as bind_socket};
use rustix::fs::{AtFlags, Gid, Mode, Uid, chmodat, chownat};
use std::os::fd::AsRawFd;
use std::sync::PoisonError;
use vrift_policy::Errno;
use vrift_projection::overlay::{Name, file_name};
use vrift_projection::{Kind, NodeRef};

/// What a socket's own name begins with, where it is ours.
const PREFIX: &[u8] = b"/proc/self/fd/";

/// bind(2) of the caller's socket `fd` to the new `name` in `parent`; `called` is the address's path.
pub fn bind(
    call: &Call<'_>,
    fd: i32,
    parent: NodeRef,
    name: &[u8],
    called: &[u8],
) -> Result<(), Errno> {
    let job = call.job;
    let who = Identity::of(job, call.caller)?;
    let dir = may_create(call, parent)?;
    let overlay = overlay(call, parent)?;
    let socket = descriptor_of_task(call.caller.tid, fd).map_err(job.errno("binding a socket"))?;
    call.caller.confirm()?;
    let (owner, mode) = who.makes(job, &dir, Kind::Socket, who.masked(0o777));
    let node = overlay.reserve()?;
    let files = overlay.upper().files();
    let file = file_name(node);
    let own = format!("/proc/self/fd/{}/{file}", files.as_raw_fd());
    let address = UnixAddr::new(own.as_str()).map_err(job_errno)?;
    bind_socket(socket.as_raw_fd(), &address).map_err(job_errno)?;
    let dress = || {
        let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
        if owner != (job.uid, job.gid) {
            let nofollow = AtFlags::SYMLINK_NOFOLLOW;
            chownat(files, file.as_str(), Some(uid), Some(gid), nofollow).map_err(errno)?;
        }
        chmodat(files, file.as_str(), Mode::from_raw_mode(mode), AtFlags::empty()).map_err(errno)
    };
    dress()?;
    job.sockets
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(own.into_bytes(), called.to_vec());
    match overlay.name_new(node, Kind::Socket, Name { dir: parent.node, name }) {
        Err(Errno::EEXIST) => Err(Errno::EADDRINUSE),
        other => other,
    }
}

/// The path that a socket was bound to by the job, for the one that the kernel knows.
pub fn called(call: &Call<'_>, own: &[u8]) -> Option<Vec<u8>> {
    if !own.starts_with(PREFIX) {
        return None;
    }
    call.job.sockets.lock().unwrap_or_else(PoisonError::into_inner).get(own).cloned()
}
