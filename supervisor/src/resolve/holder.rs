//! Who holds the name that a path ends in.
//!
//! Calls that make, remove or rename a name look up the directory that holds it first
//! (filename_parentat() of fs/namei.c) and often say no before they look at the name itself: what
//! it names, whether it is there, and whether a slash comes after it do not count then.

use super::{Found, NAME_MAX, resolve};
use crate::access;
use crate::caller::{Caller, job_errno};
use crate::job::Job;
use nix::fcntl::{OFlag, open};
use std::ffi::OsStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use vrift_policy::Errno;
use vrift_projection::NodeRef;

/// What a path ends in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Last {
    /// A name. `slash`: one or more come after it.
    Name {
        /// A slash follows.
        slash: bool,
    },
    /// `.`
    Dot,
    /// `..`
    DotDot,
    /// Nothing: the path is `/`.
    Root,
}

/// The directory that holds the name.
pub enum Holder {
    /// A projected one.
    Node(NodeRef),
    /// A real one, or none.
    Real {
        /// Its absolute path, where it is known.
        path: Option<Vec<u8>>,
        /// The kernel would not find it from the caller's string.
        foreign: bool,
    },
}

/// A path taken apart.
pub struct Held {
    /// Who holds the name.
    pub holder: Holder,
    /// The last component's kind.
    pub last: Last,
    /// The last component without slashes.
    pub name: Vec<u8>,
}

/// Splits `path` into what leads to its last component and that; slashes at its end belong to
/// neither.
fn split(path: &[u8]) -> (&[u8], &[u8], Last) {
    let Some(end) = path.iter().rposition(|&b| b != b'/').map(|n| n + 1) else {
        return (path, b"", Last::Root);
    };
    let start = path[..end].iter().rposition(|&b| b == b'/').map_or(0, |n| n + 1);
    let name = &path[start..end];
    let last = match name {
        b"." => Last::Dot,
        b".." => Last::DotDot,
        _ => Last::Name { slash: end < path.len() },
    };
    (&path[..start], name, last)
}

/// Looks up the directory that holds the last component of `path`, for `caller`.
///
/// # Errors
/// As the kernel's look-up of a parent in a projected directory; a real one is not asked.
pub fn held(job: &Job, caller: &Caller<'_>, dirfd: i32, path: &[u8]) -> Result<Held, Errno> {
    if path.is_empty() {
        return Err(Errno::ENOENT);
    }
    let (way, name, last) = split(path);
    // The dot makes sure that it is a directory, and one that may be searched.
    let way = [way, b".".as_slice()].concat();
    let holder = match resolve(job, caller, dirfd, &way, true)? {
        Found::Node(node) => Holder::Node(node),
        Found::Missing { .. } => return Err(Errno::ENOENT),
        Found::Kernel(place) => Holder::Real { path: place.path, foreign: false },
        Found::Magic(path) => Holder::Real { path: Some(path), foreign: false },
        Found::Foreign(path) => Holder::Real { path: Some(path), foreign: true },
    };
    let held = Held { holder, last, name: name.to_vec() };
    // What the job does not get to see is no name to remove, rename or put something over.
    if let (Holder::Real { path: Some(dir), .. }, Last::Name { .. }) = (&held.holder, last)
        && job.is_hidden(&held.path_in(dir.clone()))
    {
        return Err(Errno::ENOENT);
    }
    Ok(held)
}

impl Held {
    /// What the name is in the projected directory `parent`.
    pub fn child(&self, job: &Job, parent: NodeRef) -> Result<Option<NodeRef>, Errno> {
        if self.name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        job.check(job.projection.lookup(parent, &self.name))
    }

    /// The mount point that has the name in a real directory.
    pub fn mount_point(&self, job: &Job) -> Option<NodeRef> {
        match &self.holder {
            Holder::Real { path: Some(dir), .. } => job.projection.covered(dir, &self.name),
            _ => None,
        }
    }

    /// The absolute path of the name in a real directory, with the slash after it, for a call
    /// that the kernel would not make in the right place.
    pub fn foreign(&self) -> Option<Vec<u8>> {
        match &self.holder {
            Holder::Real { path: Some(dir), foreign: true } => {
                let mut path = self.path_in(dir.clone());
                if self.last == (Last::Name { slash: true }) {
                    path.push(b'/');
                }
                Some(path)
            }
            _ => None,
        }
    }

    /// May the caller change names in the real directory?
    pub fn may_change(&self, job: &Job, caller: &Caller<'_>) -> bool {
        match &self.holder {
            Holder::Real { path: Some(dir), .. } => access::may_change_real(job, caller, dir),
            _ => true,
        }
    }

    /// The path of the name in a directory.
    pub fn path_in(&self, mut dir: Vec<u8>) -> Vec<u8> {
        if dir != b"/" {
            dir.push(b'/');
        }
        dir.extend_from_slice(&self.name);
        dir
    }
}

/// Opens a real path that must be a directory; else the errno of a look-up through it.
fn open_directory(path: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(OsStr::from_bytes(path), flags, nix::sys::stat::Mode::empty()).map_err(job_errno)
}

/// Is this real path a directory? Else the errno of a look-up through it.
pub fn must_be_directory(path: &[u8]) -> Result<(), Errno> {
    open_directory(path).map(drop)
}

/// The mount that a real directory belongs to.
pub fn mount_id(path: &[u8]) -> Result<Option<u64>, Errno> {
    let dir = open_directory(path)?;
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", dir.as_raw_fd()));
    let id = info.ok().and_then(|text| {
        text.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())
    });
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::{Last, split};

    #[test]
    fn paths_are_taken_apart_as_the_kernel_does() {
        for (path, way, name, last) in [
            ("f", "", "f", Last::Name { slash: false }),
            ("/f", "/", "f", Last::Name { slash: false }),
            ("a//b//", "a//", "b", Last::Name { slash: true }),
            ("a/.", "a/", ".", Last::Dot),
            ("a/../", "a/", "..", Last::DotDot),
            ("..", "", "..", Last::DotDot),
            ("//", "//", "", Last::Root),
        ] {
            assert_eq!(split(path.as_bytes()), (way.as_bytes(), name.as_bytes(), last), "{path}");
        }
    }
}
