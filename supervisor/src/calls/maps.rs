//! `/proc/PID/maps` and its like: what is mapped, by the names that the job knows.
//!
//! The kernel writes the blobs' and the twins' own paths there. Who opens one of these files for
//! reading gets a snapshot with projected paths in their place, if there is anything to replace;
//! otherwise the call goes on in the kernel.

use super::Call;
use crate::access;
use crate::job::Spot;
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use vrift_policy::Errno;

/// Is this a file of /proc that lists mappings?
pub fn is_listing(path: &[u8]) -> bool {
    let Some(rest) = path.strip_prefix(b"/proc/") else { return false };
    let mut parts = rest.rsplit(|&b| b == b'/');
    let listing = matches!(parts.next(), Some(b"maps" | b"smaps" | b"numa_maps"));
    listing && rest.first().is_some_and(u8::is_ascii_digit)
}

/// The snapshot, or None if nothing in it has to be replaced.
pub fn snapshot(call: &Call<'_>, path: &[u8]) -> Result<Option<OwnedFd>, Errno> {
    use std::os::unix::fs::MetadataExt;
    let name = std::path::Path::new(std::ffi::OsStr::from_bytes(path));
    let mine = |m: std::fs::Metadata| access::may_look_into(call.job, call.caller, m.uid());
    if !std::fs::metadata(name).is_ok_and(mine) {
        return Ok(None);
    }
    // Unreadable: the kernel tells the caller so, by the caller's own rights; unless the lack is
    // ours, for the kernel would show it the store.
    let text = match std::fs::read(std::ffi::OsStr::from_bytes(path)) {
        Ok(text) => text,
        Err(e) => match e.raw_os_error().map(nix::errno::Errno::from_raw) {
            Some(e @ (nix::errno::Errno::EMFILE | nix::errno::Errno::ENFILE)) => {
                return Err(call.job.errno("snapshot of mappings")(e));
            }
            _ => return Ok(None),
        },
    };
    let mut out = Vec::with_capacity(text.len());
    let mut replaced = false;
    for line in text.split_inclusive(|&b| b == b'\n') {
        match renamed(call, line)? {
            Some(line) => {
                replaced = true;
                out.extend_from_slice(&line);
            }
            None => out.extend_from_slice(line),
        }
    }
    if !replaced {
        return Ok(None);
    }
    let fd = nix::sys::memfd::memfd_create(c"maps", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)
        .map_err(call.job.errno("snapshot of mappings"))?;
    let mut file = std::fs::File::from(fd);
    let written = file.write_all(&out).and_then(|()| file.seek(SeekFrom::Start(0)));
    call.job.check(written.map_err(|e| format!("snapshot of {path:?}: {e}")))?;
    Ok(Some(file.into()))
}

/// What comes after the path of a file that has no name any more.
const DELETED: &[u8] = b" (deleted)";

/// The inode number that a line of maps or smaps says before the path.
fn inode(before: &[u8]) -> Option<u64> {
    std::str::from_utf8(before).ok()?.split_ascii_whitespace().nth(4)?.parse().ok()
}

/// The line with a projected path, if it holds one of ours.
fn renamed(call: &Call<'_>, line: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
    let Some(start) = line.iter().position(|&b| b == b'/') else { return Ok(None) };
    let end = line.iter().position(|&b| b == b'\n').unwrap_or(line.len());
    let path = &line[start..end];
    let job = call.job;
    // The names in a mirror are the job's: what is mapped is told by the inode before the path.
    if let Some((upper, _)) = job.mirrored(path)
        && let Some(node) = inode(&line[..start]).and_then(|ino| job.node_in_mirror(upper, ino))
    {
        let deleted: &[u8] = if path.ends_with(DELETED) { DELETED } else { b"" };
        return Ok(Some([&line[..start], &job.path(node), deleted, &line[end..]].concat()));
    }
    // numa_maps has more words behind the path; none of our other paths has a blank in it.
    let path = path.split(|&b| b == b' ').next().unwrap_or(path);
    let name = match job.spot(call.caller, path, None)? {
        Spot::Node(node) => job.path(node),
        Spot::Hidden => match job.twins.real_of(path) {
            Some(real) => real.as_os_str().as_bytes().to_vec(),
            None => match job.node_of_twin(path)? {
                Some(node) => job.path(node),
                None => return Ok(None),
            },
        },
        Spot::Real | Spot::Nowhere => return Ok(None),
    };
    Ok(Some([&line[..start], &name, &line[start + path.len()..]].concat()))
}

#[cfg(test)]
mod tests {
    use super::is_listing;

    #[test]
    fn listings_are_told_from_other_files() {
        for p in ["/proc/1/maps", "/proc/12/smaps", "/proc/1/task/2/maps", "/proc/3/numa_maps"] {
            assert!(is_listing(p.as_bytes()), "{p}");
        }
        for p in ["/proc/1/mapsx", "/proc/maps", "/tmp/maps", "/proc/1/status", "/proc/self/maps"] {
            assert!(!is_listing(p.as_bytes()), "{p}");
        }
    }
}
