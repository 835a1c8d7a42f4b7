//! Watches (inotify(7)) on what a job can change: the kernel tells of the mirror what is done in
//! the tree, for the same is done there, and files are opened and changed by their names in it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{MutexGuard, PoisonError};

use rustix::fs::{
    AtFlags, Mode, OFlags, RenameFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, chmodat,
    fchmod, fstat, openat, renameat_with, statat, unlinkat, utimensat,
};
use vrift_policy::Errno;

use super::meta::Meta;
use super::mirror::{self, Mirror};
use super::names::{Flags, Name};
use super::platform::PATH;
use super::state::{Body, ROOT, State};
use super::upper::name as file_name;
use super::{Overlay, damaged, errno};
use crate::kind::Kind;

/// What /proc shows of a longer path in the mirror may be cut short.
const LONGEST: usize = 3800;
const NOFOLLOW: AtFlags = AtFlags::SYMLINK_NOFOLLOW;

/// A directory of the mirror, and a name in it.
type Seen = (OwnedFd, Box<[u8]>);

/// Both sides of a rename, in the mirror.
pub(super) struct Sides(OwnedFd, OwnedFd);

impl Overlay {
    /// Whether anything in the tree is watched, or was.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.watching.load(Acquire)
    }

    /// Whether a file is watched by itself, and not only its directory.
    #[must_use]
    pub fn is_watched_itself(&self, node: u32) -> bool {
        self.is_watched() && self.mirror().as_ref().is_some_and(|mirror| mirror.is_watched(node))
    }

    /// Whether a directory that holds a name of this node is watched.
    #[must_use]
    pub fn is_seen(&self, node: u32) -> bool {
        if !self.is_watched() {
            return false;
        }
        let names = self.read().names_of(node).unwrap_or_default();
        let mirror = self.mirror();
        names.iter().any(|(dir, _)| mirror.as_ref().is_some_and(|mirror| mirror.is_whole(*dir)))
    }

    /// Whether it counts by which name a node is reached: it has several, and something is watched.
    #[must_use]
    pub fn name_counts(&self, node: u32) -> bool {
        self.is_watched() && self.read().names_of(node).is_ok_and(|names| names.len() > 1)
    }

    /// Why somebody who watches may have missed something, where that may be.
    #[must_use]
    pub fn watch_failure(&self) -> Option<&str> {
        self.missed.get().map(String::as_str)
    }

    /// What a watch of this node is to be put on; a file has been copied up, if only to be read.
    /// `None`: it has no name.
    ///
    /// # Errors
    /// ENOSPC and the like: it can't be made.
    pub fn watch(&self, node: u32) -> Result<Option<OwnedFd>, Errno> {
        let state = self.write();
        if state.is_nameless(node) {
            return Ok(None);
        }
        let mut mirror = self.mirror();
        let mirror = match &mut *mirror {
            Some(mirror) => mirror,
            none => none.insert(Mirror::new(&self.upper)?),
        };
        self.watching.store(true, Release);
        if state.kind(node).map_err(damaged)? == Kind::Directory {
            mirror.fill(&state, &self.upper, node)?;
            return mirror.open(&state, node, PATH | OFlags::DIRECTORY).map(Some);
        }
        let (dir, name) = mirror.hold(&state, &self.upper, node)?;
        let flags = PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(dir, &*name, flags, Mode::empty()).map(Some).map_err(errno)
    }

    /// Does something to a node's file, by the directory and the name where it is found: where it
    /// is seen, if a directory is watched that holds it. `by`: the name that the job called it by.
    /// `act` must not ask the overlay anything, which is held still meanwhile.
    pub fn at<T>(
        &self,
        node: u32,
        by: Option<Name<'_>>,
        act: impl FnOnce(BorrowedFd<'_>, &[u8]) -> T,
    ) -> T {
        if self.is_watched() {
            let state = self.read();
            match self.seen(&state, node, by) {
                Ok(Some((dir, name))) => return act(dir.as_fd(), &name),
                Ok(None) => {}
                Err(e) => self.missed("looking for a file", e),
            }
        }
        act(self.upper.files(), file_name(node).as_bytes())
    }

    /// Opens a watched directory, or one in a watched directory, so that this is seen; `None`: it
    /// is neither, or that can't be done.
    pub fn open_seen(&self, dir: u32, flags: OFlags) -> Option<OwnedFd> {
        if !self.is_watched() {
            return None;
        }
        let state = self.read();
        // What has been removed has no place that could be opened anew.
        if state.is_gone(dir) {
            return None;
        }
        let open = || {
            {
                let mirror = self.mirror();
                let Some(mirror) = &*mirror else { return Ok(None) };
                let above = state.parent(dir).map_err(damaged)?;
                if !mirror.is_whole(dir) && !mirror.is_whole(above) {
                    return Ok(None);
                }
            }
            self.must_be_short(&state, dir, b"")?;
            let fd = self.entered(&state, dir, flags)?;
            let ino = fstat(&fd).map_err(errno)?.st_ino;
            self.inodes().insert(ino, dir);
            Ok(Some(fd))
        };
        open().unwrap_or_else(|e| {
            self.missed("opening a directory", e);
            None
        })
    }

    /// What an inode in the mirror stands for, which a descriptor was opened of.
    pub fn node_of_inode(&self, ino: u64) -> Option<u32> {
        self.inodes().get(&ino).copied()
    }

    /// Gives a file that was made under a reserved number its name, as [`Overlay::name_new`];
    /// `opened` is the descriptor it was made with, `flags` what it was opened with, and what is
    /// given is to be used instead.
    ///
    /// # Errors
    /// As [`Overlay::name_new`].
    pub fn name_opened(
        &self,
        node: u32,
        at: Name<'_>,
        opened: OwnedFd,
        flags: OFlags,
    ) -> Result<OwnedFd, Errno> {
        let state = self.name_new_held(node, Kind::File, at)?;
        if !self.is_watched() {
            return Ok(opened);
        }
        let again = flags.difference(OFlags::CREATE | OFlags::EXCL | OFlags::TRUNC);
        let reopen = || {
            let Some((dir, name)) = self.seen(&state, node, Some(at))? else { return Ok(None) };
            let open = || openat(&dir, &*name, again | OFlags::CLOEXEC, Mode::empty());
            match open() {
                // Its own mode forbids what the call that makes it may.
                Err(rustix::io::Errno::ACCESS) => {
                    let mode = Mode::from_raw_mode(fstat(&opened).map_err(errno)?.st_mode & 0o7777);
                    fchmod(&opened, mode | Mode::RUSR | Mode::WUSR).map_err(errno)?;
                    let fd = open();
                    fchmod(&opened, mode).map_err(errno)?;
                    fd.map(Some).map_err(errno)
                }
                other => other.map(Some).map_err(errno),
            }
        };
        Ok(match reopen() {
            Ok(Some(fd)) => fd,
            Ok(None) => opened,
            Err(e) => {
                self.missed("opening a new file", e);
                opened
            }
        })
    }

    /// Where a node's file is seen.
    fn seen(&self, state: &State, node: u32, by: Option<Name<'_>>) -> Result<Option<Seen>, Errno> {
        if state.get(node).is_none_or(|known| known.body == Body::Base) {
            return Ok(None);
        }
        let mut names = match by {
            Some(by) if state.lookup(by.dir, by.name).map_err(damaged)? == Some(node) => {
                vec![(by.dir, by.name.into())]
            }
            _ => state.names_of(node).map_err(damaged)?,
        };
        let whole = |dir| self.mirror().as_ref().is_some_and(|mirror| mirror.is_whole(dir));
        let Some(at) = names.iter().position(|(dir, _)| whole(*dir)) else { return Ok(None) };
        let (dir, name) = names.swap_remove(at);
        self.must_be_short(state, dir, &name)?;
        let above = self.entered(state, dir, PATH | OFlags::DIRECTORY)?;
        let there = statat(&above, &*name, NOFOLLOW).map_err(errno)?;
        let own = self.upper.stat(node).map_err(errno)?;
        // Never another file, whatever went wrong.
        if (there.st_dev, there.st_ino) != (own.st_dev, own.st_ino) {
            return Err(Errno::ESTALE);
        }
        self.inodes().insert(own.st_ino, node);
        Ok(Some((above, name)))
    }

    /// What is opened by this name must be told by its path.
    fn must_be_short(&self, state: &State, dir: u32, name: &[u8]) -> Result<(), Errno> {
        let above = self.upper.path().as_os_str().len() + mirror::path(state, dir)?.len();
        if above + name.len() > LONGEST { Err(Errno::ENAMETOOLONG) } else { Ok(()) }
    }

    fn entered(&self, state: &State, dir: u32, flags: OFlags) -> Result<OwnedFd, Errno> {
        self.mirror().as_ref().ok_or(Errno::ENOENT)?.open(state, dir, flags)
    }

    fn mirror(&self) -> MutexGuard<'_, Option<Mirror>> {
        self.mirror.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inodes(&self) -> MutexGuard<'_, std::collections::HashMap<u64, u32>> {
        self.inodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something to the mirror, if there is one. What the job called for has been done, or
    /// will be, whatever becomes of this.
    fn mirrored<T>(
        &self,
        what: &str,
        act: impl FnOnce(&mut Mirror) -> Result<Option<T>, Errno>,
    ) -> Option<T> {
        if !self.is_watched() {
            return None;
        }
        let done = self.mirror().as_mut().map_or(Ok(None), act);
        done.unwrap_or_else(|e| {
            self.missed(what, e);
            None
        })
    }

    fn missed(&self, what: &str, e: Errno) {
        // The first is told.
        let _ = self.missed.set(format!("{what}: {e}"));
    }

    /// A name was made.
    pub(super) fn tell_made(&self, state: &State, at: Name<'_>, node: u32) {
        self.mirrored("making a name", |mirror| {
            let whole = mirror.is_whole(at.dir);
            if state.kind(node).map_err(damaged)? == Kind::Directory {
                if whole {
                    let dir = mirror.enter(state, at.dir)?;
                    mirror.make_directory(dir.as_fd(), at.name, node)?;
                }
            } else if whole || mirror.is_watched(node) {
                let dir = mirror.enter(state, at.dir)?;
                mirror.make_entry((state, &self.upper), dir.as_fd(), at.name, node)?;
            }
            Ok(Some(()))
        });
    }

    /// The directory that a name is about to be removed from, if the mirror has the name.
    pub(super) fn before_removal(&self, state: &State, at: Name<'_>, node: u32) -> Option<OwnedFd> {
        self.mirrored("looking for a name", |mirror| {
            let there = mirror.is_whole(at.dir)
                || mirror.holds(node)
                || mirror.has(state, at.dir, at.name)?;
            if there { mirror.enter(state, at.dir).map(Some) } else { Ok(None) }
        })
    }

    /// The name was removed.
    pub(super) fn tell_removed(
        &self,
        state: &State,
        dir: Option<OwnedFd>,
        at: Name<'_>,
        node: u32,
    ) {
        let Some(dir) = dir else { return };
        self.mirrored("removing a name", |mirror| {
            let gone = state.is_gone(node);
            let directory = state.kind(node).map_err(damaged)? == Kind::Directory;
            if gone {
                mirror.forget(node);
            }
            let flags = if directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            unlinkat(&dir, at.name, flags).map(Some).map_err(errno)
        });
    }

    /// A rename is about to happen: `old` from `from` to `to`, where `new` is.
    pub(super) fn before_rename(
        &self,
        state: &State,
        (from, old): (Name<'_>, u32),
        (to, new): (Name<'_>, Option<u32>),
    ) -> Option<Sides> {
        self.mirrored("preparing a rename", |mirror| {
            let concerned = mirror.is_whole(from.dir)
                || mirror.is_whole(to.dir)
                || mirror.holds(old)
                || new.is_some_and(|new| mirror.holds(new))
                || mirror.has(state, from.dir, from.name)?
                || mirror.has(state, to.dir, to.name)?;
            if !concerned {
                return Ok(None);
            }
            let mut side = |at: Name<'_>, node: Option<u32>| {
                let dir = mirror.enter(state, at.dir)?;
                match node {
                    None => {}
                    Some(node) if state.kind(node).map_err(damaged)? == Kind::Directory => {
                        drop(mirror.enter(state, node)?);
                    }
                    Some(node) => {
                        mirror.make_entry((state, &self.upper), dir.as_fd(), at.name, node)?;
                    }
                }
                Ok(dir)
            };
            Ok(Some(Sides(side(from, Some(old))?, side(to, new)?)))
        })
    }

    /// The rename happened.
    pub(super) fn tell_renamed(
        &self,
        state: &State,
        sides: Option<Sides>,
        (from, to): (Name<'_>, Name<'_>),
        (new, flags): (Option<u32>, Flags),
    ) {
        let Some(Sides(old_dir, new_dir)) = sides else { return };
        self.mirrored("renaming", |mirror| {
            if let Some(new) = new.filter(|new| state.is_gone(*new)) {
                mirror.forget(new);
            }
            let flags = match flags {
                Flags::Exchange => RenameFlags::EXCHANGE,
                Flags::Replace | Flags::NoReplace => RenameFlags::empty(),
            };
            renameat_with(&old_dir, from.name, &new_dir, to.name, flags).map(Some).map_err(errno)
        });
    }

    /// The attributes of a directory or a symbolic link changed.
    pub(super) fn tell_changed(&self, state: &State, node: u32, before: &Meta, after: &Meta) {
        self.mirrored("changing attributes", |mirror| {
            for (dir, name) in state.names_of(node).map_err(damaged)? {
                let seen = mirror.is_whole(dir) || mirror.is_whole(node) || mirror.is_watched(node);
                if seen && mirror.holds(dir) {
                    let dir = mirror.enter(state, dir)?;
                    let times = touch(before, after);
                    return utimensat(&dir, &*name, &times, NOFOLLOW).map(Some).map_err(errno);
                }
            }
            if node == ROOT && mirror.is_whole(node) {
                let root = mirror.enter(state, node)?;
                let times = touch(before, after);
                return utimensat(&root, ".", &times, NOFOLLOW).map(Some).map_err(errno);
            }
            Ok(None)
        });
    }

    /// A file could not be copied up: what was made of it goes, or becomes empty again where it
    /// stands in the mirror.
    pub(super) fn undo_copy(&self, node: u32) {
        if !self.is_watched() {
            return self.upper.remove(node);
        }
        let mode = Mode::RUSR | Mode::WUSR;
        let name = file_name(node);
        let undone = chmodat(self.upper.files(), name.as_str(), mode, AtFlags::empty())
            .and_then(|()| self.upper.open(node, OFlags::WRONLY | OFlags::TRUNC, Mode::empty()));
        if let Err(e) = undone {
            self.missed("undoing a copy", errno(e));
        }
    }
}

/// Times whose setting tells what the job's change tells: of one of them IN_ACCESS or IN_MODIFY, of
/// both and of everything else IN_ATTRIB (fsnotify_change() of the kernel).
fn touch(before: &Meta, after: &Meta) -> Timestamps {
    let others_stay = Meta { atime: after.atime, mtime: after.mtime, ..before.clone() };
    let only_times = Meta { ctime: after.ctime, ..others_stay } == *after;
    let changed = (before.atime != after.atime, before.mtime != after.mtime);
    let (access, modification) = match changed {
        (true, false) | (false, true) if only_times => changed,
        _ => (true, true),
    };
    let time = |set| Timespec { tv_sec: 0, tv_nsec: if set { UTIME_NOW } else { UTIME_OMIT } };
    Timestamps { last_access: time(access), last_modification: time(modification) }
}
