//! One mounted tree: the nodes that the kernel knows by their numbers.
//!
//! An inode's number is that of stat, and the node's own; what is there for the sake of mounts further in
//! ([`ELSEWHERE`]) has others.

use super::changes::{Changes, Place};
use super::contents::Contents;
use super::told::{Answer, errno, file_attr, nameable};
use crate::job::Job;
use fuser::{Errno, FileAttr, Generation, INodeNo, ReplyAttr, ReplyEmpty, ReplyEntry, ReplyWrite};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;
use vrift_projection::overlay::For;
use vrift_projection::walk::NAME_MAX;
use vrift_projection::{Above, Mount, NodeRef};

/// How long the kernel may keep what it is told: longer than any job, and what its clock can hold.
pub const EVER: Duration = Duration::from_secs(1 << 31);
/// Inodes are never used again for something else.
pub const GENERATION: Generation = Generation(0);
/// Numbers with this bit are not the manifest's: of directories that are there only because a mount point
/// lies below, and of mount points, which are covered as soon as the mount is there. The lower bits are a
/// [`NodeRef`]: sixteen and thirty-two.
const ELSEWHERE: u64 = 1 << 48;

/// Entries of a directory that are looked at together: about what the kernel has room for.
const LISTED: usize = 32;

/// One of them.
struct Listed {
    name: Box<[u8]>,
    ino: u64,
    next: u64,
}

/// One mount.
pub struct Tree {
    /// What it is mounted for.
    pub job: Arc<Job>,
    mount: u16,
    /// What is read.
    pub contents: Arc<Contents>,
    /// `None`: it is read-only.
    pub changes: Option<Arc<Changes>>,
}

/// A request that asks for a change can be refused.
pub trait Refuse: Send + 'static {
    /// Answers with an errno.
    fn refuse(self, e: Errno);
}

impl Refuse for ReplyEmpty {
    fn refuse(self, e: Errno) {
        self.error(e);
    }
}

impl Refuse for ReplyAttr {
    fn refuse(self, e: Errno) {
        self.error(e);
    }
}

impl Refuse for ReplyWrite {
    fn refuse(self, e: Errno) {
        self.error(e);
    }
}

impl Tree {
    /// The mount with this number.
    pub fn of(job: &Arc<Job>, mount: u16) -> Tree {
        let contents = Arc::new(Contents::of(job));
        let changes = Changes::of(job, mount, &contents);
        Tree { job: Arc::clone(job), mount, contents, changes }
    }

    /// The node that a number stands for.
    pub fn node(&self, ino: INodeNo) -> Answer<NodeRef> {
        let (mount, number) = match ino.0 & ELSEWHERE {
            0 => (self.mount, ino.0.checked_sub(INodeNo::ROOT.0).ok_or(Errno::ESTALE)?),
            _ => {
                let mount = u16::try_from((ino.0 ^ ELSEWHERE) >> 32).map_err(|_| Errno::ESTALE)?;
                (mount, ino.0 & u64::from(u32::MAX))
            }
        };
        let node = u32::try_from(number).map_err(|_| Errno::ESTALE)?;
        Ok(NodeRef { mount, node })
    }

    /// Turns a failure of ours into EIO for the job and a reason in the summary.
    pub fn check<T>(&self, result: Result<T, impl std::fmt::Display>) -> Answer<T> {
        self.job.check(result).map_err(errno)
    }

    fn changes(&self) -> Answer<&Arc<Changes>> {
        self.changes.as_ref().ok_or(Errno::EROFS)
    }

    /// The changes, and a node of this mount that may be changed.
    pub fn changing(&self, ino: INodeNo) -> Answer<(&Arc<Changes>, NodeRef)> {
        let (changes, node) = (self.changes()?, self.node(ino)?);
        if node.mount == self.mount { Ok((changes, node)) } else { Err(Errno::EROFS) }
    }

    /// Has the node's changes do `work`, which answers, when its content is where it can be changed: by a
    /// thread of its own if that takes time. `what`: what becomes of the content.
    pub fn change<R: Refuse>(
        &self,
        ino: INodeNo,
        what: For,
        reply: R,
        work: impl FnOnce(&Changes, u32, R) + Send + 'static,
    ) {
        let asked = self.changing(ino).and_then(|(changes, node)| {
            changes.takes_time(node, what).map(|slow| (changes, node.node, slow))
        });
        match asked {
            Err(e) => reply.refuse(e),
            Ok((changes, node, true)) => {
                Changes::later(changes, move |changes| work(changes, node, reply));
            }
            Ok((changes, node, false)) => work(changes, node, reply),
        }
    }

