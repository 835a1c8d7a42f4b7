//! The other side: who asks the daemon for something, and waits with an end.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use rustix::process::{Pid, geteuid};
use vrift_store::Store;

use crate::codec::{self, CodecError};
use crate::error::DaemonError;
use crate::message::{Hello, PROTOCOL, Reply, Request};
use crate::place::Place;

/// The daemon says something at least every second.
const SILENCE: Duration = Duration::from_secs(30);
/// One that is just ending hangs up; another look tells what became of it.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(50);
/// Parts in which a content is sent, in bytes.
const PART: usize = 64 << 10;

/// A daemon that answers, of whatever version.
pub struct Running {
    stream: UnixStream,
    hello: Hello,
    pid: Option<Pid>,
    root: PathBuf,
}

impl Running {
    /// The daemon of a store; None when there is none.
    ///
    /// # Errors
    /// What answers is somebody else, or nothing that is understood.
    pub fn find(store: &Store) -> Result<Option<Running>, DaemonError> {
        let Some(place) = Place::of(store)? else { return Ok(None) };
        for _ in 0..TRIES {
            let Some(stream) = place.connect()? else { return Ok(None) };
            match Self::greet(store, stream) {
                Err(DaemonError::Ended { .. }) => std::thread::sleep(PAUSE),
                running => return running.map(Some),
            }
        }
        Ok(None)
    }

    fn greet(store: &Store, mut stream: UnixStream) -> Result<Running, DaemonError> {
        let root = store.root().to_owned();
        let failed = |what| DaemonError::io::<io::Error>(what, &root);
        let peer = getsockopt(&stream, PeerCredentials)
            .map_err(|errno| failed("ask for")(errno.into()))?;
        let (owner, uid) = (store.owner()?, peer.uid());
        if owner != uid {
            return Err(DaemonError::Stranger { root, owner, uid });
        }
        stream.set_read_timeout(Some(SILENCE)).map_err(failed("wait for"))?;
        stream.set_write_timeout(Some(SILENCE)).map_err(failed("wait for"))?;
        let pid = peer.pid().unsigned_abs();
        let told = |error| told(&root, pid, error);
        let ours = codec::encode(&Hello::ours()).map_err(told)?;
        stream.write_all(&ours).map_err(|error| told(error.into()))?;
        let said = codec::read_frame(&mut stream).map_err(told)?;
        let hello: Hello = codec::decode(&said).map_err(told)?;
        // In another pid namespace it has another number, or none.
        let pid = Pid::from_raw(peer.pid()).filter(|_| hello.pid == pid);
        Ok(Running { stream, hello, pid, root })
    }

    /// Its process, where that has the same number for both sides.
    #[must_use]
    pub fn pid(&self) -> Option<Pid> {
        self.pid
    }

    /// What it said of itself: its program's version.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.hello.version
    }

    /// To be asked for something, if it speaks our protocol.
    ///
    /// # Errors
    /// [`DaemonError::Version`]: it doesn't.
    pub fn client(self) -> Result<Client, DaemonError> {
        if self.hello.vrift != PROTOCOL {
            return Err(DaemonError::Version { root: self.root, hello: self.hello });
        }
        Ok(Client { stream: self.stream, root: self.root, pid: self.hello.pid })
    }
}

/// What went wrong with a connection.
fn told(root: &std::path::Path, pid: u32, source: CodecError) -> DaemonError {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, TimedOut, UnexpectedEof, WouldBlock};
    let root = root.to_owned();
    match source {
        CodecError::Closed => DaemonError::Ended { root },
        CodecError::Io(error) => match error.kind() {
            WouldBlock | TimedOut => DaemonError::Silent { root, pid },
            BrokenPipe | ConnectionReset | UnexpectedEof => DaemonError::Ended { root },
            _ => DaemonError::Speech { root, source: CodecError::Io(error) },
        },
        source => DaemonError::Speech { root, source },
    }
}

/// A connection to a daemon that speaks our protocol.
pub struct Client {
    stream: UnixStream,
    root: PathBuf,
    pid: u32,
}

