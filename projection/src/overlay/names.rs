//! Making, removing, renaming and linking names, as a plain directory would do it.
//!
//! Who may is the caller's matter, asked before; what must hold of the tree is asked here, with the
//! tree held still, so that two tasks can't both make a name or remove a directory that is filled.

use super::meta::{Meta, now};
use super::state::{Body, ROOT, State, Update};
use super::{Overlay, damaged};
use crate::kind::Kind;
use std::sync::RwLockWriteGuard;
use vrift_policy::Errno;

/// A name in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name<'a> {
    /// The directory's number.
    pub dir: u32,
    /// One component.
    pub name: &'a [u8],
}

/// How a rename treats what has the new name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flags {
    /// It is replaced.
    Replace,
    /// EEXIST.
    NoReplace,
    /// It gets the old name.
    Exchange,
}

impl Name<'_> {
    fn to(&self, node: Option<u32>) -> Update {
        Update::Name { dir: self.dir, name: self.name.into(), node, time: now() }
    }
}

impl State {
    fn find(&self, at: Name<'_>) -> Result<Option<u32>, Errno> {
        self.lookup(at.dir, at.name).map_err(damaged)
    }

    /// A directory that was removed takes no new names, and the name must be free.
    fn must_be_free(&self, at: Name<'_>) -> Result<(), Errno> {
        if self.is_gone(at.dir) {
            return Err(Errno::ENOENT);
        }
        match self.find(at)? {
            Some(_) => Err(Errno::EEXIST),
            None => Ok(()),
        }
    }

    fn is_directory(&self, node: u32) -> Result<bool, Errno> {
        Ok(self.kind(node).map_err(damaged)? == Kind::Directory)
    }

    fn must_be_empty(&self, dir: u32) -> Result<(), Errno> {
        match self.entry_count(dir).map_err(damaged)? {
            0 => Ok(()),
            _ => Err(Errno::ENOTEMPTY),
        }
    }
}

impl Overlay {
    /// mkdir(2): the new directory's number.
    ///
    /// # Errors
    /// EEXIST; ENOENT in a directory that was removed.
    pub fn make_directory(&self, at: Name<'_>, meta: Meta) -> Result<u32, Errno> {
        self.make(at, Kind::Directory, Body::Directory(meta))
    }

    /// symlink(2).
    ///
    /// # Errors
    /// As [`Overlay::make_directory`].
    pub fn make_symlink(&self, at: Name<'_>, target: &[u8], meta: Meta) -> Result<u32, Errno> {
        self.make(at, Kind::Symlink, Body::Symlink { target: target.into(), meta })
    }

    fn make(&self, at: Name<'_>, kind: Kind, body: Body) -> Result<u32, Errno> {
        let mut state = self.write();
        state.must_be_free(at)?;
        let node = self.new_number()?;
        self.change(&mut state, &[Update::Node { node, kind, body }, at.to(Some(node))])?;
        self.tell_made(&state, at, node);
        Ok(node)
    }

    /// A number for a file that is about to be made in the upper directory, by that number.
    ///
    /// # Errors
    /// ENOSPC: there are no numbers left.
    pub fn reserve(&self) -> Result<u32, Errno> {
        self.new_number()
    }

    /// Gives the file that was made under a reserved number its name. After an error the file is
    /// gone again.
    ///
    /// # Errors
    /// As [`Overlay::make_directory`].
    pub fn name_new(&self, node: u32, kind: Kind, at: Name<'_>) -> Result<(), Errno> {
        self.name_new_held(node, kind, at).map(drop)
    }

