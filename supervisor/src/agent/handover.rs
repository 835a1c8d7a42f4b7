//! What a runtime hands over: the container process state and a descriptor, in one message.
//!
//! See "The Container Process State" in the OCI runtime specification's config-linux.md. What
//! comes over the socket is anybody's until it has been looked at: its size and its time are
//! bounded, and every descriptor is owned from the moment it is there.

use super::Complaint;
use crate::sys::process::adopt;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde::Deserialize;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// The longest state. It has the container's annotations, which orchestrators fill.
const LONGEST: usize = 256 * 1024;
/// The most descriptors that come with one message, `SCM_MAX_FD`.
const MOST_DESCRIPTORS: usize = 253;
/// How long a runtime may take for its message.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// The container process state, as far as it is used.
#[derive(Debug, Deserialize)]
struct State {
    #[serde(default)]
    fds: Vec<String>,
    #[serde(default)]
    metadata: String,
    state: Inner,
}

#[derive(Debug, Deserialize)]
struct Inner {
    id: String,
}

/// A container that was handed over.
pub struct Handover {
    /// What the runtime calls it: can be a file's name.
    pub id: String,
    /// The profile's listenerMetadata.
    pub metadata: String,
    /// The listener of its filter.
    pub listener: OwnedFd,
}

/// A runtime that has not said all yet.
pub struct Incoming {
    socket: OwnedFd,
    text: Vec<u8>,
    descriptors: Vec<OwnedFd>,
    until: Instant,
}

/// What came of a look at an [`Incoming`].
pub enum Came {
    /// Not all of it yet.
    More,
    /// It went away without a word: a runtime that failed early.
    Nothing,
    /// A container.
    Container(Handover),
    /// Nothing that can be used, and why.
    Refused(Complaint),
}

impl Incoming {
    /// A connection that does not block.
    pub fn new(socket: OwnedFd) -> Incoming {
        let until = Instant::now() + PATIENCE;
        Incoming { socket, text: Vec::new(), descriptors: Vec::new(), until }
    }

    /// The connection.
    pub fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// When it will have taken too long.
    pub fn until(&self) -> Instant {
        self.until
    }

    /// Takes what there is.
    pub fn take(&mut self) -> Came {
        if Instant::now() >= self.until {
            let seconds = PATIENCE.as_secs();
            return Came::Refused(format!("its message was not whole after {seconds} s"));
        }
        loop {
            match self.receive() {
                Ok(0) => return self.ended(),
                Ok(_) if self.text.len() > LONGEST => {
                    let most = LONGEST / 1024;
                    return Came::Refused(format!("its message is longer than {most} KiB"));
                }
                Ok(_) => {}
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break,
                Err(Errno::EMSGSIZE) => {
                    return Came::Refused("its descriptors did not all come".into());
                }
                Err(e) => return Came::Refused(format!("recvmsg: {e}")),
            }
        }
        // A runtime that goes on holding the connection has said all the same what it had to.
        match serde_json::from_slice::<State>(&self.text) {
            Ok(state) => self.whole(state),
            Err(e) if e.is_eof() => Came::More,
            Err(e) => Came::Refused(format!("its message is no container process state: {e}")),
        }
    }

