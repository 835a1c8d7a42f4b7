//! The walk along a path, as the kernel does it: component by component, links followed, `..` after
//! a link physical. It crosses into a mount where a mount point hangs in a real directory and leaves
//! it by `..` or a link. The Linux supervisor's walk (`supervisor/src/resolve`) in buffers of a
//! fixed size.

use super::answer::Shim;
use super::buffer::PathBuffer;
use super::real::Sys;
use vrift_policy::{Errno, Target};
use vrift_projection::walk::{Component, Step, components};
use vrift_projection::{Holder, Kind, NodeRef};

/// How a path is walked.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Way {
    /// A link that the path ends in is followed.
    pub follow: bool,
    /// The last component may be made by an open: no slash may come after it.
    pub creates: bool,
    /// No link may be on the way: ELOOP.
    pub no_links: bool,
}

/// What a path names.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A real file, or none, that the system finds by itself. With the physical path in `out`, if
    /// every component was looked at.
    Real,
    /// A real file, or none, that the system would not find from the caller's string: in `out`.
    At,
    /// Something projected.
    Node(NodeRef),
    /// Nothing, in this projected directory.
    Missing(NodeRef),
}

enum Place {
    /// The directory in `here`, without its trailing slash; empty is the root.
    Real,
    Node(NodeRef),
}

enum Next {
    Went,
    /// The link's target is in `target`.
    Link,
    Done(Found),
}

/// A walk on its way.
pub(super) struct Walk<'a, 'p, S> {
    shim: &'a Shim<'p, S>,
    place: Place,
    /// The real directory, where the place is one.
    here: &'a mut PathBuffer,
    /// What is still to be walked.
    rest: PathBuffer,
    target: PathBuffer,
    /// The walk was in a mount: the system, starting from the caller's string, is not here.
    left: bool,
    links: u32,
    way: Way,
}

impl<'a, 'p, S: Sys> Walk<'a, 'p, S> {
    /// A walk from the real directory in `here`.
    pub(super) fn from_real(shim: &'a Shim<'p, S>, here: &'a mut PathBuffer, way: Way) -> Self {
        if here.bytes() == b"/" {
            here.clear();
        }
        let (rest, target) = (PathBuffer::new(), PathBuffer::new());
        Walk { shim, place: Place::Real, here, rest, target, left: false, links: 0, way }
    }

    /// A walk from a projected directory.
    pub(super) fn from_node(
        shim: &'a Shim<'p, S>,
        node: NodeRef,
        here: &'a mut PathBuffer,
        way: Way,
    ) -> Self {
        Walk { place: Place::Node(node), left: true, ..Walk::from_real(shim, here, way) }
    }

    pub(super) fn run(mut self, path: &[u8]) -> Result<Found, Errno> {
        self.rest.clear_for_front();
        self.rest.push_front(path)?;
        let (mut dots, mut slash) = (false, path.ends_with(b"/"));
        loop {
            let mut name = [0u8; vrift_projection::walk::NAME_MAX];
            let Some(step) = self.step(&mut name)? else { break };
            (dots, slash) = (step.dots, step.slash);
            let next = match self.place {
                Place::Real => self.in_real(&step)?,
                Place::Node(node) => self.in_node(node, &step)?,
            };
            match next {
                Next::Went => {}
                Next::Done(found) => return Ok(found),
                Next::Link => self.follow(step.slash)?,
            }
        }
        match self.place {
            Place::Node(node) if slash && self.shim.attr(node)?.kind != Kind::Directory => {
                Err(Errno::ENOTDIR)
            }
            Place::Node(node) => Ok(Found::Node(node)),
            Place::Real => self.end_real(dots, slash),
        }
    }

