//! Where the daemon is found: `daemon/` in the store, so that whoever knows the store finds it.
//!
//! `lock` is locked (flock(2)) as long as a daemon lives; only its user can open it. `socket` is where
//! it listens. Both are reached through the held directory, for a socket's whole path may have 107
//! bytes only. What must never happen here: a socket is replaced that belongs to a living daemon.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::geteuid;
use vrift_store::{Store, StoreError};

use super::error::DaemonError;

/// The directory in the store.
const DIRECTORY: &str = "daemon";
const LOCK: &str = "lock";
const SOCKET: &str = "socket";
/// The socket before it is listened to.
const UNREADY: &str = "socket.new";
const LOG: &str = "log";
/// Who may what.
pub const CONFIG: &str = "config.toml";
/// No configuration is longer, in bytes.
const LONGEST_CONFIG: u64 = 1 << 20;
/// A log that is longer is begun anew, in bytes.
const LONGEST_LOG: u64 = 1 << 20;
/// Rights to write for others than the owner.
const OTHERS_WRITE: u32 = 0o022;

/// The daemon's directory in a store, held open.
pub struct Place {
    dir: OwnedFd,
    path: PathBuf,
    root: PathBuf,
    owner: u32,
}

/// Being the only daemon of a store, until it is dropped.
pub struct Lock {
    _file: OwnedFd,
}

impl Place {
    /// None when no daemon was ever there.
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

    /// For the daemon itself: made if need be, and nobody else's.
    pub fn make(store: &Store) -> Result<Place, DaemonError> {
        let (root, owner, uid) = (store.root().to_owned(), store.owner()?, geteuid().as_raw());
        if owner != uid {
            return Err(DaemonError::NotOwner { root, owner, uid });
        }
        let path = store.root().join(DIRECTORY);
        match fs::mkdirat(store.root_fd(), DIRECTORY, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(StoreError::io("make directory", &path)(errno).into()),
        }
        let missing = || StoreError::io("open", &path)(Errno::NOENT);
        let place = Self::of(store)?.ok_or_else(missing)?;
        place.must_be_ours(&place.path, fs::fstat(&place.dir))?;
        Ok(place)
    }

    fn must_be_ours(
        &self,
        path: &Path,
        stat: rustix::io::Result<fs::Stat>,
    ) -> Result<(), DaemonError> {
        let stat = stat.map_err(StoreError::io("look at", path))?;
        if (stat.st_uid == self.owner || stat.st_uid == 0) && stat.st_mode & OTHERS_WRITE == 0 {
            return Ok(());
        }
        Err(DaemonError::Open { path: path.to_owned(), owner: self.owner })
    }

    /// Becomes the only daemon, if there is none.
    pub fn lock(&self) -> Result<Lock, DaemonError> {
        let path = self.path.join(LOCK);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Not for others to open: who can, can lock it.
        let file = fs::openat(&self.dir, LOCK, flags, Mode::from_raw_mode(0o600))
            .map_err(StoreError::io("open", &path))?;
        match fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Lock { _file: file }),
            Err(Errno::WOULDBLOCK) => Err(DaemonError::Taken { root: self.root.clone() }),
            Err(errno) => Err(StoreError::io("lock", path)(errno).into()),
        }
    }

    fn named(&self, name: &str) -> PathBuf {
        format!("/proc/self/fd/{}/{name}", self.dir.as_raw_fd()).into()
    }

    /// Listens, in the place of whatever socket a killed daemon left. Every user may connect: who may
    /// what is told by their credentials.
    pub fn listen(&self, _only: &Lock) -> Result<UnixListener, DaemonError> {
        let failed = |what| DaemonError::io::<io::Error>(what, &self.root);
        self.remove(UNREADY)?;
        let listener =
            UnixListener::bind(self.named(UNREADY)).map_err(failed("make the socket of"))?;
        let (dir, all) = (&self.dir, Mode::from_raw_mode(0o666));
        fs::chmodat(dir, UNREADY, all, AtFlags::empty())
            .and_then(|()| fs::renameat(dir, UNREADY, dir, SOCKET))
            .map_err(|errno| failed("name the socket of")(errno.into()))?;
        listener.set_nonblocking(true).map_err(failed("listen to"))?;
        Ok(listener)
    }

    /// From now on nobody finds the socket.
    pub fn hide(&self, _only: &Lock) -> Result<(), DaemonError> {
        self.remove(SOCKET)
    }

    fn remove(&self, name: &str) -> Result<(), DaemonError> {
        match fs::unlinkat(&self.dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(StoreError::io("remove", self.path.join(name))(errno).into()),
        }
    }

    /// A connection; None when nobody listens.
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

    /// What is written to be read later, by the store's owner alone.
    ///
    /// # Errors
    /// It can't be opened.
    pub fn log(&self) -> Result<File, DaemonError> {
        let path = self.path.join(LOG);
        let flags = OFlags::WRONLY
            | OFlags::CREATE
            | OFlags::APPEND
            | OFlags::NOFOLLOW
            | OFlags::CLOEXEC
            | OFlags::NONBLOCK;
        let file = fs::openat(&self.dir, LOG, flags, Mode::from_raw_mode(0o600))
            .map(File::from)
            .map_err(StoreError::io("open", &path))?;
        let length = file.metadata().map_or(0, |meta| meta.len());
        if length > LONGEST_LOG {
            file.set_len(0).map_err(StoreError::io("empty", &path))?;
        }
        Ok(file)
    }

    /// The configuration's path and text; None when there is none.
    pub fn config(&self) -> Result<Option<(PathBuf, String)>, DaemonError> {
        let path = self.path.join(CONFIG);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = match fs::openat(&self.dir, CONFIG, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(StoreError::io("open", path)(errno).into()),
        };
        self.must_be_ours(&path, fs::fstat(&file))?;
        let mut text = String::new();
        file.take(LONGEST_CONFIG)
            .read_to_string(&mut text)
            .map_err(StoreError::io("read", &path))?;
        Ok(Some((path, text)))
    }
}