    fn receive(&mut self) -> Result<usize, Errno> {
        let mut part = [0u8; 16 * 1024];
        let mut space = nix::cmsg_space!([RawFd; MOST_DESCRIPTORS]);
        let mut parts = [IoSliceMut::new(&mut part)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
        let got = recvmsg::<()>(self.socket.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
        let truncated = got.flags.contains(MsgFlags::MSG_CTRUNC);
        let bytes = got.bytes;
        for control in got.cmsgs()? {
            if let ControlMessageOwned::ScmRights(fds) = control {
                self.descriptors.extend(fds.into_iter().map(adopt));
            }
        }
        if truncated || self.descriptors.len() > MOST_DESCRIPTORS {
            return Err(Errno::EMSGSIZE);
        }
        self.text.extend_from_slice(&part[..bytes]);
        Ok(bytes)
    }

    fn ended(&mut self) -> Came {
        if self.text.is_empty() && self.descriptors.is_empty() {
            return Came::Nothing;
        }
        match serde_json::from_slice::<State>(&self.text) {
            Ok(state) => self.whole(state),
            Err(e) => Came::Refused(format!("its message is no container process state: {e}")),
        }
    }

    fn whole(&mut self, state: State) -> Came {
        let descriptors = std::mem::take(&mut self.descriptors);
        match choose(state, descriptors) {
            Ok(handover) => Came::Container(handover),
            Err(reason) => Came::Refused(reason),
        }
    }
}

fn choose(state: State, descriptors: Vec<OwnedFd>) -> Result<Handover, Complaint> {
    let metadata = state.metadata;
    let id = state.state.id;
    if !is_file_name(&id) {
        return Err(format!("the container id {id:?} is not one that a runtime takes"));
    }
    let Some(at) = state.fds.iter().position(|name| name == "seccompFd") else {
        return Err("its message names no seccompFd".into());
    };
    let Some(listener) = descriptors.into_iter().nth(at) else {
        return Err(format!("its message came without descriptor {at}, the seccompFd"));
    };
    let link = std::fs::read_link(format!("/proc/self/fd/{}", listener.as_raw_fd()));
    if !link.is_ok_and(|link| link.as_os_str() == "anon_inode:seccomp notify") {
        return Err("its seccompFd is no listener of a seccomp filter".into());
    }
    Ok(Handover { id, metadata, listener })
}

/// As runtimes want ids themselves: no slash, no dot in front, not too long for a file's name.
fn is_file_name(id: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-' | '.' | ':');
    (1..=200).contains(&id.len()) && !id.starts_with('.') && id.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{
        AddressFamily, ControlMessage, Shutdown, SockFlag, SockType, sendmsg, shutdown, socketpair,
    };
    use std::io::IoSlice;

    fn pair() -> (Incoming, OwnedFd) {
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)
                .expect("a pair");
        (Incoming::new(ours), theirs)
    }

    fn send(to: &OwnedFd, text: &str, fds: &[RawFd]) {
        let control = [ControlMessage::ScmRights(fds)];
        let control: &[ControlMessage<'_>] = if fds.is_empty() { &[] } else { &control };
        let parts = [IoSlice::new(text.as_bytes())];
        sendmsg::<()>(to.as_raw_fd(), &parts, control, MsgFlags::empty(), None).expect("sent");
    }

    fn refused(mut incoming: Incoming) -> String {
        match incoming.take() {
            Came::Refused(reason) => reason,
            Came::More => "more".into(),
            Came::Nothing => "nothing".into(),
            Came::Container(_) => "a container".into(),
        }
    }

    #[test]
    fn a_connection_without_a_word_is_nothing() {
        let (mut incoming, theirs) = pair();
        assert!(matches!(incoming.take(), Came::More));
        // Not dropped: another test may just have forked.
        shutdown(theirs.as_raw_fd(), Shutdown::Both).expect("it is open");
        assert!(matches!(incoming.take(), Came::Nothing));
    }

    #[test]
    fn junk_is_refused_with_its_reason() {
        let file = std::fs::File::open("/dev/null").expect("there");
        let state = r#"{"ociVersion":"1.0.2","fds":["seccompFd"],"pid":1,"state":{"id":"c"}}"#;
        let other = state.replace("seccompFd", "pidFd");
        let dots = state.replace(r#""id":"c""#, r#""id":"../c""#);
        for (text, fds, reason) in [
            ("hello", vec![], "no container process state"),
            ("[1,2]", vec![], "no container process state"),
            (state, vec![], "without descriptor 0"),
            (state, vec![file.as_raw_fd()], "no listener"),
            (&other, vec![file.as_raw_fd()], "names no seccompFd"),
            (&dots, vec![file.as_raw_fd()], "container id"),
        ] {
            let (incoming, theirs) = pair();
            send(&theirs, text, &fds);
            let told = refused(incoming);
            assert!(told.contains(reason), "{text}: {told}");
        }
        let (mut incoming, theirs) = pair();
        send(&theirs, &state[..30], &[]);
        assert!(matches!(incoming.take(), Came::More));
        incoming.until = Instant::now();
        assert!(refused(incoming).contains("not whole"));
        let (incoming, theirs) = pair();
        let long = std::thread::spawn(move || {
            let spaces = " ".repeat(LONGEST + 20_000);
            let _ = std::io::Write::write_all(&mut std::fs::File::from(theirs), spaces.as_bytes());
        });
        let mut incoming = incoming;
        let reason = loop {
            match incoming.take() {
                Came::More => std::thread::sleep(Duration::from_millis(1)),
                Came::Refused(reason) => break reason,
                _ => panic!("spaces are no container"),
            }
        };
        assert!(reason.contains("longer than"), "{reason}");
        drop(incoming);
        long.join().expect("the writer ends");
    }

    #[test]
    fn ids_are_names_of_files() {
        for good in ["c1", "a.b-c_d+e", &"x".repeat(64)] {
            assert!(is_file_name(good), "{good}");
        }
        for bad in ["", ".", "..", ".x", "a/b", "a\0", "ä", &"x".repeat(300)] {
            assert!(!is_file_name(bad), "{bad}");
        }
    }
}
