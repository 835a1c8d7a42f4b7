//! What can go wrong while measuring. Every variant says what was tried, on what, and why it failed.

use std::io;
use std::time::Duration;

/// A figure that could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// An operation of the benchmark itself failed.
    #[error("{doing}: {source}")]
    Io {
        /// What was tried, on what.
        doing: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A command ended otherwise than well.
    #[error("`{command}` ended with {status}{}", tail(.stderr))]
    Command {
        /// The command as one would type it.
        command: String,
        /// `exit status: 1`, `signal: 9`.
        status: String,
        /// What it said on stderr.
        stderr: String,
    },
    /// A command took too long and was killed.
    #[error("`{command}` was killed: not done after {} s{}", .after.as_secs(), tail(.stderr))]
    TimedOut {
        /// The command as one would type it.
        command: String,
        /// The time it was given.
        after: Duration,
        /// What it said on stderr until then.
        stderr: String,
    },
    /// A guest measured something else than it should: a wrong answer has no speed.
    #[error("{call}: expected {expected}, got {got}")]
    WrongAnswer {
        /// The call that was timed.
        call: &'static str,
        /// What the fixture holds.
        expected: String,
        /// What the call said.
        got: String,
    },
    /// A command printed what could not be understood.
    #[error("`{command}` printed no usable figures: {source}")]
    Output {
        /// The command as one would type it.
        command: String,
        /// What the JSON parser said.
        source: serde_json::Error,
    },
    /// Something came out otherwise than natively.
    #[error("otherwise than natively: {what}")]
    Differs {
        /// What did.
        what: String,
    },
    /// A variable of the environment can't be understood.
    #[error("{name}={text}: must be a whole number above 0")]
    Variable {
        /// Its name.
        name: &'static str,
        /// What it is set to.
        text: String,
    },
    /// The kernel lacks what a floor needs.
    #[error("this kernel cannot run a floor: {0}")]
    Kernel(String),
}

impl Failure {
    /// For `map_err`: wraps an I/O error with what was tried.
    pub fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}

/// The last lines of a command's stderr, on one line, as the end of a message.
fn tail(stderr: &str) -> String {
    let lines: Vec<&str> = stderr.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(3)..];
    if last.is_empty() { String::new() } else { format!(": {}", last.join(" | ")) }
}
