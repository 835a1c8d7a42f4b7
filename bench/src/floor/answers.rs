//! Paths that a floor answers itself, as a projection would: a struct from memory, an errno, a
//! link's target, or a descriptor of the file.
//!
//! An answer is taken from the real path when the floor starts, so that the guest sees what it
//! would see natively. Each open gets a fresh descriptor: one that is shared would share its
//! position too, and no supervisor could hand that out.

use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;

use crate::Failure;
use crate::sys::calls::{self, StatBytes};
use crate::sys::memory;
use crate::sys::seccomp::{Answer, Listener, Notification};

use super::filter::{Kind, Shape};

/// The prepared answers, a handful: they are searched in order.
#[derive(Debug, Default)]
pub struct Answers {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    path: CString,
    answer: Prepared,
}

#[derive(Debug)]
enum Prepared {
    Missing,
    File(Box<StatBytes>),
    Link(Vec<u8>),
}

impl Answers {
    /// Looks at each path as it is now.
    ///
    /// # Errors
    /// A path with a NUL in it, or that can be neither looked at nor be said to be missing; a path
    /// that is neither a file nor a symlink.
    pub fn prepare(paths: Vec<OsString>) -> Result<Self, Failure> {
        let entries = paths.into_iter().map(prepare).collect::<Result<_, _>>()?;
        Ok(Self { entries })
    }

    /// The answer to a call, or `None`: it is the kernel's. A memory error of the caller's is its
    /// errno.
    pub(super) fn answer(
        &self,
        listener: &Listener,
        call: &Notification,
        shape: Shape,
        path: &[u8],
    ) -> io::Result<Option<Answer>> {
        if shape.kind == Kind::Other {
            return Ok(None);
        }
        let Some(entry) = self.entries.iter().find(|entry| entry.path.as_bytes() == path) else {
            return Ok(None);
        };
        match (&entry.answer, shape.kind) {
            (Prepared::Missing, Kind::Open(flags)) if !reads_only(call.data.args[flags]) => {
                Ok(None)
            }
            (Prepared::Missing, _) => Ok(Some(Answer::Errno(libc::ENOENT))),
            (Prepared::File(stat), Kind::Stat(buffer)) => {
                Ok(Some(put(call, call.data.args[buffer], &stat[..], 0)))
            }
            (Prepared::File(_), Kind::Access(mode)) if call.data.args[mode] & 0b11 == 0 => {
                Ok(Some(Answer::Value(0)))
            }
            (Prepared::File(_), Kind::Open(flags)) if reads_only(call.data.args[flags]) => {
                inject(listener, call, &entry.path, call.data.args[flags])
            }
            (Prepared::File(_), Kind::ReadLink(_)) => Ok(Some(Answer::Errno(libc::EINVAL))),
            (Prepared::Link(target), Kind::ReadLink(buffer)) => {
                let room = usize::try_from(call.data.args[buffer + 1]).unwrap_or(usize::MAX);
                let target = &target[..target.len().min(room)];
                let length = i64::try_from(target.len()).unwrap_or(i64::MAX);
                Ok(Some(put(call, call.data.args[buffer], target, length)))
            }
            _ => Ok(None),
        }
    }
}

fn prepare(path: OsString) -> Result<Entry, Failure> {
    let doing = format!("cannot prepare an answer for {}", path.display());
    let path = CString::new(path.into_vec())
        .map_err(|_| Failure::io(doing.as_str())(io::ErrorKind::InvalidInput.into()))?;
    let answer = match calls::stat(&path, libc::AT_SYMLINK_NOFOLLOW) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Prepared::Missing,
        Err(error) => return Err(Failure::io(doing)(error)),
        Ok(stat) => match stat.st_mode & libc::S_IFMT {
            libc::S_IFREG => {
                Prepared::File(Box::new(calls::lstat_bytes(&path).map_err(Failure::io(doing))?))
            }
            libc::S_IFLNK => {
                let mut target = vec![0; 4096];
                let length = calls::readlink(&path, &mut target).map_err(Failure::io(doing))?;
                target.truncate(length);
                Prepared::Link(target)
            }
            _ => {
                let neither = io::Error::other("neither a file nor a symbolic link");
                return Err(Failure::io(doing)(neither));
            }
        },
    };
    Ok(Entry { path, answer })
}

/// Whether open flags ask for reading a file as it is.
fn reads_only(flags: u64) -> bool {
    let other = libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC | libc::O_DIRECTORY | libc::O_PATH;
    flags & u64::from(other.unsigned_abs()) == 0
}

/// Writes `bytes` for the caller; the call then returns `value`.
fn put(call: &Notification, address: u64, bytes: &[u8], value: i64) -> Answer {
    match memory::write(call.pid, address, bytes) {
        Ok(()) => Answer::Value(value),
        Err(_) => Answer::Errno(libc::EFAULT),
    }
}

/// Opens the file and hands the descriptor over.
fn inject(
    listener: &Listener,
    call: &Notification,
    path: &CString,
    flags: u64,
) -> io::Result<Option<Answer>> {
    let close_on_exec = flags & u64::from(libc::O_CLOEXEC.unsigned_abs()) != 0;
    let file = match calls::open(path, libc::O_RDONLY) {
        Ok(file) => file,
        Err(error) => return Ok(Some(Answer::Errno(error.raw_os_error().unwrap_or(libc::EIO)))),
    };
    match listener.add_fd(call.id, file.as_fd(), close_on_exec) {
        Ok(Some(number)) => Ok(Some(Answer::Value(number))),
        // The caller is gone; the answer that follows goes nowhere.
        Ok(None) => Ok(Some(Answer::Errno(libc::EINTR))),
        Err(error) => Ok(Some(Answer::Errno(error.raw_os_error().unwrap_or(libc::EIO)))),
    }
}
