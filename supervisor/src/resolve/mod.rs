//! From (directory descriptor, path) to the place it names: the kernel's own, or a projected one.
//!
//! The walk is the kernel's (path_resolution(7)): component by component, links followed up to
//! 40, `..` after a link physical. It crosses into a mount where a mount point hangs in a real
//! directory and leaves it by `..` or a link. A path that never met a mount is the kernel's
//! business and goes on there untouched; one that left a mount again names a real file which the
//! kernel, starting from the caller's string, would not find.

pub mod holder;
pub mod proc_fs;
pub mod real_dirs;
mod ruled;

use crate::access;
use crate::caller::{Caller, job_errno};
use crate::job::{Job, Spot};
use crate::sys::proc::PathBuffer;
use crate::trace;
use real_dirs::{Dir, Known};
use std::sync::Arc;
use vrift_policy::Errno;
use vrift_projection::{Above, Kind, NodeRef};

/// `AT_FDCWD`.
pub const AT_FDCWD: i32 = libc::AT_FDCWD;
/// The most links on one path, `MAXSYMLINKS`.
const MAX_LINKS: u32 = 40;
/// `NAME_MAX`.
pub const NAME_MAX: usize = 255;

/// What a path names.
pub enum Found {
    /// A real file, or none, that the kernel finds by itself.
    Kernel(RealPlace),
    /// A real file, or none, that the kernel would not find from the caller's string.
    Foreign(Vec<u8>),
    /// Something projected.
    Node(NodeRef),
    /// Nothing, in a projected directory.
    Missing { parent: NodeRef, name: Vec<u8> },
    /// A magic link of /proc itself, not followed.
    Magic(Vec<u8>),
}

/// What is known of a real place. Both are None when a look was not needed to be sure that no
/// mount is concerned.
#[derive(Default)]
pub struct RealPlace {
    /// The directory that holds it.
    pub dir: Option<Arc<Dir>>,
    /// Its absolute path, free of links but perhaps for the last component.
    pub path: Option<Vec<u8>>,
}

/// How a path is walked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Way {
    /// A link that the path ends in is followed.
    pub follow: bool,
    /// The last component may be made by an open: no slash may come after it.
    pub creates: bool,
    /// The directory that the walk starts from is its root (`RESOLVE_IN_ROOT`).
    pub in_root: bool,
}

/// Resolves `path` from `dirfd` for `caller`. An empty path is ENOENT; `AT_EMPTY_PATH` is the
/// caller's to look at first.
pub fn resolve(
    job: &Job,
    caller: &Caller<'_>,
    dirfd: i32,
    path: &[u8],
    follow: bool,
) -> Result<Found, Errno> {
    resolve_in(job, caller, dirfd, path, Way { follow, ..Way::default() })
}

/// [`resolve`], with all that can be said of the way.
pub fn resolve_in(
    job: &Job,
    caller: &Caller<'_>,
    dirfd: i32,
    path: &[u8],
    way: Way,
) -> Result<Found, Errno> {
    let found = find(job, caller, dirfd, path, way);
    trace::current::found(job, caller, dirfd, path, &found);
    found
}

fn find(job: &Job, caller: &Caller<'_>, dirfd: i32, path: &[u8], way: Way) -> Result<Found, Errno> {
    let Some(&first) = path.first() else { return Err(Errno::ENOENT) };
    if first == b'/' && !way.in_root {
        if is_normal(path) {
            if !job.projection.may_concern(path) {
                if let Some(place) = untouched(job, path) {
                    return Ok(Found::Kernel(place));
                }
            } else if let Some(found) = straight(job, caller, path, way.follow)? {
                return Ok(found);
            }
        }
        return Walk::new(job, caller, Place::Real(Vec::new()), true, way).run(path);
    }
    let mut buf: PathBuffer = [0; 4096];
    let base = if dirfd == AT_FDCWD {
        caller.cwd(&mut buf)?
    } else {
        caller.descriptor(dirfd, &mut buf)?
    };
    match job.spot(caller, base, Some(dirfd))? {
        // What is found there is ENOSYS, as for every RESOLVE_ flag.
        Spot::Node(_) if way.in_root => Err(Errno::ENOSYS),
        // A file without a name has no attributes that could be asked by its number.
        Spot::Node(node)
            if job.projection.is_gone(node)
                && job.check(job.projection.kind(node))? != Kind::Directory =>
        {
            Err(Errno::ENOTDIR)
        }
        Spot::Node(node) => Walk::new(job, caller, Place::Node(node), false, way).run(path),
        Spot::Hidden => Err(Errno::ENOENT),
        // A socket, a pipe: no directory.
        Spot::Nowhere if base.first() != Some(&b'/') => Err(Errno::ENOTDIR),
        // A directory that is gone: the kernel knows what to say. It may still know what was above.
        Spot::Nowhere if !job.rules.is_empty() => {
            let base = base.strip_suffix(b" (deleted)").unwrap_or(base);
            let (start, path) = ruled::above_deleted(base, path);
            Walk::new(job, caller, Place::Real(start.to_vec()), true, way).run(path)
        }
        Spot::Nowhere => Ok(Found::Kernel(RealPlace::default())),
        Spot::Real => {
            let start = if base == b"/" { Vec::new() } else { base.to_vec() };
            if way.in_root {
                let mut walk = Walk::new(job, caller, Place::Real(start.clone()), true, way);
                walk.root = start;
                return walk.run(path);
            }
            if let Some(place) = relative_untouched(job, base, path) {
                return Ok(Found::Kernel(place));
            }
            Walk::new(job, caller, Place::Real(start), true, way).run(path)
        }
    }
}

