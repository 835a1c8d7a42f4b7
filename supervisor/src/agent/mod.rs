//! The agent: supervises containers that runtimes (runc, crun, podman) start.
//!
//! It listens on the socket that a profile's `listenerPath` names. A runtime brings the listener of
//! the filter that it has loaded ([`handover`]); a process of its own, forked for each container,
//! supervises it ([`supervise`]) from within a copy of its mount namespace ([`enter`]). The agent
//! itself has one thread and waits.
//!
//! Nothing may leave a container half supervised. Without a listener every call that it would be
//! asked about gets ENOSYS and the build goes on regardless; so the agent keeps a duplicate of each
//! listener, and when a supervisor dies, ends the container before it closes that. A supervisor
//! whose agent dies ends its container itself.

mod container;
mod enter;
mod handover;
mod loaded;
mod notify;
mod numbers;
mod pinned;
mod supervise;

pub use container::Container;
pub use notify::profile;
pub use supervise::unsupported;

use crate::cli::Complaint;
use crate::sys::process::{self, Forked};
use crate::sys::{caught, seccomp};
use handover::{Came, Handover, Incoming};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, accept4, getsockopt, recv, socketpair,
};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use pinned::Pinned;
use rustix::fs::{Mode as RawMode, OFlags, RenameFlags, renameat_with};
use std::collections::HashMap;
use std::fmt::Display;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use vrift_policy::{MountSpec, Policy};

/// The most connections that have not brought all yet; others wait in the socket's queue.
const MOST_INCOMING: usize = 32;
/// The longest wait without a look around: signals are noted, and end no wait.
const LOOK: Duration = Duration::from_millis(200);
/// How long supervisors may take to end their containers when the agent ends.
const LAST: Duration = Duration::from_secs(20);

/// The bytes of a path in an address of unix(7).
const LONGEST_SOCKET: usize = 107;

/// What the agent is to do.
pub struct Settings {
    /// Where runtimes connect to.
    pub socket: PathBuf,
    /// The policy of every container.
    pub policy: Policy,
    /// Its mounts.
    pub mounts: Vec<MountSpec>,
    /// The store; None: the policy mounts nothing.
    pub store: Option<PathBuf>,
    /// Where traces go.
    pub traces: Option<PathBuf>,
    /// A container whose filter lets calls pass unseen is ended.
    pub strict: bool,
    /// Containers go on, under their supervisors, when the agent is gone.
    pub outlive: bool,
    /// Only failures are told.
    pub quiet: bool,
}

/// A container under supervision.
struct Ward {
    id: String,
    /// What keeps its calls waiting when its supervisor is gone.
    listener: OwnedFd,
    /// The other end is the supervisor's.
    link: OwnedFd,
    /// Known when the supervisor has told the first process.
    pinned: Option<Pinned>,
}

impl Ward {
    /// Ends the container.
    fn end(&self) {
        match &self.pinned {
            Some(pinned) => pinned.end(),
            None => end_of_listener(&self.listener),
        }
    }
}

/// Listens until a signal says that it is enough.
pub fn run(settings: &Settings) -> Result<u8, Complaint> {
    caught::catch().map_err(|e| format!("sigaction: {e}"))?;
    let socket = bind(&settings.socket)?;
    let identity = fs::metadata(&settings.socket).map(|m| (m.dev(), m.ino())).ok();
    // The containers' users may be ours, and must not look into this process.
    process::prctl(libc::PR_SET_DUMPABLE, 0).map_err(|e| format!("prctl: {e}"))?;
    tell(settings, &settings.socket.display(), "listening");
    let mut agent = Agent {
        settings,
        socket: Some(socket),
        incoming: Vec::new(),
        wards: HashMap::new(),
        used: HashMap::new(),
    };
    let done = agent.listen();
    // Only if it is still this one.
    if identity.is_some()
        && identity == fs::metadata(&settings.socket).map(|m| (m.dev(), m.ino())).ok()
    {
        let _ = fs::remove_file(&settings.socket);
    }
    agent.end();
    done.map(|()| 0)
}

fn tell(settings: &Settings, id: &dyn Display, what: &str) {
    if !settings.quiet {
        eprintln!("vrift-trace agent: {id}: {what}");
    }
}

fn complain(id: &dyn Display, what: &str) {
    eprintln!("vrift-trace agent: {id}: {what}");
}

