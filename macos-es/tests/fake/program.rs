//! A program that calls the system through the shim: what an entry point of the real library does
//! with a verdict, on the small system.

use super::{Fake, Kernel, PRIVATE, STORE, Thing};
use std::cell::RefCell;
use std::rc::Rc;
use vrift_macos_es::shim::{
    Base, Look, PathBuffer, Places, Platform, Request, Shim, Verdict, darwin,
};
use vrift_policy::{Errno, Operation, RenameFlags};
use vrift_projection::Projection;

/// The program.
pub struct Program<'p> {
    pub shim: Box<Shim<'p, Fake>>,
    pub kernel: Rc<RefCell<Kernel>>,
}

const BUSY: fn(Errno) -> bool = |errno| matches!(errno, Errno::ENOENT | Errno::ENOTDIR);

impl<'p> Program<'p> {
    pub fn new(
        projection: &'p Projection,
        kernel: Kernel,
        platform: &'static Platform,
        user: u32,
    ) -> Program<'p> {
        let kernel = Rc::new(RefCell::new(kernel));
        let fake = Fake { kernel: Rc::clone(&kernel), user };
        let places = Places { store: STORE, private: PRIVATE };
        let shim = Shim::new(fake, projection, places, platform).expect("read-only mounts");
        Program { shim: Box::new(shim), kernel }
    }

    /// open with Darwin's flags: the descriptor.
    pub fn open(&self, base: Base, path: &[u8], flags: i32) -> Result<i32, Errno> {
        let request = darwin::request(flags);
        let first = self.open_once(base, path, flags, &request, Look::Quick);
        match first {
            Err((errno, true)) if BUSY(errno) => {
                let again = self.open_once(base, path, flags, &request, Look::Thorough);
                again.map_err(|(errno, _)| errno)
            }
            other => other.map_err(|(errno, _)| errno),
        }
    }

    /// The errno, and whether it was the system's.
    fn open_once(
        &self,
        base: Base,
        path: &[u8],
        flags: i32,
        request: &Request,
        look: Look,
    ) -> Result<i32, (Errno, bool)> {
        let mut out = PathBuffer::new();
        let ours = |errno| (errno, false);
        let theirs = |errno| (errno, true);
        let verdict = self.shim.open((base, path), request, look, &mut out).map_err(ours)?;
        let at = out.bytes().to_vec();
        let (node, fd) = match verdict {
            Verdict::Pass => return self.system_open(base, path, flags).map_err(theirs),
            Verdict::PassAt => {
                return self.system_open(Base::Current, &at, flags).map_err(theirs);
            }
            Verdict::Blob(node) => {
                let fd = self.system_open(Base::Current, &at, request.kept).map_err(theirs)?;
                (node, fd)
            }
            Verdict::Directory(node) => (node, self.made(&at, Thing::Directory)),
            Verdict::Clone(node) => (node, self.made(&at, Thing::File)),
            Verdict::Answer(_) => panic!("an open is not answered from the projection"),
        };
        self.shim.opened(fd, node);
        Ok(fd)
    }

    /// Opens what the library itself makes in the private directory.
    fn made(&self, at: &[u8], thing: Thing) -> i32 {
        assert!(at.starts_with(b"/job/"), "{at:?}");
        let mut kernel = self.kernel.borrow_mut();
        if !kernel.things.contains_key(at) {
            kernel.put(at, thing);
        }
        kernel.descriptor(at.to_vec())
    }

    fn system_open(&self, base: Base, path: &[u8], flags: i32) -> Result<i32, Errno> {
        let request = darwin::request(flags);
        let mut kernel = self.kernel.borrow_mut();
        let opening = request.opening;
        let exclusive = opening.create && opening.exclusive;
        let follow = !request.no_follow && !request.link_itself && !exclusive;
        let at = kernel.resolve(base, path, follow)?;
        match kernel.things.get(&at) {
            None if !opening.create => return Err(Errno::ENOENT),
            None => {
                let dir = at[..at.iter().rposition(|b| *b == b'/').unwrap_or(0)].to_vec();
                let dir = if dir.is_empty() { b"/".to_vec() } else { dir };
                if !kernel.things.contains_key(&dir) {
                    return Err(Errno::ENOENT);
                }
                kernel.changes("create", &at);
                kernel.put(&at, Thing::File);
            }
            Some((Thing::Directory, _)) if opening.write => return Err(Errno::EISDIR),
            Some(_) if opening.create && opening.exclusive => return Err(Errno::EEXIST),
            Some(_) => {
                if opening.write || opening.truncate {
                    kernel.changes("write", &at);
                }
            }
        }
        Ok(kernel.descriptor(at))
    }

    /// Any other call with one path: Ok if it was answered or went on.
    pub fn call(
        &self,
        operation: Operation,
        base: Base,
        path: &[u8],
        follow: bool,
    ) -> Result<Verdict, Errno> {
        let mut out = PathBuffer::new();
        let verdict = self.shim.by_path(operation, (base, path), follow, Look::Quick, &mut out)?;
        let mut at = out.bytes().to_vec();
        let mut verdict = verdict;
        if verdict == Verdict::Pass {
            match self.system_call(operation, base, path, follow) {
                Err(errno) if BUSY(errno) => {
                    let again = self.shim.by_path(
                        operation,
                        (base, path),
                        follow,
                        Look::Thorough,
                        &mut out,
                    )?;
                    if again == Verdict::Pass {
                        return Err(errno);
                    }
                    at = out.bytes().to_vec();
                    verdict = again;
                }
                other => return other.map(|()| Verdict::Pass),
            }
        }
        match verdict {
            Verdict::PassAt => self.system_call(operation, Base::Current, &at, follow)?,
            Verdict::Directory(node) if operation == Operation::EnterDirectory => {
                let fd = self.made(&at, Thing::Directory);
                let mut kernel = self.kernel.borrow_mut();
                kernel.descriptors.remove(&fd);
                kernel.current = at;
                self.shim.entered(Some(node));
            }
            _ => {}
        }
        Ok(verdict)
    }

    fn system_call(
        &self,
        operation: Operation,
        base: Base,
        path: &[u8],
        follow: bool,
    ) -> Result<(), Errno> {
        let mut kernel = self.kernel.borrow_mut();
        let at = kernel.resolve(base, path, follow)?;
        let there = kernel.things.get(&at).map(|(thing, _)| thing.clone());
        let makes = matches!(
            operation,
            Operation::MakeDirectory
                | Operation::MakeNode
                | Operation::MakeSymlink
                | Operation::BindSocket
        );
        match there {
            None if !makes => return Err(Errno::ENOENT),
            Some(_) if makes => return Err(Errno::EEXIST),
            Some(thing) if operation == Operation::EnterDirectory => {
                if thing != Thing::Directory {
                    return Err(Errno::ENOTDIR);
                }
                kernel.current = at;
                self.shim.entered(None);
            }
            Some(_) if looks(operation) => {}
            _ => kernel.changes("change", &at),
        }
        Ok(())
    }

    /// A call with a descriptor.
    pub fn by_descriptor(&self, operation: Operation, fd: i32) -> Result<Verdict, Errno> {
        let mut out = PathBuffer::new();
        let verdict = self.shim.by_descriptor(operation, fd, &mut out)?;
        let mut kernel = self.kernel.borrow_mut();
        if verdict == Verdict::Pass {
            let path = kernel.descriptors.get(&fd).cloned().ok_or(Errno::EBADF)?;
            if !looks(operation) {
                kernel.changes("change by descriptor", &path);
            }
        }
        Ok(verdict)
    }

    /// rename, or link if `flags` is None.
    pub fn transfer(
        &self,
        from: (Base, &[u8]),
        to: (Base, &[u8]),
        flags: Option<RenameFlags>,
    ) -> Result<(), Errno> {
        let (mut a, mut b) = (PathBuffer::new(), PathBuffer::new());
        let follow = flags.is_none();
        let moved = match flags {
            Some(flags) => self.shim.rename(from, to, flags, &mut a, &mut b)?,
            None => self.shim.link(from, to, true, &mut a, &mut b)?,
        };
        let from = if moved.from { (Base::Current, a.bytes()) } else { from };
        let to = if moved.to { (Base::Current, b.bytes()) } else { to };
        let mut kernel = self.kernel.borrow_mut();
        let old = kernel.resolve(from.0, from.1, follow)?;
        let new = kernel.resolve(to.0, to.1, false)?;
        if !kernel.things.contains_key(&old) {
            return Err(Errno::ENOENT);
        }
        // A second name of a blob is harm, too: it could be written to by it.
        kernel.changes("old name", &old);
        kernel.changes("new name", &new);
        Ok(())
    }

    /// dup.
    pub fn duplicate(&self, fd: i32) -> Result<i32, Errno> {
        let mut kernel = self.kernel.borrow_mut();
        let path = kernel.descriptors.get(&fd).cloned().ok_or(Errno::EBADF)?;
        let new = kernel.descriptor(path);
        drop(kernel);
        self.shim.duplicated(fd, new);
        Ok(new)
    }

    /// close; `seen` false: in a way that the shim is not told of.
    pub fn close(&self, fd: i32, seen: bool) {
        if seen {
            self.shim.closed(fd);
        }
        self.kernel.borrow_mut().descriptors.remove(&fd);
    }
}

/// Whether an operation can't change anything.
pub fn looks(operation: Operation) -> bool {
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
            | O::ConnectSocket
    )
}
