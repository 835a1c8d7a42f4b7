//! The daemon's own side of its directory in the store: `lock`, which is locked (flock(2)) as long as a
//! daemon lives and which only its user can open, the socket, the log and the configuration.
//!
//! What must never happen here: a socket is replaced that belongs to a living daemon.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::geteuid;
use vrift_client::DaemonError;
use vrift_client::place::{DIRECTORY, Place, SOCKET};
use vrift_store::{Store, StoreError};

const LOCK: &str = "lock";
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

/// The daemon's directory, which is its user's.
pub struct Home(Place);

/// Being the only daemon of a store, until it is dropped.
pub struct Lock {
    _file: OwnedFd,
}

impl Home {
    /// Made if need be, and nobody else's.
    pub fn make(store: &Store) -> Result<Home, DaemonError> {
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
        let home = Home(Place::of(store)?.ok_or_else(missing)?);
        home.must_be_ours(home.0.path(), fs::fstat(home.0.dir()))?;
        Ok(home)
    }

    fn must_be_ours(
        &self,
        path: &Path,
        stat: rustix::io::Result<fs::Stat>,
    ) -> Result<(), DaemonError> {
        let stat = stat.map_err(StoreError::io("look at", path))?;
        if (stat.st_uid == self.0.owner() || stat.st_uid == 0) && stat.st_mode & OTHERS_WRITE == 0 {
            return Ok(());
        }
        Err(DaemonError::Open { path: path.to_owned(), owner: self.0.owner() })
    }

    /// Becomes the only daemon, if there is none.
    pub fn lock(&self) -> Result<Lock, DaemonError> {
        let path = self.0.path().join(LOCK);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Not for others to open: who can, can lock it.
        let file = fs::openat(self.0.dir(), LOCK, flags, Mode::from_raw_mode(0o600))
            .map_err(StoreError::io("open", &path))?;
        match fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Lock { _file: file }),
            Err(Errno::WOULDBLOCK) => Err(DaemonError::Taken { root: self.0.root().to_owned() }),
            Err(errno) => Err(StoreError::io("lock", path)(errno).into()),
        }
    }

    /// Listens, in the place of whatever socket a killed daemon left. Every user may connect: who may
    /// what is told by their credentials.
    pub fn listen(&self, _only: &Lock) -> Result<UnixListener, DaemonError> {
        let failed = |what| DaemonError::io::<io::Error>(what, self.0.root());
        self.remove(UNREADY)?;
        let listener =
            UnixListener::bind(self.0.named(UNREADY)).map_err(failed("make the socket of"))?;
        let (dir, all) = (self.0.dir(), Mode::from_raw_mode(0o666));
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
        match fs::unlinkat(self.0.dir(), name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(StoreError::io("remove", self.0.path().join(name))(errno).into()),
        }
    }

    /// What is written to be read later, by the store's owner alone.
    ///
    /// # Errors
    /// It can't be opened.
    pub fn log(&self) -> Result<File, DaemonError> {
        let path = self.0.path().join(LOG);
        let flags = OFlags::WRONLY
            | OFlags::CREATE
            | OFlags::APPEND
            | OFlags::NOFOLLOW
            | OFlags::CLOEXEC
            | OFlags::NONBLOCK;
        let file = fs::openat(self.0.dir(), LOG, flags, Mode::from_raw_mode(0o600))
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
        let path = self.0.path().join(CONFIG);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = match fs::openat(self.0.dir(), CONFIG, flags, Mode::empty()) {
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
