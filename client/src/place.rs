//! Where the daemon is found: `daemon/` in the store, so that whoever knows the store finds it.
//!
//! `socket` in it is where the daemon listens. It is reached through the held directory, for a socket's
//! whole path may have 107 bytes only.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use vrift_store::{Store, StoreError};

use crate::error::DaemonError;

/// The directory in the store.
pub const DIRECTORY: &str = "daemon";
/// The socket in it.
pub const SOCKET: &str = "socket";

/// The daemon's directory in a store, held open.
pub struct Place {
    dir: OwnedFd,
    path: PathBuf,
    root: PathBuf,
    owner: u32,
}

impl Place {
    /// None when no daemon was ever there.
    ///
    /// # Errors
    /// It can't be opened.
    pub fn of(store: &Store) -> Result<Option<Place>, DaemonError> {
        let path = store.root().join(DIRECTORY);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match fs::openat(store.root_fd(), DIRECTORY, flags, Mode::empty()) {
            Ok(dir) => {
                Ok(Some(Place { dir, path, root: store.root().into(), owner: store.owner()? }))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(StoreError::io("open", path)(errno).into()),
        }
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Its path, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The store's.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The store's owner.
    #[must_use]
    pub fn owner(&self) -> u32 {
        self.owner
    }

    /// A name in the directory, as short as a socket's has to be.
    #[must_use]
    pub fn named(&self, name: &str) -> PathBuf {
        format!("/proc/self/fd/{}/{name}", self.dir.as_raw_fd()).into()
    }

    /// A connection; None when nobody listens.
    ///
    /// # Errors
    /// Who listens can't be reached.
    pub fn connect(&self) -> Result<Option<UnixStream>, DaemonError> {
        let failed = |errno: Errno| DaemonError::io("reach", &self.root)(errno);
        let socket = net::socket_with(
            AddressFamily::UNIX,
            SocketType::STREAM,
            // A daemon that was stopped keeps nobody waiting, however many wait for it.
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )
        .map_err(failed)?;
        let address = SocketAddrUnix::new(self.named(SOCKET)).map_err(failed)?;
        match net::connect(&socket, &address) {
            Ok(()) => {}
            Err(Errno::NOENT | Errno::CONNREFUSED) => return Ok(None),
            Err(errno) => return Err(failed(errno)),
        }
        let stream = UnixStream::from(socket);
        stream.set_nonblocking(false).map_err(DaemonError::io("reach", &self.root))?;
        Ok(Some(stream))
    }
}
