//! The job's private tree: real directories that stand for projected ones, and runnable twins.
//!
//! The kernel is the descriptor table: a projected directory that a task opens or enters is a
//! real, empty directory of its own here, so that dup, fork, fchdir and SCM_RIGHTS are right by
//! themselves, and the path that /proc shows of a descriptor says which projected directory it
//! is: `ROOT/d/MOUNT-NODE`. `ROOT/l/MOUNT-NODE` is a link like the projected one, of which a task has
//! an `O_PATH` descriptor. A runnable twin is `ROOT/x/MOUNT-NODE/NAME`, so that `/proc/PID/exe`
//! tells it and `comm` is right. What a writable mount changes is in `ROOT/u/MOUNT`, unless it is
//! to be kept. The whole tree is invisible to the job and goes with it.

use crate::base::{Base, FINISHED, UNFINISHED, remove};
use crate::read_only::ReadOnly;
use crate::sys::proc::PathBuffer;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use vrift_projection::NodeRef;

/// Where the upper directories are that go with the job, by the mount's number.
const UPPERS: &str = "u";
/// Where links tell other jobs which stand-in is whose: those that were ever locked.
pub const LOCKED: &str = "k";

/// The locked file that says that a tree's job is there.
type Lease = nix::fcntl::Flock<fs::File>;

/// The tree of one job; removed when dropped.
pub struct Private {
    root: PathBuf,
    /// Where it is removed: another path than `root` once it was [moved](Private::moved).
    home: PathBuf,
    /// The directory that the job does not get to see: `root`, or what it hangs in.
    hidden: PathBuf,
    /// What descriptors of it are handed out from: `root`, or what else is the job's and holds it.
    handed_from: PathBuf,
    /// Where directories are made.
    directories: OwnedFd,
    /// The same, from where the job is handed descriptors.
    shown: OwnedFd,
    /// Held locked while the job runs: a later job sweeps trees that nobody holds.
    _lease: Lease,
    /// What removing the tree takes.
    reserve: Reserve,
    /// The process that made the tree and may remove it.
    owner: u32,
}

/// Descriptors kept free for tidying up, when the job may have taken all others.
#[derive(Default)]
struct Reserve(std::sync::Mutex<Vec<fs::File>>);

impl Reserve {
    /// One for each level of the tree, and as many again for what reads them.
    const SIZE: usize = 8;

    fn take() -> io::Result<Reserve> {
        let files = (0..Reserve::SIZE).map(|_| fs::File::open("/")).collect::<io::Result<_>>()?;
        Ok(Reserve(std::sync::Mutex::new(files)))
    }

    fn release(&self) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
    }
}

impl Private {
    /// Makes a new tree below one of `bases`: the first that can be written to.
    pub fn create(bases: &[PathBuf]) -> io::Result<Private> {
        let mut failure = io::Error::other("no place to make it was given");
        for base in bases {
            match Self::create_below(base) {
                Ok(tree) => return Ok(tree),
                Err(e) => failure = io::Error::new(e.kind(), format!("{}: {e}", base.display())),
            }
        }
        Err(failure)
    }

    fn create_below(base: &Path) -> io::Result<Private> {
        let _entered = Base::enter(base)?;
        let reserve = Reserve::take()?;
        let made = tempfile::Builder::new().prefix(UNFINISHED).rand_bytes(8).tempdir_in(base)?;
        match Self::furnish(base, made.path()) {
            Ok((root, lease, directories, shown)) => {
                let _ = made.keep();
                let owner = std::process::id();
                let (home, hidden, handed_from) = (root.clone(), root.clone(), root.clone());
                Ok(Private {
                    root,
                    home,
                    hidden,
                    handed_from,
                    directories,
                    shown,
                    _lease: lease,
                    reserve,
                    owner,
                })
            }
            Err(e) => {
                // Now it can be removed, which dropping it does.
                reserve.release();
                Err(e)
            }
        }
    }

    /// Makes what is in a new tree, and gives the tree its name.
    fn furnish(base: &Path, made: &Path) -> io::Result<(PathBuf, Lease, OwnedFd, OwnedFd)> {
        let lease = fs::File::create(made.join("lease"))?;
        let lease = nix::fcntl::Flock::lock(lease, nix::fcntl::FlockArg::LockExclusiveNonblock)
            .map_err(|(_, e)| io::Error::from(e))?;
        for name in ["d", "l", "x", UPPERS, LOCKED] {
            fs::DirBuilder::new().mode(0o755).create(made.join(name))?;
        }
        // The tasks of the job may have other ids than this process (setpriv in a root job), and
        // enter the directories by descriptor only; but exec of a twin asks for the way to it.
        fs::set_permissions(made, fs::Permissions::from_mode(0o711))?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directories = openat(AT_FDCWD, &made.join("d"), flags, Mode::empty())?;
        let shown = directories.try_clone()?;
        let name = made.file_name().unwrap_or_default().as_bytes();
        let random = name.strip_prefix(UNFINISHED.as_bytes()).unwrap_or(name);
        let root =
            base.canonicalize()?.join(OsStr::from_bytes(&[FINISHED.as_bytes(), random].concat()));
        fs::rename(made, &root)?;
        Ok((root, lease, directories, shown))
    }