impl Client {
    /// A connection; None when there is no daemon.
    ///
    /// # Errors
    /// As [`Running::find`] and [`Running::client`].
    pub fn connect(store: &Store) -> Result<Option<Client>, DaemonError> {
        Running::find(store)?.map(Running::client).transpose()
    }

    /// As [`Client::connect`], for what can't be done without the daemon.
    ///
    /// # Errors
    /// Also [`DaemonError::NotRunning`].
    pub fn needed(store: &Store) -> Result<Client, DaemonError> {
        let owner = store.owner()?;
        if owner == geteuid().as_raw() {
            // It isn't another user's: then no daemon of it can, either.
            store.may_write()?;
        }
        let none = || DaemonError::NotRunning { root: store.root().to_owned(), owner };
        Self::connect(store)?.ok_or_else(none)
    }

    /// Asks for something, and gives the last answer. What is said before goes to `see`.
    ///
    /// # Errors
    /// The daemon refuses, fails, or has gone.
    pub fn ask(
        &mut self,
        request: &Request,
        see: &mut dyn FnMut(&Reply),
    ) -> Result<Reply, DaemonError> {
        let frame = codec::encode(request).map_err(|error| self.told(error))?;
        // When it can't be sent, the daemon has hung up, and may have said why.
        let _ = self.stream.write_all(&frame);
        self.reply(see)
    }

    /// Whether this user may store anything here.
    ///
    /// # Errors
    /// No; or as [`Client::ask`].
    pub fn may_ingest(&mut self) -> Result<(), DaemonError> {
        match self.ask(&Request::MayIngest, &mut |_| ())? {
            Reply::Done => Ok(()),
            other => Err(self.odd(&other)),
        }
    }

    /// An answer to another question.
    #[must_use]
    pub fn odd(&self, reply: &Reply) -> DaemonError {
        DaemonError::odd(&self.root, reply)
    }

    fn told(&self, error: CodecError) -> DaemonError {
        told(&self.root, self.pid, error)
    }

    fn reply(&mut self, see: &mut dyn FnMut(&Reply)) -> Result<Reply, DaemonError> {
        loop {
            let frame = codec::read_frame(&mut self.stream).map_err(|error| self.told(error))?;
            match codec::decode(&frame).map_err(|error| self.told(error))? {
                Reply::Refused { why } => {
                    return Err(DaemonError::Refused { root: self.root.clone(), why });
                }
                Reply::Failed { why } => return Err(DaemonError::Failed { why }),
                reply @ (Reply::Waiting { .. }
                | Reply::Working { .. }
                | Reply::Damaged { .. }
                | Reply::Repaired { .. }) => see(&reply),
                reply => return Ok(reply),
            }
        }
    }

    /// Asks for something to be stored, and sends its bytes: `size` of them, or less if it turns out to
    /// have less.
    ///
    /// # Errors
    /// As [`Client::ask`]; or `content` can't be read, which is [`DaemonError::Io`].
    pub fn hand(
        &mut self,
        request: &Request,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<Reply, DaemonError> {
        match self.ask(request, &mut |_| ())? {
            Reply::Go => {}
            other => return Ok(other),
        }
        self.send(size, content)?;
        self.reply(&mut |_| ())
    }

    /// Also ends when the connection does: the reason may wait there.
    fn send(&mut self, size: u64, content: &mut dyn Read) -> Result<(), DaemonError> {
        let mut content = content.take(size);
        let (mut left, mut part) = (size, vec![0; PART]);
        while left > 0 {
            let filled = match content.read(&mut part) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                filled => filled.map_err(DaemonError::io("read what is for", &self.root))?,
            };
            // None is the sign that there is no more.
            match codec::write_frame(&mut self.stream, &part[..filled]) {
                Ok(()) => {}
                Err(CodecError::Io(_)) => break,
                Err(error) => return Err(self.told(error)),
            }
            if filled == 0 {
                break;
            }
            left -= filled as u64;
        }
        Ok(())
    }
}
