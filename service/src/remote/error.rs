//! What can go wrong with a remote, in one line each.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use vrift_events::reader::TraceError;
use vrift_store::text::{Shown, shown};
use vrift_store::{Hash, ManifestError, StoreError};

/// Where the machines of a cloud get their credentials.
const METADATA: [&str; 3] = ["//169.254.169.254", "//169.254.170.2", "//metadata.google.internal"];
/// Longest part of a service's own words in a message, in bytes.
const QUOTED: usize = 300;

/// Why a tree can't be moved.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The URL means nothing, or nothing that is had here.
    #[error(
        "can't use {url} as a remote: {why}; remotes are a directory, file://, s3://BUCKET, gs://BUCKET, az://CONTAINER, http:// or https://"
    )]
    Url {
        /// As it was given, without a password.
        url: String,
        /// Why not.
        why: String,
    },
    /// Something else is there, or nothing.
    #[error("{url} is not a remote: {what}")]
    NotARemote {
        /// The remote.
        url: String,
        /// What is wrong.
        what: String,
    },
    /// The service refused, failed or went away, and did so until the retries were used up.
    #[error("can't {what} at {url}: {why}")]
    Service {
        /// What was tried: "read blobs/…".
        what: String,
        /// The remote.
        url: String,
        /// What the service or the network said, and what to do.
        why: String,
    },
    /// It isn't done in the time that it may take.
    #[error("can't {what} at {url}: no end after {} s; run it again, or give it more with --fetch-timeout", limit.as_secs())]
    Late {
        /// What was tried.
        what: String,
        /// The remote.
        url: String,
        /// How long it may take.
        limit: Duration,
    },
    /// What the remote holds isn't what it says.
    #[error("{what} at {url} is refused: {why}; push it again from a store that is whole")]
    Junk {
        /// What was read.
        what: String,
        /// The remote.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The remote has no such ref.
    #[error("there is no ref {name:?} at {url}")]
    NoRef {
        /// The ref.
        name: String,
        /// The remote.
        url: String,
    },
    /// Somebody else moved the ref.
    #[error(
        "ref {name:?} at {url} was moved by somebody else meanwhile and is left as it is; everything else is there: push again to move it"
    )]
    RefMoved {
        /// The ref.
        name: String,
        /// The remote.
        url: String,
    },
    /// An argument isn't REF or REF:NAME.
    #[error("{} can't be pushed or pulled: {why}", Shown(spec))]
    Spec {
        /// The argument.
        spec: Vec<u8>,
        /// What is wrong.
        why: String,
    },
    /// A blob here is damaged, and isn't spread.
    #[error("blob {hash} is damaged here and isn't pushed: `vrift verify` names all damage")]
    DamagedHere {
        /// The blob.
        hash: Hash,
    },
    /// The store here can't be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A manifest here can't be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// What is given as a trace is none.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// The trace doesn't tell what was read.
    #[error(
        "{}: it holds no reads; record the job with `reads = true` in the policy's [trace]",
        shown(.0)
    )]
    NoReads(PathBuf),
    /// A thread of ours came to its end too early.
    #[error("a part of this program failed: {0}")]
    Own(String),
}

impl From<tokio::task::JoinError> for RemoteError {
    fn from(error: tokio::task::JoinError) -> Self {
        RemoteError::Own(error.to_string())
    }
}

/// What a service's error says, in one line, and what can be done.
pub(super) fn why(error: &object_store::Error) -> String {
    use object_store::Error::{NotFound, PermissionDenied, Unauthenticated};
    match error {
        NotFound { .. } => "it isn't there".to_owned(),
        PermissionDenied { .. } | Unauthenticated { .. } => format!(
            "access is denied: check the credentials in the environment ({})",
            one_line(&innermost(error))
        ),
        _ => {
            let (outer, inner) = (one_line(&error.to_string()), one_line(&innermost(error)));
            if METADATA.iter().any(|host| outer.contains(host)) {
                // Asked only where the environment has none.
                return format!(
                    "there are no credentials in the environment (AWS_ACCESS_KEY_ID and the like), and this machine has none of a cloud's: {inner}"
                );
            }
            if outer.contains(&inner) { outer } else { format!("{outer}: {inner}") }
        }
    }
}

/// The last cause, which is what the kernel or the network said.
fn innermost(error: &dyn Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// A server's words, which may be a page of HTML: on one line, with nothing that steers a terminal.
fn one_line(text: &str) -> String {
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.len() > QUOTED {
        let cut = (0..=QUOTED).rev().find(|&at| line.is_char_boundary(at)).unwrap_or(0);
        line.truncate(cut);
        line.push('…');
    }
    Shown(line.as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_credentials_are_told_as_such() {
        let error = |text: &str| object_store::Error::Generic { store: "S3", source: text.into() };
        let asked = "Error performing PUT http://169.254.169.254/latest/api/token in 1s - refused";
        assert!(
            why(&error(asked)).starts_with("there are no credentials"),
            "{}",
            why(&error(asked))
        );
        assert_eq!(why(&error("it is tired")), "Generic S3 error: it is tired");
    }

    #[test]
    fn a_servers_words_are_one_bounded_line() {
        let page = format!("<html>\n\x1b[31m{}\n</html>", "ä".repeat(1000));
        let line = one_line(&page);
        assert!(line.starts_with("<html> \\u{1b}[31mää"), "{line}");
        assert!(line.len() < QUOTED + 20 && line.lines().count() == 1, "{line}");
    }
}