/// The common projected case: a normalised path whose beginning is a mount point, with no link on
/// its way. None: it has to be walked. Nothing is allocated but for a name that is not there.
///
/// A mount point has no link in it (the projection does not take one), and its real ancestors stay
/// where they are as long as the job runs.
fn straight(
    job: &Job,
    caller: &Caller<'_>,
    path: &[u8],
    follow: bool,
) -> Result<Option<Found>, Errno> {
    let Some((root, rest)) = job.projection.enter(path) else { return Ok(None) };
    let mut node = root;
    let mut names = rest.split(|&b| b == b'/').filter(|name| !name.is_empty()).peekable();
    while let Some(name) = names.next() {
        let attr = job.attr(node)?;
        if attr.kind == Kind::Symlink {
            return Ok(None);
        }
        if attr.kind != Kind::Directory {
            return Err(Errno::ENOTDIR);
        }
        if !access::may_search(job, caller, &attr) {
            return Err(Errno::EACCES);
        }
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let Some(child) = job.check(job.projection.lookup(node, name))? else {
            if names.peek().is_some() {
                return Err(Errno::ENOENT);
            }
            return Ok(Some(Found::Missing { parent: node, name: name.to_vec() }));
        };
        node = child;
    }
    if follow && job.check(job.projection.kind(node))? == Kind::Symlink {
        return Ok(None);
    }
    Ok(Some(Found::Node(node)))
}

/// The common real case: a normalised path in a directory that is known, and plain there.
fn untouched(job: &Job, path: &[u8]) -> Option<RealPlace> {
    let slash = path.iter().rposition(|&b| b == b'/')?;
    let (dir, name) = (&path[..slash.max(1)], &path[slash + 1..]);
    let dir = job.real_dirs.get(dir)?;
    dir.is_plain(name).then(|| RealPlace { dir: Some(dir), path: None })
}

fn relative_untouched(job: &Job, base: &[u8], path: &[u8]) -> Option<RealPlace> {
    // The base is physical, so leading `./` and `../` are lexical there.
    let mut base = base;
    let mut path = path;
    loop {
        if let Some(rest) = path.strip_prefix(b"./") {
            path = rest;
        } else if let Some(rest) = path.strip_prefix(b"../") {
            path = rest;
            base = &base[..base.iter().rposition(|&b| b == b'/')?];
        } else {
            break;
        }
    }
    let mut joined = [0u8; 4096];
    let base = if base == b"/" { b"" } else { base };
    let len = base.len() + 1 + path.len();
    if len > joined.len() || path.is_empty() {
        return None;
    }
    joined[..base.len()].copy_from_slice(base);
    joined[base.len()] = b'/';
    joined[base.len() + 1..len].copy_from_slice(path);
    let joined = &joined[..len];
    if !is_normal(joined) || job.projection.may_concern(joined) {
        return None;
    }
    untouched(job, joined)
}

/// Absolute, without empty, `.` and `..` components, not below /proc, not the root.
fn is_normal(path: &[u8]) -> bool {
    if path.len() < 2 || path.starts_with(b"/proc/") {
        return false;
    }
    let mut previous = 0u8;
    let mut dots = 0u32;
    let mut only_dots = false;
    for &b in path {
        if b == b'/' {
            if previous == b'/' || (only_dots && dots <= 2) {
                return false;
            }
            only_dots = true;
            dots = 0;
        } else if b == b'.' {
            dots += 1;
        } else {
            only_dots = false;
        }
        previous = b;
    }
    previous != b'/' && !(only_dots && dots <= 2)
}

enum Place {
    /// A real directory (or last component), without its trailing slash; empty is the root.
    Real(Vec<u8>),
    Node(NodeRef),
}

/// A path walk on its way.
struct Walk<'a> {
    job: &'a Job,
    caller: &'a Caller<'a>,
    place: Place,
    /// Where absolute links lead to and `..` ends; empty is the caller's root.
    root: Vec<u8>,
    /// The kernel would be at the same place.
    kernel: bool,
    links: u32,
    way: Way,
    /// The component before was `.` or `..`.
    dots: bool,
    /// Some link was followed or `..` taken: the string is not the physical path.
    winding: bool,
}

