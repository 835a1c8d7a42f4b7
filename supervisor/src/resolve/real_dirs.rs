//! What is known of real directories: which of their names may be symbolic links.
//!
//! A real link that leads into a mount dangles for the kernel, so every call on a real path has to
//! be sure that no component is such a link. Asking the kernel for each component of each path
//! would cost more than the rest of the answer; instead each directory is listed once, and what
//! the job itself makes afterwards is noted before the kernel makes it. The set of possible links
//! is always a superset of the real one as far as the job's own calls go; links that somebody
//! outside the job makes meanwhile are seen by the kernel, but not as ways into a mount.

use crate::sys::process::getdents64;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, PoisonError, RwLock};
use vrift_policy::Spoken;

/// A set of names. The hash is quick and seeded anew in each run.
type Names = HashSet<Box<[u8]>, foldhash::fast::RandomState>;

/// One real directory.
pub struct Dir {
    /// Its path without any symbolic link in it.
    pub physical: Box<[u8]>,
    /// None: it can't be listed, so every name may be a link.
    links: Option<RwLock<Names>>,
    /// The names here that are not the kernel's: projected ones, what is hidden, and what a rule
    /// may speak of. Few, or all.
    special: Spoken,
}

impl Dir {
    /// Is `name`, as far as this directory goes, what the kernel finds by itself and no link?
    pub fn is_plain(&self, name: &[u8]) -> bool {
        let special = match &self.special {
            Spoken::Names(names) => names.iter().any(|special| **special == *name),
            Spoken::Alike => false,
            Spoken::All => true,
        };
        !special && !self.may_be_link(name)
    }

    /// Does a rule speak of every name here, and say the same of each?
    pub fn is_ruled(&self) -> bool {
        self.special == Spoken::Alike
    }

    /// May `name` be a symbolic link?
    pub fn may_be_link(&self, name: &[u8]) -> bool {
        match &self.links {
            None => true,
            Some(links) => {
                let links = links.read().unwrap_or_else(PoisonError::into_inner);
                !links.is_empty() && links.contains(name)
            }
        }
    }

    /// From now on `name` may be a link.
    pub fn note_link(&self, name: &[u8]) {
        if let Some(links) = &self.links {
            let mut links = links.write().unwrap_or_else(PoisonError::into_inner);
            if !links.contains(name) {
                links.insert(name.into());
            }
        }
    }
}

/// Is the directory there?
pub enum Known {
    /// Yes.
    Dir(Arc<Dir>),
    /// Nothing is there, or no directory: the kernel will say which.
    Missing,
    /// It is one that the job does not get to see, by another way than its own: a bind mount that
    /// was there before, or a directory above it that somebody outside the job has moved.
    Hidden,
}

/// A directory, whatever its path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// Of the directory at `path`, if it is there.
    pub fn of(path: &std::path::Path) -> Option<Identity> {
        use std::os::unix::fs::MetadataExt;
        let m = std::fs::metadata(path).ok()?;
        Some(Identity { device: m.dev(), inode: m.ino() })
    }
}

/// All that is known. Shared by the receivers.
#[derive(Default)]
pub struct RealDirs {
    /// By path as written, normalised; a path with links in it stands for its physical directory.
    by_path: RwLock<HashMap<Box<[u8]>, Arc<Dir>, foldhash::fast::RandomState>>,
    /// Directories that are [`Known::Hidden`].
    hidden: Vec<Identity>,
}

impl RealDirs {
    /// Nothing is known yet but what is hidden.
    pub fn hiding(hidden: Vec<Identity>) -> RealDirs {
        RealDirs { hidden, ..RealDirs::default() }
    }

    /// What is known of the directory at `path` (absolute, normalised, perhaps through links).
    pub fn get(&self, path: &[u8]) -> Option<Arc<Dir>> {
        self.by_path.read().unwrap_or_else(PoisonError::into_inner).get(path).cloned()
    }

    /// The directory at `physical`, listed now if it was not yet. `special` is asked once for
    /// the names that are not the kernel's.
    pub fn look(&self, physical: &[u8], special: impl FnOnce() -> Spoken) -> Known {
        if let Some(dir) = self.get(physical) {
            return Known::Dir(dir);
        }
        let links = match self.list(physical) {
            Ok(None) => return Known::Hidden,
            Ok(Some(links)) => Some(RwLock::new(links)),
            Err(
                nix::errno::Errno::ENOENT
                | nix::errno::Errno::ENOTDIR
                | nix::errno::Errno::ELOOP
                | nix::errno::Errno::ENAMETOOLONG,
            ) => {
                return Known::Missing;
            }
            Err(_) => None,
        };
        let dir = Arc::new(Dir { physical: physical.into(), links, special: special() });
        let mut map = self.by_path.write().unwrap_or_else(PoisonError::into_inner);
        Known::Dir(map.entry(physical.into()).or_insert(dir).clone())
    }

