//! Opening one file of the user's tree, without following a link and without touching its access
//! time, and reading it again if it changed meanwhile.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;

use super::put::{self, Failed, Stored};
use crate::platform;
use crate::store::Store;

/// How often a changing file is read before it is given up.
const TRIES: u32 = 5;

/// Opens an entry of a directory for reading, never following a link.
pub(super) fn open_entry(dir: impl AsFd, name: &CStr, extra: OFlags) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY
        | OFlags::CLOEXEC
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::NOCTTY
        | extra;
    // Only a file's owner may ask for its access time to stay.
    match fs::openat(&dir, name, flags | platform::KEEP_ACCESS_TIME, Mode::empty()) {
        Err(Errno::PERM) => fs::openat(&dir, name, flags, Mode::empty()),
        result => result,
    }
}

/// Stores the file `name` of `dir`.
pub(super) fn store(store: &Store, dir: &OwnedFd, name: &CStr) -> Result<Stored, Failed> {
    for _ in 0..TRIES {
        let fd = match open_entry(dir, name, OFlags::empty()) {
            Ok(fd) => fd,
            // It became a link or a socket since the directory was read.
            Err(Errno::LOOP | Errno::NXIO) => return Err(Failed::changing()),
            Err(errno) => return Err(Failed::io("open")(errno)),
        };
        if let Some(stored) = put::try_store(store, &File::from(fd))? {
            return Ok(stored);
        }
    }
    Err(Failed::changing())
}
