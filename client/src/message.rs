//! What is said between a client and the daemon. A client names content by hashes and things by refs,
//! never by a path of the machine's.

use serde::{Deserialize, Serialize};
use vrift_store::collect::Collected;
use vrift_store::json::hex;
use vrift_store::protect::{Protected, Protection};
use vrift_store::{Damage, Hash, Verified};

/// The version of everything below but `Hello`. Two that differ don't understand each other.
pub const PROTOCOL: u32 = 1;
/// This program's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The first message of either side, the client's first. In every version it has at least these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Its protocol.
    pub vrift: u32,
    /// The version of its program.
    pub version: String,
    /// Its process.
    pub pid: u32,
}

impl Hello {
    /// This program's.
    pub fn ours() -> Hello {
        Hello { vrift: PROTOCOL, version: VERSION.to_owned(), pid: std::process::id() }
    }
}

/// Bytes, as hexadecimal digits: no JSON text holds every name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Bytes(pub Vec<u8>);

impl From<Bytes> for String {
    fn from(bytes: Bytes) -> String {
        hex(&bytes.0)
    }
}

impl TryFrom<String> for Bytes {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Bytes, &'static str> {
        let wrong = "not pairs of hexadecimal digits";
        let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
        let bytes = bytes.collect::<Option<Vec<u8>>>().filter(|_| rest.is_empty());
        bytes.map(Bytes).ok_or(wrong)
    }
}

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// How is the daemon?
    Status,
    /// Store a content; after [`Reply::Go`] its bytes follow, and an empty frame if it isn't all.
    Blob {
        /// Its hash.
        hash: Hash,
        /// Its bytes.
        size: u64,
    },
    /// Publish a manifest and set a ref to it; after [`Reply::Go`] its bytes follow.
    Tree {
        /// Its id.
        manifest: Hash,
        /// Its bytes.
        size: u64,
        /// The ref.
        name: String,
        /// Set the ref only if it is still this; otherwise the answer is [`Reply::Moved`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        only_if: Option<RefIs>,
        /// A tree that is here: what was left at a remote when that was pulled may be missing here,
        /// too, and is got from there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        base: Option<Hash>,
    },
    /// May this client store anything? Nothing is done, or the client is refused.
    MayIngest,
    /// Set a ref to a manifest that is there.
    SetRef {
        /// The ref.
        name: String,
        /// What it shall name.
        manifest: Hash,
    },
    /// Remove a ref.
    RemoveRef {
        /// The ref.
        name: String,
    },
    /// Protect the contents of a tree, or of a part of it.
    Protect {
        /// The tree.
        manifest: Hash,
        /// The part.
        path: Bytes,
        /// How.
        how: Protection,
    },
    /// Take protection from them.
    Unprotect {
        /// The tree and the part; None for all contents.
        tree: Option<(Hash, Bytes)>,
    },
    /// Remove what nothing names.
    Collect {
        /// What is younger stays.
        grace_seconds: u64,
    },
    /// Get a tree from a remote.
    Pull {
        /// The remote, as the configuration has it.
        remote: String,
        /// A ref there, or a hash.
        source: String,
        /// The ref here.
        name: String,
        /// The manifest only?
        lazy: bool,
    },
    /// Fetch contents of a tree that was pulled without them, from where it came.
    Prefetch {
        /// The tree.
        manifest: Hash,
        /// The contents; not more than a message has room for.
        blobs: Vec<Hash>,
    },
    /// Read everything, or one tree, and put damaged contents aside.
    Quarantine {
        /// The tree.
        tree: Option<Hash>,
    },
    /// Read everything, or one tree, and fetch what is damaged or missing.
    Repair {
        /// The tree.
        tree: Option<Hash>,
        /// The remote, as the configuration has it.
        remote: String,
    },
}

/// What a ref is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefIs {
    /// What it names; None when it isn't there.
    pub manifest: Option<Hash>,
}

