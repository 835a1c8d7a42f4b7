//! The core itself: what each family of calls is answered.

use super::buffer::PathBuffer;
use super::descriptors::{Current, Descriptors, Known};
use super::open_flags::Request;
use super::places::{Places, path_of};
use super::platform::Platform;
use super::real::{Base, Sys};
use super::verdict::{Look, Verdict};
use super::walk::{Found, Way};
use vrift_policy::{Errno, Mode, Operation, Outcome, Permission, Target};
use vrift_projection::{Attr, Content, Kind, NodeRef, Projection, ProjectionError};

/// The core, for one process.
pub struct Shim<'p, S> {
    sys: S,
    projection: &'p Projection,
    places: Places<'p>,
    platform: &'static Platform,
    /// Some mount point has a real directory under it: a link there does not dangle, so a path is
    /// never taken at its word.
    covers_real: bool,
    pub(super) descriptors: Descriptors,
    pub(super) current: Current,
}

/// What a listing has to show.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Listing {
    /// What the system says.
    Real,
    /// What the system says and the mount points that hang there: `Projection::edge` of the path in
    /// the buffer.
    Edge,
    /// The projected directory alone.
    Node(NodeRef),
}

impl<'p, S: Sys> Shim<'p, S> {
    /// `None` if a mount is writable: the shim serves `read-only` alone, and what a job changes has
    /// to be seen by all its processes.
    pub fn new(
        sys: S,
        projection: &'p Projection,
        places: Places<'p>,
        platform: &'static Platform,
    ) -> Option<Shim<'p, S>> {
        let writable = |mode: Mode| mode != Mode::ReadOnly;
        if projection.mounts().iter().any(|mount| writable(mount.mode())) {
            return None;
        }
        let covers_real = projection.covers_real();
        let (descriptors, current) = (Descriptors::new(), Current::new());
        Some(Shim { sys, projection, places, platform, covers_real, descriptors, current })
    }

    pub(super) fn covers_real(&self) -> bool {
        self.covers_real
    }

    pub(super) fn sys(&self) -> &S {
        &self.sys
    }

    pub(super) fn platform(&self) -> &'static Platform {
        self.platform
    }

    pub(super) fn places(&self) -> &Places<'p> {
        &self.places
    }

    /// What is mounted.
    pub fn projection(&self) -> &'p Projection {
        self.projection
    }

    /// A damaged manifest is EIO, never the real file of that name.
    pub(super) fn check<T>(&self, result: Result<T, ProjectionError>) -> Result<T, Errno> {
        result.map_err(|_| Errno::EIO)
    }

    /// What stat says of a node; its owner is the user who started the job.
    ///
    /// # Errors
    /// EIO: the manifest is damaged.
    pub fn attr(&self, node: NodeRef) -> Result<Attr, Errno> {
        self.check(self.projection.attr(node))
    }

    /// May this process do all of `want` (4 read, 2 write, 1 run or search)? The tree belongs to the
    /// user who runs it.
    pub(super) fn may(&self, attr: &Attr, want: u32) -> bool {
        if want & !(attr.mode >> 6) & 7 == 0 {
            return true;
        }
        let nobody_runs = attr.kind != Kind::Directory && attr.mode & 0o111 == 0;
        self.sys.user() == 0 && !(want & 1 != 0 && nobody_runs)
    }

    /// open and its like.
    ///
    /// # Errors
    /// What the process is told.
    pub fn open(
        &self,
        (base, path): (Base, &[u8]),
        request: &Request,
        look: Look,
        out: &mut PathBuffer,
    ) -> Result<Verdict, Errno> {
        let opening = request.opening;
        let exclusive = opening.create && opening.exclusive;
        let way = Way {
            follow: !request.no_follow && !request.link_itself && !exclusive,
            creates: opening.create,
            no_links: request.no_links,
        };
        // What may change something is never taken at its word: a link may lead into the store.
        let look = if opening.changes() || request.invalid { Look::Thorough } else { look };
        let node = match self.resolve((base, path), way, look, out)? {
            Found::Real => return Ok(Verdict::Pass),
            Found::At => return Ok(Verdict::PassAt),
            // Of a real path the system says so. Not every release does: an older one makes a file.
            _ if request.invalid => return Err(Errno::EINVAL),
            Found::Missing(_) => {
                return Err(self.refusal(opening.operation(Target::Missing), Target::Missing));
            }
            Found::Node(node) => node,
        };
        let (attr, target) = (self.attr(node)?, self.target(node)?);
        let mut operation = opening.operation(target);
        if request.link_itself && target == Target::Symlink && operation == Operation::Read {
            operation = Operation::OpenPath;
        }
        let rights = request.rights();
        if operation.permission_first(target).is_some() && !self.may(&attr, rights) {
            return Err(Errno::EACCES);
        }
        if let Outcome::Refuse(errno) = self.platform.decide(operation, target) {
            return Err(errno);
        }
        if !self.may(&attr, rights) {
            return Err(Errno::EACCES);
        }
        self.opens(node, attr.kind, request.execute, out)
    }

    fn opens(
        &self,
        node: NodeRef,
        kind: Kind,
        execute: bool,
        out: &mut PathBuffer,
    ) -> Result<Verdict, Errno> {
        match kind {
            Kind::Directory => self.places.stand_in(node, out).map(|()| Verdict::Directory(node)),
            Kind::File if !execute => match self.check(self.projection.content(node))? {
                Some(Content::Blob(hash, _)) => {
                    self.places.blob(&hash, out).map(|()| Verdict::Blob(node))
                }
                _ => Err(Errno::EIO),
            },
            _ => self.clone_of(node, out),
        }
    }

    fn clone_of(&self, node: NodeRef, out: &mut PathBuffer) -> Result<Verdict, Errno> {
        self.clone_path(node, out).map(|()| Verdict::Clone(node))
    }

    /// What is said of something that can't be there or can't be done. The table serves nothing
    /// that is missing, so the other case is a fault of ours.
    fn refusal(&self, operation: Operation, target: Target) -> Errno {
        match self.platform.decide(operation, target) {
            Outcome::Refuse(errno) => errno,
            Outcome::Serve => Errno::EIO,
        }
    }

    /// Every call that names one place by path and isn't an open: looks (stat, access, readlink,
    /// statfs, getxattr, chdir) and changes (mkdir, unlink, chmod and so on).
    ///
    /// # Errors
    /// What the process is told.
    pub fn by_path(
        &self,
        operation: Operation,
        (base, path): (Base, &[u8]),
        follow: bool,
        look: Look,
        out: &mut PathBuffer,
    ) -> Result<Verdict, Errno> {
        let look = if only_looks(operation) { look } else { Look::Thorough };
        let way = Way { follow, ..Way::default() };
        let node = match self.resolve((base, path), way, look, out)? {
            Found::Missing(_) => return Err(self.refusal(operation, Target::Missing)),
            Found::Node(node) => node,
            found => {
                let held = operation == Operation::RemoveDirectory
                    && self.projection.real_holds_mount_point(out.bytes());
                if held {
                    return Err(self.refusal(operation, Target::MountPoint));
                }
                return Ok(if found == Found::At { Verdict::PassAt } else { Verdict::Pass });
            }
        };
        self.on_node(operation, node, out)
    }

    /// The same by a descriptor: fstat, fchmod, fchdir and so on.
    ///
    /// # Errors
    /// What the process is told.
    pub fn by_descriptor(
        &self,
        operation: Operation,
        fd: i32,
        out: &mut PathBuffer,
    ) -> Result<Verdict, Errno> {
        match self.known(fd, out) {
            Some(Known::Node(node)) => self.on_node(operation, node, out),
            // A descriptor of the store's own files was never handed out.
            None if out_is_ours(self, fd, out) => Err(Errno::EBADF),
            _ => Ok(Verdict::Pass),
        }
    }

    fn on_node(
        &self,
        operation: Operation,
        node: NodeRef,
        out: &mut PathBuffer,
    ) -> Result<Verdict, Errno> {
        let target = self.target(node)?;
        let (first, right) = match operation.permission_first(target) {
            Some(Permission::Write) => (true, 2),
            None => (false, right(operation)),
        };
        let allowed = || -> Result<(), Errno> {
            let may = right == 0 || self.may(&self.attr(node)?, right);
            if may { Ok(()) } else { Err(Errno::EACCES) }
        };
        if first {
            allowed()?;
        }
        if let Outcome::Refuse(errno) = self.platform.decide(operation, target) {
            return Err(errno);
        }
        allowed()?;
        match operation {
            Operation::EnterDirectory => {
                self.places.stand_in(node, out).map(|()| Verdict::Directory(node))
            }
            Operation::Execute => self.clone_of(node, out),
            _ => Ok(Verdict::Answer(node)),
        }
    }

    /// access(2): all of `want` (4 read, 2 write, 1 run), 0 to ask whether it is there.
    ///
    /// # Errors
    /// What the process is told.
    pub fn access(
        &self,
        place: (Base, &[u8]),
        want: u32,
        follow: bool,
        look: Look,
        out: &mut PathBuffer,
    ) -> Result<Verdict, Errno> {
        let operation = match want {
            want if want & 2 != 0 => Operation::TestWrite,
            want if want & 1 != 0 => Operation::TestExecute,
            _ => Operation::Stat,
        };
        let verdict = self.by_path(operation, place, follow, look, out)?;
        if let Verdict::Answer(node) = verdict
            && want != 0
            && !self.may(&self.attr(node)?, want)
        {
            return Err(Errno::EACCES);
        }
        Ok(verdict)
    }

    /// execve, posix_spawn (`Operation::Execute`), dlopen (`Operation::Read`): the system opens the
    /// file by itself, so it has to be a real one.
    ///
    /// # Errors
    /// What the process is told.
    pub fn materialise(
        &self,
        operation: Operation,
        place: (Base, &[u8]),
        look: Look,
        out: &mut PathBuffer,
    ) -> Result<Verdict, Errno> {
        match self.by_path(operation, place, true, look, out)? {
            Verdict::Answer(node) => self.clone_of(node, out),
            other => Ok(other),
        }
    }

    /// What a reading of the directory `fd` has to show.
    ///
    /// # Errors
    /// What the process is told.
    pub fn listing(&self, fd: i32, out: &mut PathBuffer) -> Result<Listing, Errno> {
        match self.known(fd, out) {
            Some(Known::Node(node)) if self.attr(node)?.kind == Kind::Directory => {
                Ok(Listing::Node(node))
            }
            Some(Known::Node(_)) => Err(Errno::ENOTDIR),
            _ => {
                let path = out.fill(|room| self.sys.descriptor_path(fd, room));
                let edge = path.is_ok() && !self.projection.edge(out.bytes()).is_empty();
                Ok(if edge { Listing::Edge } else { Listing::Real })
            }
        }
    }

    /// The path that the process knows an open file by: `F_GETPATH`. `false`: the system's answer.
    ///
    /// # Errors
    /// What the process is told.
    pub fn path_of_descriptor(&self, fd: i32, out: &mut PathBuffer) -> Result<bool, Errno> {
        match self.known(fd, out) {
            Some(Known::Node(node)) => path_of(self.projection, node, out).map(|()| true),
            _ => Ok(false),
        }
    }

    /// The path of the current directory. `false`: the system's answer.
    ///
    /// # Errors
    /// What the process is told.
    pub fn path_of_current(&self, out: &mut PathBuffer) -> Result<bool, Errno> {
        match self.resolve((Base::Current, b"."), Way::default(), Look::Thorough, out)? {
            Found::Node(node) => path_of(self.projection, node, out).map(|()| true),
            _ => Ok(false),
        }
    }

    /// The path of a node, as the process knows it.
    ///
    /// # Errors
    /// ENAMETOOLONG, EIO.
    pub fn path(&self, node: NodeRef, out: &mut PathBuffer) -> Result<(), Errno> {
        path_of(self.projection, node, out)
    }

    /// Where the clone of a node is, or will be.
    ///
    /// # Errors
    /// ENAMETOOLONG; EACCES of a directory that is in no mount; EIO.
    pub fn clone_path(&self, node: NodeRef, out: &mut PathBuffer) -> Result<(), Errno> {
        self.places.clone(self.projection, node, out)
    }

    /// A verdict of [`Verdict::Blob`], `Directory` or `Clone` was carried out: `fd` is the node's.
    pub fn opened(&self, fd: i32, node: NodeRef) {
        if let Ok(identity) = self.sys.identity(fd) {
            self.descriptors.set(fd, identity, Known::Node(node));
        }
    }

    /// A descriptor is about to be closed, or to become another.
    pub fn closed(&self, fd: i32) {
        self.descriptors.clear(fd);
    }

    /// A descriptor was duplicated.
    pub fn duplicated(&self, from: i32, to: i32) {
        let hint = self.descriptors.has(from).then(|| self.sys.identity(from).ok()).flatten();
        let known =
            hint.and_then(|identity| Some((identity, self.descriptors.get(from, identity)?)));
        match known {
            Some((identity, known)) => self.descriptors.set(to, identity, known),
            None => self.descriptors.clear(to),
        }
    }

    /// The current directory was changed: to a node, or to something real.
    pub fn entered(&self, node: Option<NodeRef>) {
        self.current.set(Some(node.map_or(Known::Real, Known::Node)));
    }

    /// What the current directory is has to be asked anew.
    pub fn lost_current(&self) {
        self.current.set(None);
    }

    /// A thread has taken a directory of its own: from now on the system is asked each time.
    pub fn threads_have_their_own(&self) {
        self.current.never();
    }
}

/// Is a descriptor one of a file of ours that is no content?
fn out_is_ours<S: Sys>(shim: &Shim<'_, S>, fd: i32, out: &mut PathBuffer) -> bool {
    out.fill(|room| shim.sys.descriptor_path(fd, room)).is_ok() && shim.places.hold(out.bytes())
}

/// The right that an operation takes on what it names, where it is served.
fn right(operation: Operation) -> u32 {
    match operation {
        Operation::Read | Operation::List | Operation::GetXattr => 4,
        Operation::Execute | Operation::TestExecute | Operation::EnterDirectory => 1,
        _ => 0,
    }
}

/// Whether the operation can't change anything, whatever it finds.
pub(super) fn only_looks(operation: Operation) -> bool {
    use Operation as O;
    matches!(
        operation,
        O::Stat
            | O::TestExecute
            | O::TestWrite
            | O::ReadLink
            | O::OpenPath
            | O::Read
            | O::List
            | O::Execute
            | O::EnterDirectory
            | O::Watch
            | O::StatFs
            | O::GetXattr
            | O::MakeHandle
    )
}
