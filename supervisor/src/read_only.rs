//! The store and the private tree as a job is handed descriptors of them: through a mount that is
//! read-only.
//!
//! A descriptor can be swapped for another one between the supervisor's look at it and the
//! kernel's: fchmod(5) asks about a real file, another thread puts a projected one in the place of
//! 5, and the kernel changes a blob. So descriptors come from a bind mount that is read-only in a
//! mount namespace of its own: through them, and through whatever /proc makes of them, the kernel
//! itself says EROFS, to root too. Nobody enters that namespace; the job's and the supervisor's
//! stay as they are. An ordinary user needs a user namespace to make it.
//!
//! Where neither can be had, descriptors are ordinary ones, and only the supervisor's look
//! protects what is behind them; docs/SECURITY.md says what that leaves open.

use crate::sys::mount::read_only_recursively;
use crate::sys::process::{self, Forked};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open, openat};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};
use nix::sys::stat::Mode;
use nix::sys::wait::waitpid;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

/// Store and private tree at most.
const MOST: usize = 2;
const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// Read-only views of some directories.
pub struct ReadOnly {
    roots: Vec<(PathBuf, OwnedFd)>,
    /// While it is open, /proc shows the views' descriptors by their whole paths.
    _namespace: Option<OwnedFd>,
}

impl ReadOnly {
    /// Views of `roots` (absolute, without links, none inside another); ordinary descriptors of
    /// them where there can't be a view.
    pub fn of(roots: &[&Path]) -> nix::Result<ReadOnly> {
        match views(roots) {
            Ok(views) => Ok(views),
            Err(e) => {
                tracing::debug!("no read-only mount of the store: {e}");
                Self::ordinary(roots)
            }
        }
    }

    /// Can there be a view of this directory? Else what the kernel said.
    pub fn possible(dir: &Path) -> nix::Result<()> {
        let dir = dir.canonicalize().map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(0)))?;
        views(&[&dir]).map(drop)
    }

    fn ordinary(roots: &[&Path]) -> nix::Result<ReadOnly> {
        let opened =
            |root: &&Path| Ok((root.to_path_buf(), open(*root, DIRECTORY, Mode::empty())?));
        Ok(ReadOnly {
            roots: roots.iter().map(opened).collect::<nix::Result<_>>()?,
            _namespace: None,
        })
    }

    /// Opens `path`, through the view that it lies in.
    pub fn open(&self, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
        let flags = flags | OFlag::O_CLOEXEC;
        let inside = |(root, fd)| Some((path.strip_prefix::<&Path>(root).ok()?, fd));
        let found = self.roots.iter().map(|(root, fd)| (root.as_path(), fd)).find_map(inside);
        match found {
            Some((rest, fd)) if rest.as_os_str().is_empty() => {
                openat(fd, ".", flags, Mode::empty())
            }
            Some((rest, fd)) => openat(fd, rest, flags, Mode::empty()),
            None => openat(AT_FDCWD, path, flags, Mode::empty()),
        }
    }
}

/// Has the views made by a child, whose namespace they belong to.
fn views(roots: &[&Path]) -> nix::Result<ReadOnly> {
    if roots.len() > MOST {
        return Err(Errno::EINVAL);
    }
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    let child = match process::fork_single_threaded()? {
        Forked::Child => {
            let made = make(roots).and_then(|fds| {
                let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
                let control = [ControlMessage::ScmRights(&raw)];
                let (to, flags) = (theirs.as_raw_fd(), MsgFlags::MSG_NOSIGNAL);
                sendmsg::<()>(to, &[IoSlice::new(&[0])], &control, flags, None)
            });
            let failed = made.err().map_or(0, |e| e as i32);
            process::exit_now(u8::try_from(failed).unwrap_or(u8::MAX));
        }
        Forked::Parent(child) => child,
    };
    drop(theirs);
    let mut fds = received(&ours)?;
    let ended = waitpid(child, None)?;
    if let nix::sys::wait::WaitStatus::Exited(_, code @ 1..) = ended {
        return Err(Errno::from_raw(code));
    }
    if fds.len() != roots.len() + 1 {
        return Err(Errno::EPROTO);
    }
    let namespace = fds.pop();
    let views = ReadOnly {
        roots: roots.iter().map(|r| r.to_path_buf()).zip(fds).collect(),
        _namespace: namespace,
    };
    // What a task holds is told by the path that /proc shows: it must be the ordinary one.
    for (root, fd) in &views.roots {
        let shown = nix::fcntl::readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()).as_str())?;
        if Path::new(&shown) != root {
            return Err(Errno::EXDEV);
        }
    }
    Ok(views)
}

/// In the child: the views' descriptors, and the namespace's.
fn make(roots: &[&Path]) -> nix::Result<Vec<OwnedFd>> {
    match unshare(CloneFlags::CLONE_NEWNS) {
        Err(Errno::EPERM) => unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?,
        other => other?,
    }
    let nothing: Option<&Path> = None;
    // What is unmounted outside goes here too; nothing goes the other way.
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_SLAVE, nothing)?;
    let mut fds = Vec::with_capacity(roots.len() + 1);
    for root in roots {
        mount(Some(*root), *root, nothing, MsFlags::MS_BIND | MsFlags::MS_REC, nothing)?;
        let fd = open(*root, DIRECTORY, Mode::empty())?;
        read_only_recursively(fd.as_fd())?;
        fds.push(fd);
    }
    fds.push(open("/proc/self/ns/mnt", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?);
    Ok(fds)
}

/// The descriptors that the child sent; none if it failed.
fn received(from: &OwnedFd) -> nix::Result<Vec<OwnedFd>> {
    let mut message = [0u8; 1];
    let mut space = nix::cmsg_space!([RawFd; MOST + 1]);
    let mut parts = [IoSliceMut::new(&mut message)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let got = recvmsg::<()>(from.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let fds = got.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::ScmRights(fds) => Some(fds),
        _ => None,
    });
    Ok(fds.into_iter().flatten().map(process::adopt).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn ordinary_descriptors_open_what_is_inside_and_outside() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = dir.path().canonicalize().expect("it is there");
        std::fs::write(root.join("f"), "text").expect("a file");
        let views = ReadOnly::ordinary(&[&root]).expect("descriptors");
        let ino = |fd: OwnedFd| std::fs::File::from(fd).metadata().expect("open").ino();
        let f = root.join("f");
        let direct = std::fs::metadata(&f).expect("there").ino();
        assert_eq!(ino(views.open(&f, OFlag::O_RDONLY).expect("inside")), direct);
        assert!(views.open(&root, OFlag::O_RDONLY).is_ok(), "the root itself");
        assert!(views.open(Path::new("/"), OFlag::O_RDONLY).is_ok(), "outside");
    }
}