    /// From now on descriptors of directories come from `handed`.
    pub fn hand_out(&mut self, handed: &ReadOnly) -> Result<(), Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        self.shown = handed.open(&self.root.join("d"), flags)?;
        Ok(())
    }

    /// The tree as it is called from now on: it is mounted at `root`, which hangs in `hidden`, and
    /// is `home` where it was made.
    pub fn moved(mut self, root: PathBuf, hidden: PathBuf, home: PathBuf) -> io::Result<Private> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        self.directories = openat(AT_FDCWD, &root.join("d"), flags, Mode::empty())?;
        self.shown = self.directories.try_clone()?;
        self.handed_from = root.clone();
        (self.root, self.hidden, self.home) = (root, hidden, home);
        Ok(self)
    }

    /// The tree as a part of `dir`, all of which is the job's and is not for it to see.
    #[must_use]
    pub fn within(mut self, dir: &Path) -> Private {
        (self.hidden, self.handed_from) = (dir.to_owned(), dir.to_owned());
        self
    }

    /// What descriptors of the tree are handed out from.
    pub fn handed_from(&self) -> &Path {
        &self.handed_from
    }

    /// Frees the descriptors that were kept for ending the job and tidying up.
    pub fn make_room(&self) {
        self.reserve.release();
    }

    /// Removes the tree; descriptors of it go on to exist. Again does no harm.
    pub fn tidy(&self) {
        self.make_room();
        remove(&self.home);
    }

    /// What of the tree the job does not get to see.
    pub fn hidden(&self) -> &Path {
        &self.hidden
    }

    /// Where the tree is, without links.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The place of a mount's upper directory that goes with the job.
    pub fn upper(&self, mount: usize) -> PathBuf {
        self.root.join(UPPERS).join(mount.to_string())
    }

    /// Opens the real directory that stands for `node`, made at the first use.
    pub fn open_directory(&self, node: NodeRef) -> Result<OwnedFd, Errno> {
        let name = format!("{}-{}", node.mount, node.node);
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        match openat(&self.shown, name.as_str(), flags, Mode::empty()) {
            Err(Errno::ENOENT) => {
                let mode = Mode::from_bits_truncate(0o555);
                match mkdirat(&self.directories, name.as_str(), mode) {
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(e) => return Err(e),
                }
                openat(&self.shown, name.as_str(), flags, Mode::empty())
            }
            other => other,
        }
    }

    /// Tells other jobs what the directory is called that stands for `node`.
    pub fn tell_stand_in(&self, node: NodeRef, name: &str) -> Result<(), Errno> {
        let target = format!("../d/{}-{}", node.mount, node.node);
        let link = self.root.join(LOCKED).join(name);
        match nix::unistd::symlinkat(target.as_str(), AT_FDCWD, &link) {
            Ok(()) | Err(Errno::EEXIST) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// The name of a link to `target` that stands for `node`, and the directory that it is in.
    pub fn link(&self, node: NodeRef, target: &[u8]) -> Result<(OwnedFd, String), Errno> {
        let name = format!("{}-{}", node.mount, node.node);
        let path = self.root.join("l");
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = openat(AT_FDCWD, &path, flags, Mode::empty())?;
        match nix::unistd::symlinkat(OsStr::from_bytes(target), &dir, name.as_str()) {
            Ok(()) | Err(Errno::EEXIST) => Ok((dir, name)),
            Err(e) => Err(e),
        }
    }

    /// The directory for the twin of `node`; made if it is not there.
    pub fn twin_directory(&self, node: NodeRef) -> io::Result<PathBuf> {
        let dir = self.root.join("x").join(format!("{}-{}", node.mount, node.node));
        match fs::DirBuilder::new().mode(0o755).create(&dir) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
            _ => Ok(dir),
        }
    }

    /// What a path inside the tree, as /proc shows it, stands for.
    pub fn node_of(&self, path: &[u8]) -> Option<NodeRef> {
        let rest = path.strip_prefix(self.root.as_os_str().as_bytes())?;
        let below = [b"/d/", b"/l/", b"/x/"].into_iter();
        let rest = below.filter_map(|dir| rest.strip_prefix(dir)).next()?;
        let name = rest.split(|&b| b == b'/' || b == b' ').next()?;
        let name = std::str::from_utf8(name).ok()?;
        let (mount, node) = name.split_once('-')?;
        Some(NodeRef { mount: mount.parse().ok()?, node: node.parse().ok()? })
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        if self.owner == std::process::id() {
            self.tidy();
        }
    }
}

/// Reads the link at `path` into `buf`.
pub fn read_link_path<'b>(path: &[u8], buf: &'b mut PathBuffer) -> Result<&'b [u8], Errno> {
    let target = nix::fcntl::readlink(OsStr::from_bytes(path))?;
    let bytes = target.as_bytes();
    let n = bytes.len().min(buf.len());
    buf[..n].copy_from_slice(&bytes[..n]);
    Ok(&buf[..n])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_nodes_and_the_tree_goes() {
        let base = tempfile::tempdir().expect("a temporary directory");
        let tree = Private::create(&[base.path().join("jobs")]).expect("a tree");
        let node = NodeRef { mount: 3, node: 512 };
        let fd = tree.open_directory(node).expect("a directory");
        let shown =
            fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd)))
                .expect("a link");
        assert_eq!(tree.node_of(shown.as_os_str().as_bytes()), Some(node));
        let twin = tree.twin_directory(node).expect("a directory").join("gcc");
        assert_eq!(tree.node_of(twin.as_os_str().as_bytes()), Some(node));
        assert_eq!(tree.node_of(b"/etc/passwd"), None);
        let root = tree.root().to_owned();
        drop(tree);
        assert!(!root.exists());
    }
}
