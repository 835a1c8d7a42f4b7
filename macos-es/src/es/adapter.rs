//! The framework behind a trait: what `EndpointSecurity` has, as the client needs it. A thin adapter
//! over Apple's library is one implementor (`macos-trace/src/framework`); the tests' mocks are others.

use super::decide::Reply;
use super::event::EsEvent;
use super::mute::Plan;

/// Why the framework would not.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum EndpointError {
    /// `ES_NEW_CLIENT_RESULT_ERR_NOT_ENTITLED`.
    #[error(
        "this program has not the entitlement com.apple.developer.endpoint-security.client; sign it \
         with a profile that Apple has granted it to"
    )]
    NotEntitled,
    /// `ES_NEW_CLIENT_RESULT_ERR_NOT_PERMITTED`.
    #[error(
        "this program has no Full Disk Access; allow it in System Settings, Privacy & Security, \
         Full Disk Access"
    )]
    NotPermitted,
    /// `ES_NEW_CLIENT_RESULT_ERR_NOT_PRIVILEGED`.
    #[error("an Endpoint Security client has to run as root; start it with sudo")]
    NotPrivileged,
    /// `ES_NEW_CLIENT_RESULT_ERR_TOO_MANY_CLIENTS`.
    #[error("this machine has too many Endpoint Security clients; end another one")]
    TooMany,
    /// This program can't run there at all.
    #[error("Endpoint Security needs {0}")]
    Needs(&'static str),
    /// Anything else, by its number.
    #[error("Endpoint Security failed with {0}")]
    Other(u32),
}

/// A message of the framework's, which is answered at most once.
pub trait Message {
    /// What it says.
    fn event(&self) -> &EsEvent;

    /// Answers it: `es_respond_flags_result` for [`Reply::Flags`], else `es_respond_auth_result`.
    /// `keep`: the framework may give the same answer by itself the next time.
    ///
    /// # Errors
    /// The framework's.
    fn answer(self, reply: Reply, keep: bool) -> Result<(), EndpointError>;
}

/// A client of the framework's.
pub trait Endpoint {
    /// Its messages.
    type Message: Message;

    /// One more client: mutes and subscribes.
    ///
    /// # Errors
    /// The framework's.
    fn begin(&mut self, plan: &Plan) -> Result<(), EndpointError>;

    /// The next message; None when there will be no more.
    fn next(&mut self) -> Option<Self::Message>;

    /// The machine's clock, nanoseconds.
    fn now(&self) -> u64;
}
