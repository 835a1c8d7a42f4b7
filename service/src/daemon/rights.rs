//! Who may what: the credentials that the kernel vouches for, held against `daemon/config.toml`.
//!
//! In: what the kernel says of a peer, and a right. Out: yes or no. The store's owner and root may
//! everything, others what the file says, and nothing without one.

use std::ops::Range;
use std::path::Path;

use nix::unistd::{Group, User};
use serde::Deserialize;
use tokio::net::UnixStream;
use toml::{Spanned, Value};
use vrift_client::DaemonError;

use super::sys;

/// Who is at the other end, as it was when it connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// User.
    pub uid: u32,
    /// Group, and supplementary groups.
    pub groups: Vec<u32>,
}

impl Peer {
    /// From SO_PEERCRED and SO_PEERGROUPS of unix(7).
    pub fn of(stream: &UnixStream) -> std::io::Result<Peer> {
        let credentials = stream.peer_cred()?;
        let mut groups = sys::peer_groups(stream)?;
        groups.push(credentials.gid());
        Ok(Peer { uid: credentials.uid(), groups })
    }
}

/// What can be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Store trees, and set refs to them.
    Ingest,
    /// Set and remove refs.
    Refs,
    /// Protect contents, and take protection away.
    Protect,
    /// Collect what nothing names.
    Collect,
    /// Put damaged contents aside.
    Quarantine,
    /// Pull trees from remotes that are listed.
    Pull,
}

impl Right {
    /// Its key in the configuration.
    pub fn key(self) -> &'static str {
        match self {
            Right::Ingest => "ingest",
            Right::Refs => "refs",
            Right::Protect => "protect",
            Right::Collect => "collect",
            Right::Quarantine => "quarantine",
            Right::Pull => "pull",
        }
    }
}

/// A user, a group, or all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Everybody,
    User(u32),
    Group(u32),
}

/// The configuration, names resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    owner: u32,
    lists: [Vec<Who>; 6],
    /// Where trees may be pulled from for others.
    remotes: Vec<String>,
}

type List = Vec<Spanned<Value>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    version: Spanned<i64>,
    #[serde(default)]
    ingest: List,
    #[serde(default)]
    refs: List,
    #[serde(default)]
    protect: List,
    #[serde(default)]
    collect: List,
    #[serde(default)]
    quarantine: List,
    #[serde(default)]
    pull: List,
    #[serde(default)]
    remotes: Vec<String>,
}

/// A part of the text and what is wrong with it.
type Wrong = (Range<usize>, String);

impl Rights {
    /// Nobody's but the owner's and root's.
    #[must_use]
    pub fn none(owner: u32) -> Rights {
        Rights { owner, lists: Default::default(), remotes: Vec::new() }
    }

    /// Reads a configuration.
    ///
    /// # Errors
    /// [`DaemonError::Config`]: the first thing that is wrong with it.
    pub fn parse(owner: u32, path: &Path, text: &str) -> Result<Rights, DaemonError> {
        let told = |(span, message): Wrong| {
            let before = text.as_bytes().get(..span.start).unwrap_or_default();
            let line = 1 + before.iter().filter(|&&c| c == b'\n').count();
            DaemonError::Config { path: path.to_owned(), line, message }
        };
        let raw: Raw = toml::from_str(text).map_err(|error| {
            // The parser's words may take several lines.
            let words = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
            told((error.span().unwrap_or(0..0), words))
        })?;
        if *raw.version.get_ref() != 1 {
            let what = "this program knows version 1: write `version = 1`".to_owned();
            return Err(told((raw.version.span(), what)));
        }
        let mut rights = Rights::none(owner);
        let lists = [raw.ingest, raw.refs, raw.protect, raw.collect, raw.quarantine, raw.pull];
        for (list, raw) in rights.lists.iter_mut().zip(&lists) {
            *list = raw.iter().map(who).collect::<Result<_, _>>().map_err(told)?;
        }
        rights.remotes = raw.remotes;
        Ok(rights)
    }

    /// May this peer have something pulled from there? The daemon asks with its own credentials and
    /// reads what it may read, so that is for the owner to say.
    pub(super) fn may_pull_from(&self, peer: &Peer, remote: &str) -> bool {
        let bare = |url: &str| url.trim_end_matches('/').to_owned();
        self.is_master(peer) || self.remotes.iter().any(|one| bare(one) == bare(remote))
    }

    /// May this peer?
    pub(super) fn may(&self, peer: &Peer, right: Right) -> bool {
        let list = match right {
            Right::Ingest => 0,
            Right::Refs => 1,
            Right::Protect => 2,
            Right::Collect => 3,
            Right::Quarantine => 4,
            Right::Pull => 5,
        };
        self.is_master(peer)
            || self.lists[list].iter().any(|who| match who {
                Who::Everybody => true,
                Who::User(uid) => *uid == peer.uid,
                Who::Group(gid) => peer.groups.contains(gid),
            })
    }