/// Binds the socket, in the place of one that nobody listens on any more.
fn bind(path: &Path) -> Result<UnixListener, Complaint> {
    let fault = |e: &dyn Display| format!("socket {}: {e}", path.display());
    match fs::symlink_metadata(path) {
        Ok(m) if !m.file_type().is_socket() => {
            return Err(fault(&"something else is there; name another path"));
        }
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => return Err(fault(&"another agent listens there; name another path")),
            Err(e) if e.kind() == ErrorKind::ConnectionRefused => {
                fs::remove_file(path).map_err(|e| fault(&e))?;
            }
            Err(e) => return Err(fault(&e)),
        },
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(fault(&e)),
    }
    let bound = bind_by_another_name(path).map_err(|e| match e.kind() {
        ErrorKind::AlreadyExists => fault(&"another agent listens there; name another path"),
        _ => fault(&e),
    })?;
    bound.set_nonblocking(true).map_err(|e| fault(&e))?;
    Ok(bound)
}

/// The socket gets its name when it is listened to: a runtime that came in between bind(2) and
/// listen(2) would be refused. A socket's whole path may have 107 bytes only, so it is named through
/// its directory.
fn bind_by_another_name(path: &Path) -> std::io::Result<UnixListener> {
    if path.as_os_str().len() > LONGEST_SOCKET {
        // Nobody could connect to it.
        return Err(Errno::ENAMETOOLONG.into());
    }
    let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
    let parent = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(parent.unwrap_or(Path::new(".")), flags, RawMode::empty())?;
    let new = format!(".vrift-{}", std::process::id());
    let place = format!("/proc/self/fd/{}/{new}", dir.as_raw_fd());
    let before = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
    let bound = UnixListener::bind(&place);
    nix::sys::stat::umask(before);
    let bound = bound?;
    renameat_with(&dir, new.as_str(), &dir, name, RenameFlags::NOREPLACE).inspect_err(|_| {
        let _ = fs::remove_file(&place);
    })?;
    Ok(bound)
}

struct Agent<'s> {
    settings: &'s Settings,
    /// None in a process that has been forked to supervise.
    socket: Option<UnixListener>,
    incoming: Vec<Incoming>,
    /// By the supervisor's process id.
    wards: HashMap<i32, Ward>,
    /// How many descriptors each container has brought.
    used: HashMap<String, u32>,
}

/// What a forked supervisor goes on with.
struct Charge {
    handover: Handover,
    link: OwnedFd,
    trace: Option<PathBuf>,
}

