//! The process numbers of another pid namespace.

use crate::sys::process::{number_from, number_in};
use nix::errno::Errno;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsFd;

/// A pid namespace that is not the supervisor's.
pub struct Numbers {
    namespace: File,
    /// The namespace's link in /proc.
    link: OsString,
}

impl Numbers {
    /// Of the namespace that process `pid` is in; None where that is our own.
    ///
    /// # Errors
    /// The process is gone, or may not be looked into.
    pub fn of(pid: i32) -> std::io::Result<Option<Numbers>> {
        let path = format!("/proc/{pid}/ns/pid");
        let link = std::fs::read_link(&path)?.into_os_string();
        if link == std::fs::read_link("/proc/self/ns/pid")?.into_os_string() {
            return Ok(None);
        }
        Ok(Some(Numbers { namespace: File::open(path)?, link }))
    }

    /// What our process or thread `pid` is called in there; None: it isn't in it.
    pub fn inside(&self, pid: i32) -> Option<i32> {
        match number_in(self.namespace.as_fd(), pid) {
            Ok(number) => Some(number).filter(|&number| number > 0),
            // Linux before 6.11.
            Err(Errno::ENOTTY | Errno::EINVAL) => self.read_inside(pid),
            Err(_) => None,
        }
    }

    /// The number that we know process or thread `pid` of the namespace by.
    pub fn here(&self, pid: i32) -> Option<i32> {
        match number_from(self.namespace.as_fd(), pid) {
            Ok(number) => Some(number).filter(|&number| number > 0),
            Err(Errno::ENOTTY | Errno::EINVAL) => self.look_for(pid),
            Err(_) => None,
        }
    }

    /// `NSpid:` has a number for each namespace, the innermost last.
    fn read_inside(&self, pid: i32) -> Option<i32> {
        let link = std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok()?;
        let numbers = crate::status::Status::of(pid)?.numbers("NSpid:");
        let last = i32::try_from(*numbers.last()?).ok()?;
        (*link.as_os_str() == *self.link).then_some(last)
    }

    fn look_for(&self, pid: i32) -> Option<i32> {
        let all = std::fs::read_dir("/proc").ok()?.flatten();
        let numbers = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        numbers.into_iter().find(|&here: &i32| self.read_inside(here) == Some(pid))
    }
}