    /// A name, and the changes that it belongs to.
    pub fn place<'a>(&self, dir: INodeNo, name: &'a OsStr) -> Answer<(&Arc<Changes>, Place<'a>)> {
        let (changes, dir) = self.changing(dir)?;
        Ok((changes, Place { dir, name: name.as_bytes() }))
    }

    /// The kernel knows a node from now on.
    pub fn told(&self, attr: &FileAttr) {
        if let Ok((changes, node)) = self.changing(attr.ino) {
            changes.held.told(node.node);
        }
    }

    /// Answers with what was made.
    pub fn made(&self, node: Answer<u32>, reply: ReplyEntry) {
        let node = node.map(|node| NodeRef { mount: self.mount, node });
        match node.and_then(|node| self.attr(node)) {
            Ok(attr) => {
                self.told(&attr);
                reply.entry(&EVER, &attr, GENERATION);
            }
            Err(e) => reply.error(e),
        }
    }

    /// What the kernel is told of a node.
    pub fn attr(&self, node: NodeRef) -> Answer<FileAttr> {
        let attr = match &self.changes {
            Some(changes) if node.mount == self.mount => changes.attr(node)?,
            _ => self.check(self.job.projection.attr(node))?,
        };
        let told = file_attr(&attr, self.job.owner(&attr));
        if node.mount == self.mount {
            return Ok(told);
        }
        let number = ELSEWHERE | u64::from(node.mount) << 32 | u64::from(node.node);
        Ok(FileAttr { ino: INodeNo(number), ..told })
    }

    /// The entry of a directory; `None`: there is none.
    pub fn child(&self, parent: INodeNo, name: &OsStr) -> Answer<Option<FileAttr>> {
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        self.named(self.node(parent)?, name.as_bytes())
    }

    fn named(&self, dir: NodeRef, name: &[u8]) -> Answer<Option<FileAttr>> {
        self.check(self.job.projection.lookup(dir, name))?.map(|node| self.attr(node)).transpose()
    }

    /// Tells `add` the entries of a directory with what is told of each, from a position on, until it says
    /// that it is full: name, position of the next, attributes.
    pub fn list(
        &self,
        ino: INodeNo,
        mut from: u64,
        mut add: impl FnMut(&[u8], u64, &FileAttr) -> bool,
    ) -> Answer<()> {
        let dir = self.node(ino)?;
        let mut some = Vec::with_capacity(LISTED);
        loop {
            // A tree that changes is held still while it is listed, and can't be asked for more meanwhile.
            let each = |entry: &vrift_projection::Entry<'_>| {
                some.push(Listed { name: entry.name.into(), ino: entry.ino, next: entry.next });
                some.len() < LISTED
            };
            self.check(self.job.projection.list(dir, from, each))?;
            for entry in &some {
                match self.attr_of_entry(dir, entry) {
                    Ok(attr) if add(&entry.name, entry.next, &attr) => return Ok(()),
                    Ok(_) => {}
                    // Removed meanwhile.
                    Err(e) if e.code() == libc::ESTALE => {}
                    Err(e) => return Err(e),
                }
            }
            match some.last() {
                Some(last) if some.len() == LISTED => from = last.next,
                _ => return Ok(()),
            }
            some.clear();
        }
    }

    fn attr_of_entry(&self, dir: NodeRef, entry: &Listed) -> Answer<FileAttr> {
        let projection = &self.job.projection;
        if !projection.mount(self.mount).is_some_and(Mount::holds_inner) {
            return self.attr(self.node(INodeNo(entry.ino))?);
        }
        // Where mounts lie further in, a number alone doesn't tell what it is of.
        match &*entry.name {
            b"." => self.attr(dir),
            b".." => match self.check(projection.parent(dir))? {
                Above::Node(above) if !projection.is_mount_point(dir) => self.attr(above),
                _ => self.attr(dir),
            },
            name => self.named(dir, name)?.ok_or(Errno::ESTALE),
        }
    }

    /// An extended attribute.
    pub fn attribute(&self, ino: INodeNo, name: &OsStr) -> Answer<Vec<u8>> {
        let node = self.node(ino)?;
        nameable(name.as_bytes())?;
        if let Ok((changes, node)) = self.changing(ino)
            && let Some(value) = changes.attribute(node, name.as_bytes())?
        {
            return Ok(value);
        }
        let value = self.check(self.job.projection.xattr(node, name.as_bytes()))?;
        value.map(<[u8]>::to_vec).ok_or(Errno::ENODATA)
    }

    /// The names of all extended attributes, a NUL after each.
    pub fn attributes(&self, ino: INodeNo) -> Answer<Vec<u8>> {
        if let Ok((changes, node)) = self.changing(ino)
            && let Some(names) = changes.attributes(node)?
        {
            return Ok(names);
        }
        let mut names = Vec::new();
        for (name, _) in self.check(self.job.projection.xattrs(self.node(ino)?))? {
            names.extend_from_slice(name);
            names.push(0);
        }
        Ok(names)
    }
}