    /// The names in `path` that are, or may be, symbolic links; None: it is hidden.
    fn list(&self, path: &[u8]) -> Result<Option<Names>, nix::errno::Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let dir = open(OsStr::from_bytes(path), flags, Mode::empty())?;
        let found = nix::sys::stat::fstat(&dir)?;
        let found = Identity { device: found.st_dev, inode: found.st_ino };
        if self.hidden.contains(&found) { Ok(None) } else { list_links(&dir).map(Some) }
    }

    /// `path` is another way to write the directory `dir`.
    pub fn alias(&self, path: &[u8], dir: &Arc<Dir>) {
        let mut map = self.by_path.write().unwrap_or_else(PoisonError::into_inner);
        if !map.contains_key(path) {
            map.insert(path.into(), dir.clone());
        }
    }

    /// The directory at `physical` is about to be removed.
    pub fn forget(&self, physical: &[u8]) {
        let mut map = self.by_path.write().unwrap_or_else(PoisonError::into_inner);
        if map.remove(physical).is_some() {
            map.retain(|_, dir| *dir.physical != *physical);
        }
    }

    /// Something moved that may lie on the way to other directories.
    pub fn clear(&self) {
        self.by_path.write().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// The names in a directory that are, or may be, symbolic links.
fn list_links(dir: &OwnedFd) -> Result<Names, nix::errno::Errno> {
    const TYPE: usize = 18; // offset of d_type in struct linux_dirent64
    let mut links = Names::default();
    let mut buf = vec![0u8; 32 * 1024];
    loop {
        let n = getdents64(dir.as_fd(), &mut buf)?;
        if n == 0 {
            return Ok(links);
        }
        let mut at = 0;
        while at + TYPE < n {
            let len = usize::from(u16::from_ne_bytes([buf[at + 16], buf[at + 17]]));
            if len <= TYPE {
                break;
            }
            let record = &buf[at..(at + len).min(n)];
            let kind = record[TYPE];
            if kind == libc::DT_LNK || kind == libc::DT_UNKNOWN {
                let name = record[TYPE + 1..].split(|&b| b == 0).next().unwrap_or_default();
                links.insert(name.into());
            }
            at += len;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing() -> Spoken {
        Spoken::Names(Vec::new())
    }

    #[test]
    fn links_are_listed_noted_and_forgotten() {
        let tmp = tempfile::tempdir().expect("a temporary directory");
        std::os::unix::fs::symlink("/x", tmp.path().join("a")).expect("a link");
        std::fs::write(tmp.path().join("b"), "").expect("a file");
        let path = tmp.path().as_os_str().as_bytes();
        let dirs = RealDirs::default();
        let Known::Dir(dir) = dirs.look(path, || Spoken::Names(vec![b"d".as_slice().into()]))
        else {
            panic!("the directory is there")
        };
        assert!(dir.may_be_link(b"a"));
        assert!(!dir.may_be_link(b"b"));
        assert!(dir.is_plain(b"b") && dir.is_plain(b"not there"));
        assert!(!dir.is_plain(b"a") && !dir.is_plain(b"d"));
        dir.note_link(b"c");
        assert!(dirs.get(path).expect("known").may_be_link(b"c"));
        dirs.alias(b"/other/way", &dir);
        dirs.forget(path);
        assert!(dirs.get(path).is_none());
        assert!(dirs.get(b"/other/way").is_none(), "aliases go with their directory");
        assert!(matches!(dirs.look(b"/nothing/here", nothing), Known::Missing));
    }

    #[test]
    fn a_hidden_directory_is_hidden_by_every_name() {
        let tmp = tempfile::tempdir().expect("a temporary directory");
        let (one, other) = (tmp.path().join("one"), tmp.path().join("other"));
        std::fs::create_dir(&one).expect("a directory");
        let dirs = RealDirs::hiding(Identity::of(&one).into_iter().collect());
        std::fs::rename(&one, &other).expect("moved");
        assert!(matches!(dirs.look(other.as_os_str().as_bytes(), nothing), Known::Hidden));
        let above = dirs.look(tmp.path().as_os_str().as_bytes(), nothing);
        assert!(matches!(above, Known::Dir(_)));
    }
}
