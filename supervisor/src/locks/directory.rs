//! flock(2) on projected directories.
//!
//! A descriptor of a projected directory is one of the job's own stand-in for it, which the kernel
//! locks; other jobs have others. A job that locks one says by a link in its private tree which
//! directory it stands for, and everybody who wants a lock tries all the stand-ins that there are:
//! whoever meets another one there steps back and tries again, as for files.

use super::{Pause, Turn, Wanted, information, os_errno};
use crate::base::FINISHED;
use crate::private::Private;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use rustix::fs::{FlockOperation, flock};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use vrift_projection::{Attr, NodeRef};

/// A directory that a job may lock, in the stand-ins of all jobs.
#[derive(Debug)]
pub struct Directory {
    /// The job's own tree.
    own: PathBuf,
    /// What all jobs call it.
    name: String,
}

impl Directory {
    /// The directory with these attributes, for which `private` has a stand-in.
    pub fn of(private: &Private, node: NodeRef, attr: &Attr) -> Result<Directory, Errno> {
        let name = format!("{}-{}", attr.dev_minor(), attr.ino);
        private.tell_stand_in(node, &name)?;
        Ok(Directory { own: private.root().to_owned(), name })
    }

    /// Takes the lock for the description of `fd`, one of the job's own stand-in; false: others
    /// have one that bars it, and the one that it had is given up.
    pub fn take(&self, _: &Turn<'_>, fd: BorrowedFd<'_>, wanted: Wanted) -> Result<bool, Errno> {
        for pause in Pause::all() {
            if try_lock(fd, wanted)? {
                if self.others()?.iter().all(|other| try_lock(other.as_fd(), wanted) == Ok(true)) {
                    return Ok(true);
                }
                release(fd)?;
            }
            pause.wait();
        }
        Ok(false)
    }

    /// The stand-ins of the other jobs that ever locked it.
    fn others(&self) -> Result<Vec<OwnedFd>, Errno> {
        let Some(base) = self.own.parent() else { return Ok(Vec::new()) };
        let entries = std::fs::read_dir(base).map_err(|e| os_errno(&e))?;
        let trees = entries.flatten().map(|entry| entry.path()).filter(|tree| {
            let name = tree.file_name().unwrap_or_default().as_bytes();
            name.starts_with(FINISHED.as_bytes()) && *tree != self.own
        });
        let mut found = Vec::new();
        for tree in trees {
            match open_stand_in(&tree, &self.name) {
                Ok(fd) => found.push(fd),
                // It never locked it, or its job has ended.
                Err(Errno::ENOENT) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(found)
    }
}

fn open_stand_in(tree: &Path, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(&tree.join(crate::private::LOCKED).join(name), flags, Mode::empty())
}

fn try_lock(fd: BorrowedFd<'_>, wanted: Wanted) -> Result<bool, Errno> {
    let operation = match wanted {
        Wanted::Shared => FlockOperation::NonBlockingLockShared,
        Wanted::Exclusive => FlockOperation::NonBlockingLockExclusive,
    };
    match flock(fd, operation) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(e) => Err(Errno::from_raw(e.raw_os_error())),
    }
}

/// Gives up the lock of the description of `fd`.
pub fn release(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    flock(fd, FlockOperation::Unlock).map_err(|e| Errno::from_raw(e.raw_os_error()))
}

/// Has the description of our own descriptor `fd` this lock?
pub fn holds(fd: BorrowedFd<'_>, wanted: Wanted) -> bool {
    let kind = match wanted {
        Wanted::Shared => "READ",
        Wanted::Exclusive => "WRITE",
    };
    let text = information("self", fd.as_raw_fd());
    text.lines().any(|line| {
        let mut words = line.split_ascii_whitespace();
        words.nth(2) == Some("FLOCK") && words.nth(1) == Some(kind)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::locks::Locks;
    use vrift_projection::Kind;

    const NODE: NodeRef = NodeRef { mount: 0, node: 7 };

    fn attr(ino: u64) -> Attr {
        Attr {
            dev: 0,
            ino,
            kind: Kind::Directory,
            mode: 0o755,
            nlink: 2,
            size: 0,
            blocks: 0,
            blksize: 4096,
            mtime_sec: 0,
            mtime_nsec: 0,
            atime: (0, 0),
            ctime: (0, 0),
            owner: None,
            rdev: 0,
        }
    }

    #[test]
    fn jobs_meet_at_a_directory_whatever_they_number_it() {
        use Wanted::{Exclusive, Shared};
        let base = tempfile::tempdir().expect("a temporary directory");
        let jobs = [0, 1].map(|_| Private::create(&[base.path().join("jobs")]).expect("a tree"));
        let open = |job: usize, node: u32| {
            let node = NodeRef { node, ..NODE };
            let fd = jobs[job].open_directory(node).expect("a stand-in");
            (fd, Directory::of(&jobs[job], node, &attr(70)).expect("a directory"))
        };
        let (first, second) = (open(0, 7), open(1, 9));
        let take = |(fd, directory): &(OwnedFd, Directory), wanted| {
            directory.take(&Locks::default().turn(), fd.as_fd(), wanted).expect("a lock")
        };
        assert!(take(&first, Exclusive) && take(&first, Exclusive));
        assert!(holds(first.0.as_fd(), Exclusive) && !holds(first.0.as_fd(), Shared));
        assert!(!take(&second, Exclusive) && !take(&second, Shared));
        assert!(!holds(second.0.as_fd(), Shared));
        assert!(take(&first, Shared) && take(&second, Shared) && !take(&second, Exclusive));
        let other = Directory::of(&jobs[1], NodeRef { node: 3, ..NODE }, &attr(71));
        let fd = jobs[1].open_directory(NodeRef { node: 3, ..NODE }).expect("a stand-in");
        assert!(take(&(fd, other.expect("a directory")), Exclusive), "another directory");
        drop(first);
        assert!(take(&second, Exclusive));
    }
}