/// What the daemon says. To each request any number of the first five, then one of the others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum Reply {
    /// Others come first.
    Waiting {
        /// How many.
        ahead: usize,
    },
    /// It is being done.
    Working {
        /// Entries done so far.
        entries: u64,
        /// Bytes read so far.
        bytes: u64,
    },
    /// The bytes may come.
    Go,
    /// Something in the store isn't as it should be.
    Damaged {
        /// The file, relative to the store's root.
        path: Bytes,
        /// What is wrong.
        what: String,
        /// Was it put aside?
        quarantined: bool,
    },
    /// A damaged or missing file of the store is whole again.
    Repaired {
        /// The file, relative to the store's root.
        path: Bytes,
    },
    /// The client may not.
    Refused {
        /// Why.
        why: String,
    },
    /// It couldn't be done.
    Failed {
        /// What, why, and what to do.
        why: String,
    },
    /// See [`Status`].
    Status(Box<Status>),
    /// The content is there.
    Stored {
        /// Wasn't it before?
        new: bool,
    },
    /// The bytes weren't what they were said to be, and nothing was stored.
    Other,
    /// The manifest wasn't published, for so many of its contents aren't there.
    Missing {
        /// How many.
        blobs: u64,
    },
    /// The manifest was published, and the ref left alone, for it names something else by now.
    Moved {
        /// What it names.
        why: String,
    },
    /// So much came.
    Fetched {
        /// Contents that weren't here.
        blobs: u64,
        /// Their bytes.
        bytes: u64,
        /// Contents of the tree that still aren't.
        absent: u64,
    },
    /// It is done.
    Done,
    /// So much was protected, or unprotected.
    Protected(Protected),
    /// So much was collected.
    Collected(Collected),
    /// So much was pulled.
    Pulled(Pulled),
    /// So much was read.
    Verified(Counts),
}

impl From<&Damage> for Reply {
    fn from(damage: &Damage) -> Reply {
        use std::os::unix::ffi::OsStrExt;
        Reply::Damaged {
            path: Bytes(damage.path.as_os_str().as_bytes().to_vec()),
            what: damage.what.clone(),
            quarantined: damage.quarantined,
        }
    }
}

/// What a pull did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pulled {
    /// The ref here.
    pub name: String,
    /// What it names now.
    pub manifest: Hash,
    /// Blobs that the tree needs.
    pub blobs: u64,
    /// Of these came from the remote.
    pub new_blobs: u64,
    /// Bytes in these.
    pub new_bytes: u64,
    /// Blobs that are left for when they are needed.
    pub absent_blobs: u64,
}

/// The numbers of a [`Verified`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Blobs read.
    pub blobs: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Manifests checked.
    pub manifests: u64,
    /// Refs followed.
    pub refs: u64,
    /// Blobs that needn't be here.
    pub absent: u64,
    /// Blobs that are protected.
    pub protected: u64,
}

impl From<&Verified> for Counts {
    fn from(report: &Verified) -> Counts {
        Counts {
            blobs: report.blobs,
            bytes: report.bytes,
            manifests: report.manifests,
            refs: report.refs,
            absent: report.absent,
            protected: report.protected,
        }
    }
}

/// How the daemon is. Counters begin with its start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Its program's version.
    pub version: String,
    /// Its protocol.
    pub protocol: u32,
    /// Its process.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// Seconds without a client after which it ends; None: never.
    pub idle_seconds: Option<u64>,
    /// Blobs in the store.
    pub blobs: u64,
    /// Their length together.
    pub bytes: u64,
    /// Manifests in the store.
    pub manifests: u64,
    /// Refs in the store.
    pub refs: u64,
    /// Clients that are connected, this one included.
    pub clients: u64,
    /// Requests that wait for their turn.
    pub queue: u64,
    /// Requests that are being done, this one not included.
    pub working: u64,
    /// Requests that were done.
    pub done: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Requests that were refused.
    pub refused: u64,
    /// Clients that were sent away: they said nothing that is understood, stalled, or were too many.
    pub turned_away: u64,
    /// Contents that trees published through the daemon need.
    pub needed_blobs: u64,
    /// Contents that came through the daemon and were new.
    pub new_blobs: u64,
    /// Their bytes.
    pub new_bytes: u64,
    /// The part of the needed contents that were there; None before the first tree.
    pub hit_rate: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_any_bytes_survive() {
        for bytes in [&b""[..], b"a/b", b"\xff\x00\n"] {
            let text = serde_json::to_string(&Bytes(bytes.to_vec())).expect("JSON");
            assert_eq!(serde_json::from_str::<Bytes>(&text).expect("the same").0, bytes);
        }
        for wrong in ["\"a\"", "\"zz\"", "\"é\"", "7"] {
            assert!(serde_json::from_str::<Bytes>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_request_with_more_in_it_is_another() {
        let request = Request::Collect { grace_seconds: 5 };
        let text = serde_json::to_string(&request).expect("JSON");
        assert_eq!(text, r#"{"ask":"collect","grace_seconds":5}"#);
        assert_eq!(serde_json::from_str::<Request>(&text).expect("the same"), request);
        let more = r#"{"ask":"collect","grace_seconds":5,"force":true}"#;
        serde_json::from_str::<Request>(more).expect_err("more in it");
        let status = serde_json::from_str::<Request>(r#"{"ask":"status"}"#);
        assert_eq!(status.expect("the same"), Request::Status);
    }
}
