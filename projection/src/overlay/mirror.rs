//! Real directories in the place of watched ones, whose changes the kernel tells to who watches.
//!
//! The mirror is a tree in the upper directory, made at the first watch. It holds each watched
//! directory with all its entries, the directories above it, and what is watched itself or was
//! moved out of a watched directory; what is in it stands where the overlay has it. A file there
//! is a hard link of the one in `f/`, which of a file that did not change is empty until it is
//! copied up; a directory is a directory, and a symbolic link one that leads nowhere.
//!
//! Everything here is done with the overlay's tree held still.

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, linkat, mkdirat, openat, symlinkat};
use vrift_policy::Errno;

use super::platform::{PATH, make_file};
use super::state::{Body, ROOT, State};
use super::upper::{Upper, name as file_name};
use super::{damaged, errno};
use crate::kind::Kind;

/// The most of a path that is given to one call.
const PIECE: usize = 2048;
/// To do something at a directory, unseen by who watches it.
const AT: OFlags = PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW);

/// How much of a directory is in the mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// What others need.
    Part,
    /// Every entry: it is watched.
    Whole,
}

/// What is in the mirror.
#[derive(Debug)]
pub(super) struct Mirror {
    root: OwnedFd,
    directories: std::collections::HashMap<u32, Extent, foldhash::fast::RandomState>,
    /// Watched themselves, and no directories: all their names are there.
    watched: HashSet<u32>,
}

impl Mirror {
    pub(super) fn new(upper: &Upper) -> Result<Mirror, Errno> {
        let root = upper.mirror().map_err(errno)?;
        let directories = std::iter::once((ROOT, Extent::Part)).collect();
        Ok(Mirror { root, directories, watched: HashSet::new() })
    }

    /// Whether all entries of a directory are there.
    pub(super) fn is_whole(&self, dir: u32) -> bool {
        self.directories.get(&dir) == Some(&Extent::Whole)
    }

    /// Whether a directory is there.
    pub(super) fn holds(&self, dir: u32) -> bool {
        self.directories.contains_key(&dir)
    }

    /// Whether it is watched, and no directory.
    pub(super) fn is_watched(&self, node: u32) -> bool {
        self.watched.contains(&node)
    }

    /// A directory was removed.
    pub(super) fn forget(&mut self, node: u32) {
        self.directories.remove(&node);
        self.watched.remove(&node);
    }

    /// Opens a directory that is there.
    pub(super) fn open(&self, state: &State, dir: u32, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = path(state, dir)?;
        let mut rest = path.as_slice();
        let mut here: Option<OwnedFd> = None;
        loop {
            let from = here.as_ref().unwrap_or(&self.root);
            let cut = rest.get(..PIECE).and_then(|piece| piece.iter().rposition(|&b| b == b'/'));
            let Some(cut) = cut else {
                let flags = flags | OFlags::CLOEXEC;
                return openat(from, rest, flags, Mode::empty()).map_err(errno);
            };
            let next = openat(from, &rest[..cut], AT | OFlags::CLOEXEC, Mode::empty());
            here = Some(next.map_err(errno)?);
            rest = &rest[cut + 1..];
        }
    }

    /// A directory, to change something in it; made where it isn't there.
    pub(super) fn enter(&mut self, state: &State, dir: u32) -> Result<OwnedFd, Errno> {
        let mut missing = Vec::new();
        let mut here = dir;
        while !self.holds(here) {
            missing.push(here);
            here = state.parent(here).map_err(damaged)?;
        }
        for node in missing.into_iter().rev() {
            let above = self.open(state, state.parent(node).map_err(damaged)?, AT)?;
            self.make_directory(above.as_fd(), state.name(node).map_err(damaged)?, node)?;
        }
        self.open(state, dir, AT)
    }

    /// Makes the directory `node` in another one.
    pub(super) fn make_directory(
        &mut self,
        above: BorrowedFd<'_>,
        name: &[u8],
        node: u32,
    ) -> Result<(), Errno> {
        mkdirat(above, name, Mode::from_raw_mode(0o755)).map_err(errno)?;
        self.directories.insert(node, Extent::Part);
        Ok(())
    }

