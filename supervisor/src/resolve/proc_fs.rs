//! The walk below /proc: `self`, `thread-self`, and the magic links of a process.
//!
//! They mean something else to the supervisor than to the caller, and their text names the
//! private tree and the store where the job must see projected paths.

use super::{Found, Outcome, Place, Step, Walk};
use crate::agent::Container;
use crate::job::Spot;
use crate::sys::proc::PathBuffer;
use vrift_policy::Errno;
use vrift_projection::{Kind, NodeRef};

impl Walk<'_> {
    /// One step below /proc.
    pub(super) fn in_proc(&mut self, step: &Step<'_>, after: &[u8]) -> Result<Outcome, Errno> {
        let Place::Real(dir) = &mut self.place else { return Ok(Outcome::Went) };
        match step.name {
            b"." => return Ok(Outcome::Went),
            b".." if *dir == self.root => return Ok(Outcome::Went),
            b".." => {
                let cut = dir.iter().rposition(|&b| b == b'/').unwrap_or(0);
                dir.truncate(cut);
                return Ok(Outcome::Went);
            }
            _ => {}
        }
        let here = match &self.job.container {
            Some(container) if dir == b"/proc" || dir.ends_with(b"/task") => {
                number_here(container, step.name)?
            }
            _ => None,
        };
        let name = here.as_deref().unwrap_or(step.name);
        if dir == b"/proc" {
            match name {
                b"self" if step.follow => {
                    dir.extend_from_slice(format!("/{}", self.caller.tgid()?).as_bytes());
                    return Ok(Outcome::Went);
                }
                b"thread-self" if step.follow => {
                    let (tgid, tid) = (self.caller.tgid()?, self.caller.tid);
                    dir.extend_from_slice(format!("/{tgid}/task/{tid}").as_bytes());
                    return Ok(Outcome::Went);
                }
                name if self.job.is_own_pid(name) => return Err(Errno::ENOENT),
                _ => {}
            }
        }
        let magic = is_magic(dir, name);
        dir.push(b'/');
        dir.extend_from_slice(name);
        if !magic {
            return Ok(Outcome::Went);
        }
        let path = dir.clone();
        if !step.follow {
            return Ok(Outcome::Done(if self.kernel {
                Found::Magic(path)
            } else {
                Found::Foreign(path)
            }));
        }
        let whole = [path.as_slice(), after].concat();
        let mut buf: PathBuffer = [0; 4096];
        let text = match crate::private::read_link_path(&path, &mut buf) {
            Ok(text) => text,
            Err(_) => return Ok(Outcome::Done(self.left_to_the_kernel(whole))),
        };
        let origin = descriptor_of(&path);
        let spot = match origin {
            Some((tid, fd)) => self.job.spot_of_task(tid, text, Some(fd))?,
            None => self.job.spot(self.caller, text, None)?,
        };
        match spot {
            Spot::Node(_) if self.way.creates && step.last && step.slash => Err(Errno::EISDIR),
            // A file without a name is known by its descriptors alone.
            Spot::Node(node) if self.is_nameless_file(node)? => match step.last && !step.slash {
                true => Ok(Outcome::Done(self.left_to_the_kernel(path))),
                false => Err(Errno::ENOTDIR),
            },
            Spot::Node(node) => {
                self.place = Place::Node(node);
                self.kernel = false;
                Ok(Outcome::Went)
            }
            Spot::Hidden => Err(Errno::ENOENT),
            // The kernel follows a magic link to the object itself, whatever its text says.
            _ if step.last && !step.slash => Ok(Outcome::Done(self.left_to_the_kernel(path))),
            Spot::Nowhere => Ok(Outcome::Done(self.left_to_the_kernel(whole))),
            Spot::Real => {
                self.place = Place::Real(if text == b"/" { Vec::new() } else { text.to_vec() });
                Ok(Outcome::Went)
            }
        }
    }
}

impl Walk<'_> {
    /// Has a file of a writable mount lost its last name?
    fn is_nameless_file(&self, node: NodeRef) -> Result<bool, Errno> {
        let projection = &self.job.projection;
        Ok(projection.is_gone(node) && self.job.check(projection.kind(node))? != Kind::Directory)
    }
}

/// The name that a process of a container has in our /proc; None: the name is no number.
fn number_here(container: &Container, name: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
    let number = std::str::from_utf8(name)
        .ok()
        .filter(|name| name.starts_with(|c: char| c.is_ascii_digit()));
    let Some(number) = number.and_then(|number| number.parse().ok()) else { return Ok(None) };
    let here = container.number_here(number).ok_or(Errno::ENOENT)?;
    Ok(Some(here.to_string().into_bytes()))
}

/// Is `name` in the /proc directory `dir` a magic link?
pub fn is_magic(dir: &[u8], name: &[u8]) -> bool {
    let Some(rest) = dir.strip_prefix(b"/proc/") else { return false };
    let mut parts = rest.split(|&b| b == b'/');
    let numeric = |p: Option<&[u8]>| p.is_some_and(|p| p.iter().all(u8::is_ascii_digit));
    if !numeric(parts.next()) {
        return false;
    }
    let mut next = parts.next();
    if next == Some(b"task") {
        if !numeric(parts.next()) {
            return false;
        }
        next = parts.next();
    }
    match next {
        None => matches!(name, b"cwd" | b"root" | b"exe"),
        Some(b"fd" | b"map_files") => parts.next().is_none(),
        Some(_) => false,
    }
}

/// The task and descriptor of a path `/proc/PID[/task/TID]/fd/FD`.
pub fn descriptor_of(path: &[u8]) -> Option<(i32, i32)> {
    let text = std::str::from_utf8(path.strip_prefix(b"/proc/")?).ok()?;
    let parts: Vec<&str> = text.split('/').collect();
    match parts.as_slice() {
        [pid, "fd", fd] | [_, "task", pid, "fd", fd] => Some((pid.parse().ok()?, fd.parse().ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magic_links_are_known() {
        for (dir, name) in [
            ("/proc/1", "exe"),
            ("/proc/1", "cwd"),
            ("/proc/1/task/2", "root"),
            ("/proc/1/fd", "7"),
            ("/proc/1/task/2/fd", "7"),
        ] {
            assert!(is_magic(dir.as_bytes(), name.as_bytes()), "{dir}/{name}");
        }
        for (dir, name) in [
            ("/proc", "exe"),
            ("/proc/1", "fd"),
            ("/proc/sys", "cwd"),
            ("/proc/1/task", "exe"),
            ("/proc/1/net", "cwd"),
        ] {
            assert!(!is_magic(dir.as_bytes(), name.as_bytes()), "{dir}/{name}");
        }
    }

    #[test]
    fn descriptors_are_read_from_paths() {
        assert_eq!(descriptor_of(b"/proc/12/fd/3"), Some((12, 3)));
        assert_eq!(descriptor_of(b"/proc/12/task/13/fd/3"), Some((13, 3)));
        assert_eq!(descriptor_of(b"/proc/12/exe"), None);
    }
}
