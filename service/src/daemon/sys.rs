//! The groups of who is at the other end of a socket, for which no library of ours has a call.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Groups that most users have room in at once.
const USUAL: usize = 64;

/// The supplementary groups that the peer had when it connected: SO_PEERGROUPS of unix(7), since
/// Linux 4.13; none before that.
pub(super) fn peer_groups(socket: impl AsFd) -> io::Result<Vec<u32>> {
    let mut groups = vec![0u32; USUAL];
    loop {
        let room = groups.len() * size_of::<u32>();
        let mut length = libc::socklen_t::try_from(room).unwrap_or(libc::socklen_t::MAX);
        // SAFETY: the descriptor is open as long as `socket` is; the kernel writes at most `length`
        // bytes, which `groups` has, and how many it wanted to write to `length`.
        let result = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let wanted = usize::try_from(length).unwrap_or(0) / size_of::<u32>();
        if result == 0 {
            groups.truncate(wanted);
            return Ok(groups);
        }
        match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ERANGE) && wanted > groups.len() => {
                groups.resize(wanted, 0);
            }
            error if error.raw_os_error() == Some(libc::ENOPROTOOPT) => return Ok(Vec::new()),
            error => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_groups_are_told() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().expect("a pair");
        let mut told = peer_groups(&one).expect("groups");
        told.sort_unstable();
        let status = std::fs::read_to_string("/proc/self/status").expect("status");
        let line = status.lines().find_map(|line| line.strip_prefix("Groups:")).expect("groups");
        let mut own: Vec<u32> =
            line.split_whitespace().map(|n| n.parse().expect("a number")).collect();
        own.sort_unstable();
        assert_eq!(told, own);
    }
}