    /// Makes an entry for what is no directory; one that is there stays.
    pub(super) fn make_entry(
        &self,
        (state, upper): (&State, &Upper),
        dir: BorrowedFd<'_>,
        name: &[u8],
        node: u32,
    ) -> Result<(), Errno> {
        let made = if state.kind(node).map_err(damaged)? == Kind::Symlink {
            self.make_link(state, dir, name, node)?
        } else {
            let link = || {
                let file = file_name(node);
                linkat(upper.files(), file.as_str(), dir, name, AtFlags::empty())
            };
            match link() {
                Err(rustix::io::Errno::NOENT) if is_unchanged(state, node) => {
                    stand_in(upper, node)?;
                    link()
                }
                other => other,
            }
        };
        match made {
            Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
            Err(e) => Err(errno(e)),
        }
    }

    fn make_link(
        &self,
        state: &State,
        dir: BorrowedFd<'_>,
        name: &[u8],
        node: u32,
    ) -> Result<rustix::io::Result<()>, Errno> {
        // Where it has several names, they are of one link.
        for (other, called) in state.names_of(node).map_err(damaged)? {
            if self.holds(other) {
                let from = self.open(state, other, AT)?;
                if let Ok(()) = linkat(&from, &*called, dir, name, AtFlags::empty()) {
                    return Ok(Ok(()));
                }
            }
        }
        Ok(symlinkat(".", dir, name))
    }

    /// Whether a name in a directory that is there, of what is no directory, is there.
    pub(super) fn has(&self, state: &State, dir: u32, name: &[u8]) -> Result<bool, Errno> {
        if !self.holds(dir) {
            return Ok(false);
        }
        let dir = self.open(state, dir, AT)?;
        Ok(rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW).is_ok())
    }

    /// All entries of a directory are made, before it is watched.
    pub(super) fn fill(&mut self, state: &State, upper: &Upper, node: u32) -> Result<(), Errno> {
        if self.is_whole(node) {
            return Ok(());
        }
        let dir = self.enter(state, node)?;
        for child in state.entries(node).map_err(damaged)? {
            if state.kind(child.node).map_err(damaged)? != Kind::Directory {
                self.make_entry((state, upper), dir.as_fd(), &child.name, child.node)?;
            } else if !self.holds(child.node) {
                self.make_directory(dir.as_fd(), &child.name, child.node)?;
            }
        }
        self.directories.insert(node, Extent::Whole);
        Ok(())
    }

    /// All names of what is no directory are made, before it is watched; gives one of them.
    pub(super) fn hold(
        &mut self,
        state: &State,
        upper: &Upper,
        node: u32,
    ) -> Result<(OwnedFd, Box<[u8]>), Errno> {
        let mut one = None;
        for (above, name) in state.names_of(node).map_err(damaged)? {
            let dir = self.enter(state, above)?;
            self.make_entry((state, upper), dir.as_fd(), &name, node)?;
            one = Some((dir, name));
        }
        self.watched.insert(node);
        one.ok_or(Errno::ENOENT)
    }
}

/// A directory's path in the mirror.
pub(super) fn path(state: &State, dir: u32) -> Result<Vec<u8>, Errno> {
    let mut names = Vec::new();
    let mut here = dir;
    while here != ROOT {
        names.push(state.name(here).map_err(damaged)?);
        here = state.parent(here).map_err(damaged)?;
    }
    names.reverse();
    Ok(if names.is_empty() { b".".to_vec() } else { names.join(&b'/') })
}

fn is_unchanged(state: &State, node: u32) -> bool {
    state.get(node).is_none_or(|known| known.body == Body::Base)
}

/// What a file's copy will be, empty: made without being opened, so that nobody hears of it.
fn stand_in(upper: &Upper, node: u32) -> Result<(), Errno> {
    let mode = Mode::RUSR | Mode::WUSR;
    let name = file_name(node);
    make_file(upper.files(), name.as_str(), mode).map_err(errno)
}