impl<'a> Walk<'a> {
    fn new(job: &'a Job, caller: &'a Caller<'a>, place: Place, kernel: bool, way: Way) -> Self {
        let root = Vec::new();
        Walk { job, caller, place, root, kernel, links: 0, way, dots: false, winding: false }
    }

    fn run(mut self, path: &[u8]) -> Result<Found, Errno> {
        let mut rest = path.to_vec();
        let mut at = 0;
        loop {
            while rest.get(at) == Some(&b'/') {
                at += 1;
            }
            if at == rest.len() {
                break;
            }
            let end = rest[at..].iter().position(|&b| b == b'/').map_or(rest.len(), |n| at + n);
            let name = rest[at..end].to_vec();
            let last = rest[end..].iter().all(|&b| b == b'/');
            let slash = end < rest.len();
            at = end;
            self.dots = matches!(name.as_slice(), b"." | b"..");
            let step = Step { name: &name, last, slash, follow: self.way.follow || !last || slash };
            let outcome = match &self.place {
                Place::Real(dir) if dir == b"/proc" || dir.starts_with(b"/proc/") => {
                    self.in_proc(&step, &rest[end..])?
                }
                Place::Real(_) => self.in_real(&step, &rest[end..])?,
                Place::Node(node) => self.in_node(*node, &step)?,
            };
            match outcome {
                Outcome::Went => {}
                Outcome::Link(target) => {
                    if let Place::Real(dir) = &self.place {
                        trace::current::through(&[dir, b"/", &name]);
                    }
                    self.links += 1;
                    if self.links > MAX_LINKS {
                        return Err(Errno::ELOOP);
                    }
                    if target.is_empty() {
                        return Err(Errno::ENOENT);
                    }
                    if target.first() == Some(&b'/') {
                        self.place = Place::Real(self.root.clone());
                    }
                    self.winding = true;
                    let mut next = target;
                    next.extend_from_slice(&rest[end..]);
                    rest = next;
                    at = 0;
                }
                Outcome::Done(found) => return Ok(found),
            }
        }
        self.finish(path, rest.ends_with(b"/"))
    }

    /// One step in a real directory outside /proc. `after` is what follows this component.
    fn in_real(&mut self, step: &Step<'_>, after: &[u8]) -> Result<Outcome, Errno> {
        let Place::Real(dir) = &mut self.place else { return Ok(Outcome::Went) };
        let here: &[u8] = if dir.is_empty() { b"/" } else { dir };
        ruled::may_enter(self.job, self.caller, here)?;
        if let Some(node) = self.job.projection.covered(here, step.name) {
            if self.way.creates && step.last && step.slash {
                return Err(Errno::EISDIR);
            }
            self.place = Place::Node(node);
            self.kernel = false;
            return Ok(Outcome::Went);
        }
        // Also before `.` and `..`, which are names in a directory that has to be there.
        let known = self.job.look(here);
        let parent = dir.len();
        dir.push(b'/');
        dir.extend_from_slice(step.name);
        let known = match known {
            Known::Dir(known) => known,
            Known::Hidden => return Err(Errno::ENOENT),
            Known::Missing => {
                // Nothing is below: the kernel finds that out too.
                dir.extend_from_slice(after);
                let path = std::mem::take(dir);
                return Ok(Outcome::Done(self.left_to_the_kernel(path)));
            }
        };
        match step.name {
            b"." => {
                dir.truncate(parent);
                return Ok(Outcome::Went);
            }
            b".." => {
                dir.truncate(parent);
                trace::current::through(&[dir]);
                if *dir != self.root {
                    let cut = dir.iter().rposition(|&b| b == b'/').unwrap_or(0);
                    dir.truncate(cut);
                }
                self.winding = true;
                return Ok(Outcome::Went);
            }
            _ => {}
        }
        if self.job.is_hidden(dir) {
            return Err(Errno::ENOENT);
        }
        ruled::may_see(self.job, self.caller, dir, after, self.way.creates)?;
        if step.follow && known.may_be_link(step.name) {
            match read_link(dir) {
                Ok(target) => {
                    ruled::may_enter(self.job, self.caller, dir)?;
                    dir.truncate(parent);
                    return Ok(Outcome::Link(target));
                }
                Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => {}
                Err(e) if self.kernel => {
                    tracing::trace!("readlink: {e}; left to the kernel");
                    return Ok(Outcome::Done(Found::Kernel(RealPlace::default())));
                }
                Err(e) => return Err(job_errno(e)),
            }
        }
        Ok(Outcome::Went)
    }