    /// Takes the next component off the rest; its name is put into `room`.
    fn step<'n>(&mut self, room: &'n mut [u8; 255]) -> Result<Option<Taken<'n>>, Errno> {
        let rest = self.rest.bytes();
        let Some(Component { step, last, slash, rest: after }) = components(rest).next() else {
            return Ok(None);
        };
        let name: &[u8] = match step {
            Step::Current => b".",
            Step::Parent => b"..",
            Step::Name(name) | Step::TooLong(name) => name,
        };
        // A longer one is ENAMETOOLONG, if the walk gets here at all.
        let length = name.len().min(room.len());
        room[..length].copy_from_slice(&name[..length]);
        let taken = Taken {
            name: &room[..length],
            too_long: matches!(step, Step::TooLong(_)),
            dots: matches!(step, Step::Current | Step::Parent),
            last,
            slash,
            follow: self.way.follow || !last || slash,
        };
        let (length, left) = (rest.len(), after.len());
        self.rest.drop_front(length - left);
        Ok(Some(taken))
    }

    /// Goes on with a link's target, and what followed the link.
    fn follow(&mut self, slash: bool) -> Result<(), Errno> {
        if self.way.no_links {
            return Err(Errno::ELOOP);
        }
        self.links += 1;
        if self.links > self.shim.platform().max_links {
            return Err(Errno::ELOOP);
        }
        if self.target.is_empty() {
            return Err(Errno::ENOENT);
        }
        if self.target.bytes().first() == Some(&b'/') {
            self.place = Place::Real;
            self.here.clear();
        }
        if slash {
            self.rest.push_front(b"/")?;
        }
        self.rest.push_front(self.target.bytes())
    }

    /// One step in a real directory.
    fn in_real(&mut self, step: &Taken<'_>) -> Result<Next, Errno> {
        let dir = if self.here.is_empty() { b"/" } else { self.here.bytes() };
        let projection = self.shim.projection();
        if let Some(node) = projection.covered(dir, step.name) {
            if self.way.creates && step.last && step.slash {
                return Err(Errno::EISDIR);
            }
            self.place = Place::Node(node);
            self.left = true;
            return Ok(Next::Went);
        }
        match step.name {
            b"." => return Ok(Next::Went),
            b".." => {
                let up = self.here.bytes().iter().rposition(|&byte| byte == b'/').unwrap_or(0);
                self.here.truncate(up);
                return Ok(Next::Went);
            }
            _ if step.too_long => return Err(Errno::ENAMETOOLONG),
            _ => {}
        }
        let parent = self.here.bytes().len();
        self.here.push(b"/")?;
        self.here.push(step.name)?;
        if self.shim.places().hold(self.here.bytes()) {
            return Err(Errno::ENOENT);
        }
        // A directory above a mount point is no link: the projection takes none.
        if !step.follow || projection.real_holds_mount_point(self.here.bytes()) {
            return Ok(Next::Went);
        }
        let (shim, here) = (self.shim, &mut *self.here);
        let path = here.c_str()?;
        match self.target.fill(|room| shim.sys().read_link(path, room)) {
            Ok(()) => {
                self.here.truncate(parent);
                Ok(Next::Link)
            }
            Err(Errno::EINVAL) => Ok(Next::Went),
            // Nothing is below, or nothing that may be seen: the system finds that out too.
            Err(_) if !step.last => {
                self.here.push(b"/")?;
                self.here.push(self.rest.bytes())?;
                Ok(Next::Done(if self.left { Found::At } else { Found::Real }))
            }
            Err(_) => Ok(Next::Went),
        }
    }

    /// One step in a projected directory.
    fn in_node(&mut self, node: NodeRef, step: &Taken<'_>) -> Result<Next, Errno> {
        let shim = self.shim;
        let attr = shim.attr(node)?;
        if attr.kind != Kind::Directory {
            return Err(Errno::ENOTDIR);
        }
        if !shim.may(&attr, 1) {
            return Err(Errno::EACCES);
        }
        match step.name {
            b"." => return Ok(Next::Went),
            b".." => {
                match shim.check(shim.projection().holder(node))? {
                    Holder::Node(parent) => self.place = Place::Node(parent),
                    Holder::Real(path) => {
                        self.place = Place::Real;
                        self.here.clear();
                        self.here.push(
                            path.strip_prefix(b"/")
                                .map_or(path, |rest| if rest.is_empty() { rest } else { path }),
                        )?;
                    }
                }
                return Ok(Next::Went);
            }
            _ if self.way.creates && step.last && step.slash => return Err(Errno::EISDIR),
            _ if step.too_long => return Err(Errno::ENAMETOOLONG),
            _ => {}
        }
        let Some(child) = shim.check(shim.projection().lookup(node, step.name))? else {
            return if step.last {
                Ok(Next::Done(Found::Missing(node)))
            } else {
                Err(Errno::ENOENT)
            };
        };
        let kind = shim.attr(child)?.kind;
        if kind == Kind::Symlink && step.follow {
            let target = shim.check(shim.projection().link_target(child))?;
            self.target.clear();
            self.target.push(&target)?;
            return Ok(Next::Link);
        }
        if step.slash && kind != Kind::Directory {
            return Err(Errno::ENOTDIR);
        }
        self.place = Place::Node(child);
        Ok(Next::Went)
    }

    /// The walk ends at a real path.
    fn end_real(self, dots: bool, slash: bool) -> Result<Found, Errno> {
        if self.here.is_empty() {
            self.here.push(b"/")?;
        } else if self.left && dots {
            // Still no name that could be made, removed or be a file's.
            self.here.push(b"/.")?;
        } else if self.left && slash {
            self.here.push(b"/")?;
        }
        Ok(if self.left { Found::At } else { Found::Real })
    }
}

/// What is projected at a place, in the decision table's words.
impl<S: Sys> Shim<'_, S> {
    pub(super) fn target(&self, node: NodeRef) -> Result<Target, Errno> {
        if self.check(self.projection().held_by_real(node))? {
            return Ok(Target::MountPoint);
        }
        Ok(match self.check(self.projection().kind(node))? {
            Kind::Directory => Target::Directory,
            Kind::Symlink => Target::Symlink,
            _ => Target::File,
        })
    }
}

/// A component that was taken off the rest.
struct Taken<'n> {
    name: &'n [u8],
    too_long: bool,
    dots: bool,
    last: bool,
    /// A slash follows.
    slash: bool,
    follow: bool,
}