    /// Is it the store's owner, or root?
    pub(super) fn is_master(&self, peer: &Peer) -> bool {
        peer.uid == self.owner || peer.uid == 0
    }
}

fn who(entry: &Spanned<Value>) -> Result<Who, Wrong> {
    let wrong = |what: String| (entry.span(), what);
    match entry.get_ref() {
        Value::Integer(uid) => match u32::try_from(*uid) {
            Ok(uid) => Ok(Who::User(uid)),
            Err(_) => Err(wrong(format!("{uid} can't be a user's number"))),
        },
        Value::String(text) if text == "*" => Ok(Who::Everybody),
        Value::String(text) => match text.strip_prefix('@') {
            Some(name) => match Group::from_name(name) {
                Ok(Some(group)) => Ok(Who::Group(group.gid.as_raw())),
                Ok(None) => Err(wrong(format!("there is no group {name:?} here"))),
                Err(errno) => Err(wrong(format!("can't look up group {name:?}: {errno}"))),
            },
            None => match User::from_name(text) {
                Ok(Some(user)) => Ok(Who::User(user.uid.as_raw())),
                Ok(None) => Err(wrong(format!(
                    "there is no user {text:?} here; a group is \"@NAME\", everybody \"*\""
                ))),
                Err(errno) => Err(wrong(format!("can't look up user {text:?}: {errno}"))),
            },
        },
        other => Err(wrong(format!(
            "{} where a user's name or number, \"@GROUP\" or \"*\" should be",
            other.type_str()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Rights, String> {
        Rights::parse(7, "c.toml".as_ref(), text).map_err(|error| error.to_string())
    }

    #[test]
    fn owner_and_root_may_and_others_as_it_is_written() {
        let peer = |uid, groups: &[u32]| Peer { uid, groups: groups.to_vec() };
        let rights = parse("version = 1\ningest = [\"@root\", 12]\ncollect = [\"*\"]\n");
        let rights = rights.expect("a configuration");
        for right in [Right::Ingest, Right::Refs, Right::Protect, Right::Quarantine] {
            assert!(rights.may(&peer(0, &[0]), right) && rights.may(&peer(7, &[7]), right));
            assert!(!rights.may(&peer(9, &[9]), right));
        }
        assert!(rights.may(&peer(12, &[1]), Right::Ingest));
        assert!(rights.may(&peer(9, &[9, 0]), Right::Ingest), "by its group");
        assert!(!rights.may(&peer(12, &[1]), Right::Refs));
        assert!(rights.may(&peer(9, &[9]), Right::Collect));
        assert!(!rights.may_pull_from(&peer(12, &[1]), "s3://b"));
        let listed = parse("version = 1\nremotes = [\"s3://b/\"]\n").expect("a configuration");
        assert!(listed.may_pull_from(&peer(12, &[1]), "s3://b"));
        for other in ["s3://b/c", "s3://", "/", ""] {
            assert!(!listed.may_pull_from(&peer(12, &[1]), other), "{other}");
            assert!(listed.may_pull_from(&peer(7, &[1]), other), "{other}");
        }
        let none = Rights::none(7);
        assert!(none.may(&peer(0, &[0]), Right::Collect) && none.may(&peer(7, &[7]), Right::Refs));
        assert!(!none.may(&peer(9, &[0]), Right::Collect), "root's group isn't root");
        assert_eq!(parse("version = 1\n").expect("a configuration"), none);
    }

    #[test]
    fn what_is_wrong_is_told_in_a_line_with_its_place() {
        for (text, line) in [
            ("version = 2\n", "c.toml:1: this program knows version 1"),
            ("ingest = []\n", "c.toml:1: missing field `version`"),
            ("version = 1\n\ningst = []\n", "c.toml:3: unknown field `ingst`, expected one of"),
            ("version = 1\ningest = [\n 5,\n -1]\n", "c.toml:4: -1 can't be a user's number"),
            ("version = 1\nrefs = [\"no such user\"]\n", "c.toml:2: there is no user"),
            ("version = 1\nrefs = [\"@no such group\"]\n", "c.toml:2: there is no group"),
            ("version = 1\nrefs = [1.5]\n", "c.toml:2: float where a user's name"),
            ("version = 1\nrefs = \"root\"\n", "c.toml:2: invalid type"),
            ("version = 1\nrefs = [\n", "c.toml:"),
        ] {
            let told = parse(text).expect_err(text);
            assert!(told.starts_with(line) && told.lines().count() == 1, "{text}: {told}");
        }
    }
}