impl Agent<'_> {
    fn listen(&mut self) -> Result<(), Complaint> {
        while caught::caught().is_none() {
            self.wait()?;
            if self.incoming.len() < MOST_INCOMING {
                self.accept();
            }
            let mut rest = Vec::new();
            for mut incoming in std::mem::take(&mut self.incoming) {
                match incoming.take() {
                    Came::More => rest.push(incoming),
                    Came::Nothing => tracing::debug!("a connection brought nothing"),
                    Came::Refused(reason) => {
                        complain(&"a connection was refused", &reason);
                    }
                    Came::Container(handover) => {
                        drop(incoming);
                        self.begin(handover);
                    }
                }
            }
            self.incoming = rest;
            self.look_after();
        }
        Ok(())
    }

    /// Until something happens.
    fn wait(&self) -> Result<(), Complaint> {
        let mut fds = Vec::new();
        if let Some(socket) = self.socket.as_ref().filter(|_| self.incoming.len() < MOST_INCOMING) {
            fds.push(PollFd::new(socket.as_fd(), PollFlags::POLLIN));
        }
        let others = self.incoming.iter().map(Incoming::socket);
        fds.extend(others.map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)));
        let told = self.wards.values().filter(|ward| ward.pinned.is_none());
        fds.extend(told.map(|ward| PollFd::new(ward.link.as_fd(), PollFlags::POLLIN)));
        let known = self.wards.values().filter(|ward| ward.pinned.is_some());
        fds.extend(known.map(|ward| PollFd::new(ward.link.as_fd(), PollFlags::empty())));
        let first = self.incoming.iter().map(Incoming::until).min();
        let left = first.map_or(LOOK, |until| until.saturating_duration_since(Instant::now()));
        let timeout = PollTimeout::try_from(left.min(LOOK)).unwrap_or(PollTimeout::ZERO);
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(e) => Err(format!("poll: {e}")),
        }
    }

    fn accept(&mut self) {
        let Some(socket) = &self.socket else { return };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let connection = match accept4(socket.as_raw_fd(), flags) {
            Ok(fd) => process::adopt(fd),
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNABORTED) => return,
            Err(e) => {
                complain(&"accept", &e.to_string());
                // What is lacking (descriptors, memory) may be there again a little later.
                std::thread::sleep(LOOK);
                return;
            }
        };
        let own = nix::unistd::geteuid().as_raw();
        match getsockopt(&connection, PeerCredentials) {
            Ok(peer) if peer.uid() == 0 || peer.uid() == own => {
                self.incoming.push(Incoming::new(connection));
            }
            Ok(peer) => complain(
                &"a connection was refused",
                &format!(
                    "it is of user {}; runtimes of root and of user {own} are served",
                    peer.uid()
                ),
            ),
            Err(e) => complain(&"a connection was refused", &format!("SO_PEERCRED: {e}")),
        }
    }

    /// Has a container supervised.
    fn begin(&mut self, handover: Handover) {
        let id = handover.id.clone();
        if let Err(reason) = self.fork(handover) {
            complain(&id, &reason);
        }
    }

    fn fork(&mut self, handover: Handover) -> Result<(), Complaint> {
        let id = handover.id.clone();
        let ready = (|| {
            let trace = self.trace_file(&id)?;
            let (ours, theirs) =
                socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                    .map_err(|e| format!("socketpair: {e}"))?;
            let listener = handover.listener.try_clone().map_err(|e| format!("dup: {e}"))?;
            Ok((trace, ours, theirs, listener))
        })();
        let (trace, ours, theirs, listener) = match ready {
            Ok(ready) => ready,
            Err(reason) => {
                end_of_listener(&handover.listener);
                return Err(reason);
            }
        };
        match process::fork_single_threaded() {
            Ok(Forked::Child) => {
                drop((ours, listener));
                let charge = Charge { handover, link: theirs, trace };
                // What is the agent's is closed here: other containers' listeners among it.
                self.wards.clear();
                self.incoming.clear();
                self.socket = None;
                process::exit_now(supervise::run(charge, self.settings));
            }
            Ok(Forked::Parent(child)) => {
                drop(theirs);
                let ward = Ward { id, listener, link: ours, pinned: None };
                self.wards.insert(child.as_raw(), ward);
                Ok(())
            }
            Err(e) => {
                end_of_listener(&listener);
                Err(format!("fork: {e}"))
            }
        }
    }

    /// Makes the file that a container's trace goes to: the first has its name, those of later
    /// execs a number too.
    fn trace_file(&mut self, id: &str) -> Result<Option<PathBuf>, Complaint> {
        let Some(dir) = &self.settings.traces else { return Ok(None) };
        let count = self.used.entry(id.to_owned()).or_insert(0);
        loop {
            *count += 1;
            let name =
                if *count == 1 { format!("{id}.jsonl") } else { format!("{id}.{count}.jsonl") };
            let path = dir.join(name);
            match fs::OpenOptions::new().write(true).create_new(true).mode(0o666).open(&path) {
                Ok(_) => return Ok(Some(path)),
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(e) => return Err(format!("trace {}: {e}", path.display())),
            }
        }
    }

    /// Hears supervisors, and sees to those that have ended.
    fn look_after(&mut self) {
        for ward in self.wards.values_mut().filter(|ward| ward.pinned.is_none()) {
            let mut message = [0u8; 4];
            if let Ok(4) = recv(ward.link.as_raw_fd(), &mut message, MsgFlags::MSG_DONTWAIT) {
                ward.pinned = Pinned::of(i32::from_ne_bytes(message)).ok();
            }
        }
        loop {
            let (pid, orderly) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, status)) => (pid.as_raw(), status == 0),
                Ok(WaitStatus::Signaled(pid, ..)) => (pid.as_raw(), false),
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            let Some(ward) = self.wards.remove(&pid) else { continue };
            if orderly {
                continue;
            }
            complain(&ward.id, "its supervisor was killed; the container is ended with it");
            ward.end();
        }
    }

    /// Lets the supervisors end.
    fn end(&mut self) {
        self.incoming.clear();
        if self.settings.outlive {
            return;
        }
        for ward in self.wards.values_mut() {
            // The supervisor sees that nobody is there any more.
            let _ =
                nix::sys::socket::shutdown(ward.link.as_raw_fd(), nix::sys::socket::Shutdown::Both);
        }
        let until = Instant::now() + LAST;
        while !self.wards.is_empty() && Instant::now() < until {
            self.look_after();
            std::thread::sleep(Duration::from_millis(5));
        }
        for ward in self.wards.values() {
            complain(&ward.id, "its supervisor did not end in time; the container is ended");
            ward.end();
        }
    }
}

/// Ends a container of which nothing is known but its listener: the process that calls next. A
/// container that has not called by then can't begin without it.
fn end_of_listener(listener: &OwnedFd) {
    let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(LOOK).unwrap_or(PollTimeout::ZERO);
    if poll(&mut fds, timeout).is_ok_and(|n| n > 0) {
        let mut notif = seccomp::empty_notification();
        if seccomp::receive(listener.as_fd(), &mut notif).is_ok()
            && let Ok(tid) = i32::try_from(notif.pid)
            && let Ok(pinned) = Pinned::of_thread(tid)
        {
            pinned.end();
        }
    }
}