    /// One step in a projected directory.
    fn in_node(&mut self, node: NodeRef, step: &Step<'_>) -> Result<Outcome, Errno> {
        let job = self.job;
        let attr = job.attr(node)?;
        if attr.kind != Kind::Directory {
            return Err(Errno::ENOTDIR);
        }
        if !access::may_search(job, self.caller, &attr) {
            return Err(Errno::EACCES);
        }
        match step.name {
            b"." => return Ok(Outcome::Went),
            b".." => {
                self.place = match job.check(job.projection.parent(node))? {
                    Above::Node(parent) => Place::Node(parent),
                    Above::Real(path) => {
                        Place::Real(if &*path == b"/" { Vec::new() } else { path.into_vec() })
                    }
                };
                return Ok(Outcome::Went);
            }
            _ if self.way.creates && step.last && step.slash => return Err(Errno::EISDIR),
            name if name.len() > NAME_MAX => return Err(Errno::ENAMETOOLONG),
            _ => {}
        }
        let Some(child) = job.check(job.projection.lookup(node, step.name))? else {
            if !step.last {
                return Err(Errno::ENOENT);
            }
            return Ok(Outcome::Done(Found::Missing { parent: node, name: step.name.to_vec() }));
        };
        let kind = job.attr(child)?.kind;
        if kind == Kind::Symlink && step.follow {
            let target = job.check(job.projection.link_target(child))?.into_owned();
            return Ok(Outcome::Link(target));
        }
        if step.slash && kind != Kind::Directory {
            return Err(Errno::ENOTDIR);
        }
        self.place = Place::Node(child);
        Ok(Outcome::Went)
    }

    /// A real path that the kernel has the last word on.
    fn left_to_the_kernel(&self, path: Vec<u8>) -> Found {
        if self.kernel {
            Found::Kernel(RealPlace { dir: None, path: Some(path) })
        } else {
            Found::Foreign(path)
        }
    }

    /// The walk is at its end.
    fn finish(mut self, original: &[u8], slash: bool) -> Result<Found, Errno> {
        match std::mem::replace(&mut self.place, Place::Real(Vec::new())) {
            // A magic link of /proc may have led to anything.
            Place::Node(node) if slash && self.job.attr(node)?.kind != Kind::Directory => {
                Err(Errno::ENOTDIR)
            }
            Place::Node(node) => Ok(Found::Node(node)),
            Place::Real(mut path) => {
                if path.is_empty() {
                    path.push(b'/');
                }
                if !self.kernel {
                    if self.dots && path.len() > 1 {
                        // Still no name that could be made, removed or be a file's.
                        path.extend_from_slice(b"/.");
                    } else if slash && path.len() > 1 {
                        path.push(b'/');
                    }
                    return Ok(Found::Foreign(path));
                }
                let cut = path.iter().rposition(|&b| b == b'/').unwrap_or(0);
                let dir = self.job.real_dirs.get(&path[..cut.max(1)]);
                if let Some(dir) = &dir
                    && self.winding
                    && is_normal(original)
                    && let Some(slash) = original.iter().rposition(|&b| b == b'/')
                    && slash > 0
                    && original[slash + 1..] == path[cut + 1..]
                    && self.lexical_dir_is(&original[..slash], dir)
                {
                    self.job.real_dirs.alias(&original[..slash], dir);
                }
                Ok(Found::Kernel(RealPlace { dir, path: Some(path) }))
            }
        }
    }

    /// Is the directory part of the string the directory `dir`? Only then may it be remembered
    /// as another way to write it: the last component may have been a link itself.
    fn lexical_dir_is(&self, lexical: &[u8], dir: &Dir) -> bool {
        use std::os::unix::ffi::OsStrExt;
        std::fs::canonicalize(std::ffi::OsStr::from_bytes(lexical))
            .is_ok_and(|p| p.as_os_str().as_bytes() == &*dir.physical)
    }
}

struct Step<'n> {
    name: &'n [u8],
    last: bool,
    /// A slash follows.
    slash: bool,
    follow: bool,
}

enum Outcome {
    Went,
    Link(Vec<u8>),
    Done(Found),
}

fn read_link(path: &[u8]) -> Result<Vec<u8>, nix::errno::Errno> {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    nix::fcntl::readlink(std::ffi::OsStr::from_bytes(path)).map(OsStringExt::into_vec)
}

#[cfg(test)]
mod tests {
    use super::is_normal;

    #[test]
    fn normal_paths_are_told_from_others() {
        for p in ["/a", "/a/b", "/a/.b", "/a/..b", "/a/...", "/.hidden/x", "/procs/x"] {
            assert!(is_normal(p.as_bytes()), "{p}");
        }
        for p in ["", "/", "/a/", "//a", "/a//b", "/./a", "/a/.", "/a/..", "/a/../b", "/proc/self"]
        {
            assert!(!is_normal(p.as_bytes()), "{p}");
        }
    }
}
