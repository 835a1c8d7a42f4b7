//! Opening one file of the user's tree, without following a link and without touching its access
//! time, and reading it again if it changed meanwhile.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;

use super::put::{self, Failed, Stored, Target};
use crate::manifest::LinkKey;
use crate::platform;

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

/// What became of a name.
pub(super) enum Read {
    /// Its file is in the store. `claimed`: others count on it.
    Stored { stored: Stored, claimed: bool },
    /// It is another name of a file that somebody else reads.
    Linked(LinkKey),
}

/// Stores the file `name` of `dir`. One that has several names is read by whom `claim` says it is his.
pub(super) fn store(
    to: &Target<'_>,
    dir: &OwnedFd,
    name: &CStr,
    claim: impl Fn(LinkKey) -> bool,
) -> Result<Read, Failed> {
    let mut claimed = None;
    for _ in 0..TRIES {
        let fd = match open_entry(dir, name, OFlags::empty()) {
            Ok(fd) => fd,
            // It became a link or a socket since the directory was read.
            Err(Errno::LOOP | Errno::NXIO) => return Err(Failed::changing()),
            Err(errno) => return Err(Failed::io("open")(errno)),
        };
        let stat = fs::fstat(&fd).map_err(Failed::io("look at"))?;
        if stat.st_nlink > 1 && claimed.is_none() {
            let key = LinkKey::new(platform::device_of(&stat), stat.st_ino);
            if !claim(key) {
                return Ok(Read::Linked(key));
            }
            claimed = Some(key);
        }
        if let Some(stored) = put::try_store(to, &File::from(fd), stat)? {
            return match claimed {
                // The name was given to another file since, and others count on this one.
                Some(key) if stored.id != key => Err(Failed::changing()),
                Some(_) => Ok(Read::Stored { stored, claimed: true }),
                None if stored.nlink == 1 => Ok(Read::Stored { stored, claimed: false }),
                // It got its second name after the look.
                None if claim(stored.id) => Ok(Read::Stored { stored, claimed: true }),
                None => Ok(Read::Linked(stored.id)),
            };
        }
    }
    Err(Failed::changing())
}
