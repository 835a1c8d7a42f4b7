//! A small system for the shim: directories, files and links in memory, descriptors, a current
//! directory. It keeps count of every change that reaches the store or the job's private directory.

#![allow(dead_code, reason = "each test binary uses a part of this")]

pub mod program;
pub mod tree;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CStr;
use std::rc::Rc;
use vrift_macos_es::shim::{Base, Identity, Sys};
use vrift_policy::{Errno, Target};

/// Where the store is.
pub const STORE: &[u8] = b"/store";
/// The job's private directory.
pub const PRIVATE: &[u8] = b"/job";

/// What stands at a path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Thing {
    Directory,
    File,
    Link(Vec<u8>),
}

/// The system's state.
#[derive(Debug, Default)]
pub struct Kernel {
    pub things: BTreeMap<Vec<u8>, (Thing, u64)>,
    pub descriptors: BTreeMap<i32, Vec<u8>>,
    pub current: Vec<u8>,
    /// Changes of what must never change: what was done to which path.
    pub harm: Vec<(&'static str, String)>,
    next_inode: u64,
}

impl Kernel {
    /// Puts something there, with the directories above it.
    pub fn put(&mut self, path: &[u8], thing: Thing) {
        let slashes = path.iter().enumerate().filter(|(at, byte)| **byte == b'/' && *at > 0);
        for (at, _) in slashes.chain([(0, &0)]) {
            let dir = if at == 0 { b"/".to_vec() } else { path[..at].to_vec() };
            self.next_inode += 1;
            let inode = self.next_inode;
            self.things.entry(dir).or_insert((Thing::Directory, inode));
        }
        self.next_inode += 1;
        self.things.insert(path.to_vec(), (thing, self.next_inode));
    }

    /// The physical path that a path leads to; its last component may be missing.
    pub fn resolve(&self, base: Base, path: &[u8], follow: bool) -> Result<Vec<u8>, Errno> {
        let start = match base {
            _ if path.is_empty() => return Err(Errno::ENOENT),
            _ if path.starts_with(b"/") => Vec::new(),
            Base::Current => self.current.clone(),
            Base::Descriptor(fd) => self.descriptors.get(&fd).ok_or(Errno::EBADF)?.clone(),
        };
        let mut here = if start == b"/" { Vec::new() } else { start };
        let mut rest: Vec<Vec<u8>> = Vec::new();
        let split = |path: &[u8]| -> Vec<Vec<u8>> {
            let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
            names.rev().map(<[u8]>::to_vec).collect()
        };
        rest.extend(split(path));
        let slash = path.ends_with(b"/");
        let mut links = 0;
        while let Some(name) = rest.pop() {
            let dir: &[u8] = if here.is_empty() { b"/" } else { &here };
            match self.things.get(dir) {
                Some((Thing::Directory, _)) => {}
                Some(_) => return Err(Errno::ENOTDIR),
                None => return Err(Errno::ENOENT),
            }
            match name.as_slice() {
                b"." => continue,
                b".." => {
                    here.truncate(here.iter().rposition(|byte| *byte == b'/').unwrap_or(0));
                    continue;
                }
                _ => {}
            }
            let dir = here.len();
            here.push(b'/');
            here.extend_from_slice(&name);
            if let Some((Thing::Link(target), _)) = self.things.get(&here)
                && (follow || !rest.is_empty() || slash)
            {
                links += 1;
                if links > 32 {
                    return Err(Errno::ELOOP);
                }
                here.truncate(dir);
                if target.starts_with(b"/") {
                    here.clear();
                }
                rest.extend(split(target));
            }
        }
        if here.is_empty() {
            here.push(b'/');
        }
        if slash && self.things.get(&here).is_some_and(|(thing, _)| *thing != Thing::Directory) {
            return Err(Errno::ENOTDIR);
        }
        Ok(here)
    }

    /// Notes a change.
    pub fn changes(&mut self, what: &'static str, path: &[u8]) {
        let below = |dir: &[u8]| {
            path.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        };
        if below(STORE) || below(PRIVATE) {
            self.harm.push((what, String::from_utf8_lossy(path).into_owned()));
        }
    }

    /// A new descriptor, the lowest that is free.
    pub fn descriptor(&mut self, path: Vec<u8>) -> i32 {
        let taken: BTreeSet<i32> = self.descriptors.keys().copied().collect();
        let fd = (3..).find(|fd| !taken.contains(fd)).expect("a free number");
        self.descriptors.insert(fd, path);
        fd
    }
}

/// The system as the shim sees it.
#[derive(Clone)]
pub struct Fake {
    pub kernel: Rc<RefCell<Kernel>>,
    pub user: u32,
}

fn write(path: &[u8], out: &mut [u8]) -> usize {
    let length = path.len().min(out.len());
    out[..length].copy_from_slice(&path[..length]);
    length
}

impl Sys for Fake {
    fn read_link(&self, path: &CStr, out: &mut [u8]) -> Result<usize, Errno> {
        let kernel = self.kernel.borrow();
        let path = kernel.resolve(Base::Current, path.to_bytes(), false)?;
        match kernel.things.get(&path) {
            Some((Thing::Link(target), _)) => Ok(write(target, out)),
            Some(_) => Err(Errno::EINVAL),
            None => Err(Errno::ENOENT),
        }
    }

    fn descriptor_path(&self, fd: i32, out: &mut [u8]) -> Result<usize, Errno> {
        let kernel = self.kernel.borrow();
        kernel.descriptors.get(&fd).map(|path| write(path, out)).ok_or(Errno::EBADF)
    }

    fn current_path(&self, out: &mut [u8]) -> Result<usize, Errno> {
        Ok(write(&self.kernel.borrow().current, out))
    }

    fn identity(&self, fd: i32) -> Result<Identity, Errno> {
        let kernel = self.kernel.borrow();
        let path = kernel.descriptors.get(&fd).ok_or(Errno::EBADF)?;
        let ino = kernel.things.get(path).map_or(0, |(_, inode)| *inode);
        Ok(Identity { dev: 1, ino })
    }

    fn kind(&self, path: &CStr) -> Result<Target, Errno> {
        let kernel = self.kernel.borrow();
        let path = kernel.resolve(Base::Current, path.to_bytes(), false)?;
        Ok(match kernel.things.get(&path) {
            Some((Thing::Directory, _)) => Target::Directory,
            Some((Thing::File, _)) => Target::File,
            Some((Thing::Link(_), _)) => Target::Symlink,
            None => Target::Missing,
        })
    }

    fn user(&self) -> u32 {
        self.user
    }
}