    /// The same; the tree is held still as long as what is given.
    pub(super) fn name_new_held(
        &self,
        node: u32,
        kind: Kind,
        at: Name<'_>,
    ) -> Result<RwLockWriteGuard<'_, State>, Errno> {
        let mut state = self.write();
        let named = state.must_be_free(at).and_then(|()| {
            let node_update = Update::Node { node, kind, body: Body::Upper };
            self.change(&mut state, &[node_update, at.to(Some(node))])
        });
        named.inspect_err(|_| self.upper().remove(node))?;
        self.tell_made(&state, at, node);
        Ok(state)
    }

    /// The file that was made under a reserved number, in `dir`, has no name, and may get one
    /// (`O_TMPFILE`).
    ///
    /// # Errors
    /// None that a whole manifest has.
    pub fn keep_nameless(&self, node: u32, dir: u32, linkable: bool) -> Result<(), Errno> {
        let mut state = self.write();
        let known = state.know(node, Some(Kind::File)).map_err(damaged)?;
        known.linkable = linkable;
        // What /proc shows of it, as d_tmpfile() of fs/dcache.c has it.
        known.above = dir;
        known.called = format!("#{node}").into_bytes().into();
        Ok(())
    }

    /// unlink(2) of a name that stands for `node`.
    ///
    /// # Errors
    /// ENOENT: it stands for something else by now, or nothing; EISDIR.
    pub fn unlink(&self, at: Name<'_>) -> Result<(), Errno> {
        let mut state = self.write();
        let node = state.find(at)?.ok_or(Errno::ENOENT)?;
        if state.is_directory(node)? {
            return Err(Errno::EISDIR);
        }
        let seen = self.before_removal(&state, at, node);
        self.change(&mut state, &[at.to(None)])?;
        // The last name that goes is the one that is seen, as if there were no other.
        self.sweep(&state, node);
        self.tell_removed(&state, seen, at, node);
        Ok(())
    }

    /// rmdir(2).
    ///
    /// # Errors
    /// ENOENT, ENOTDIR, ENOTEMPTY.
    pub fn remove_directory(&self, at: Name<'_>) -> Result<(), Errno> {
        let mut state = self.write();
        let node = state.find(at)?.ok_or(Errno::ENOENT)?;
        if !state.is_directory(node)? {
            return Err(Errno::ENOTDIR);
        }
        state.must_be_empty(node)?;
        let seen = self.before_removal(&state, at, node);
        self.change(&mut state, &[at.to(None)])?;
        self.tell_removed(&state, seen, at, node);
        Ok(())
    }

    /// link(2): another name for a node.
    ///
    /// # Errors
    /// EEXIST, EPERM of a directory, ENOENT of what has no name any more.
    pub fn link(&self, node: u32, at: Name<'_>) -> Result<(), Errno> {
        let mut state = self.write();
        state.must_be_free(at)?;
        if state.is_directory(node)? {
            return Err(Errno::EPERM);
        }
        if state.is_gone(node) {
            return Err(Errno::ENOENT);
        }
        // A nameless file is written down when it gets its first name.
        let first = state.is_nameless(node).then_some(Update::Node {
            node,
            kind: Kind::File,
            body: Body::Upper,
        });
        let updates: Vec<Update> = first.into_iter().chain([at.to(Some(node))]).collect();
        self.change(&mut state, &updates)?;
        self.tell_made(&state, at, node);
        Ok(())
    }

    /// rename(2) and renameat2(2), the structure of it: what is `from` gets the name `to`.
    ///
    /// # Errors
    /// ENOENT, EEXIST, EINVAL of a directory into itself, ENOTEMPTY, EISDIR, ENOTDIR.
    pub fn rename(&self, from: Name<'_>, to: Name<'_>, flags: Flags) -> Result<(), Errno> {
        let mut state = self.write();
        let old = state.find(from)?.ok_or(Errno::ENOENT)?;
        let new = state.find(to)?;
        match (flags, new) {
            (Flags::NoReplace, Some(_)) => return Err(Errno::EEXIST),
            (Flags::Exchange, None) => return Err(Errno::ENOENT),
            _ => {}
        }
        if state.is_within(to.dir, old).map_err(damaged)? {
            return Err(Errno::EINVAL);
        }
        if let Some(new) = new
            && state.is_within(from.dir, new).map_err(damaged)?
        {
            return Err(if flags == Flags::Exchange { Errno::EINVAL } else { Errno::ENOTEMPTY });
        }
        if state.is_gone(to.dir) {
            return Err(Errno::ENOENT);
        }
        if new == Some(old) {
            return Ok(());
        }
        if let Some(new) = new.filter(|_| flags != Flags::Exchange) {
            match (state.is_directory(old)?, state.is_directory(new)?) {
                (true, false) => return Err(Errno::ENOTDIR),
                (false, true) => return Err(Errno::EISDIR),
                (true, true) => state.must_be_empty(new)?,
                (false, false) => {}
            }
        }
        let seen = self.before_rename(&state, (from, old), (to, new));
        let left = new.filter(|_| flags == Flags::Exchange);
        self.change(&mut state, &[from.to(left), to.to(Some(old))])?;
        self.tell_renamed(&state, seen, (from, to), (new, flags));
        if let Some(new) = new {
            self.sweep(&state, new);
        }
        Ok(())
    }

    /// The file of a node without a name goes from the upper directory; who has it open keeps it.
    pub fn forget_file(&self, node: u32) {
        self.sweep(&self.read(), node);
    }

    /// A file that has lost its last name goes from the upper directory; who has it open keeps it.
    fn sweep(&self, state: &State, node: u32) {
        let known = state.get(node);
        // What is seen has a file even if it never changed.
        let held = self.is_watched()
            || known.is_some_and(|known| matches!(known.body, Body::Upper | Body::Clean));
        if held && state.is_gone(node) {
            self.upper().remove(node);
        }
    }

    /// Whether a directory has no entries.
    ///
    /// # Errors
    /// EIO: the manifest is damaged.
    pub fn is_empty(&self, dir: u32) -> Result<bool, Errno> {
        Ok(self.read().entry_count(dir).map_err(damaged)? == 0)
    }

    /// Whether `above` is `node` or a directory above it.
    ///
    /// # Errors
    /// EIO: the manifest is damaged.
    pub fn is_within(&self, node: u32, above: u32) -> Result<bool, Errno> {
        debug_assert_eq!(ROOT, 0, "every way up ends at the root");
        self.read().is_within(node, above).map_err(damaged)
    }
}
