//! What can be wrong with a policy, said in one line each.

use std::path::PathBuf;

use crate::prefix::PrefixError;

/// Why a policy file could not be used. Displays as one line that begins with the file's name.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The file could not be read.
    #[error("{}: cannot read the policy file: {source}", path.display())]
    Read {
        /// The file as it was named to us.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file says something that it may not.
    #[error("{}:{line}: {message}", file.display())]
    Invalid {
        /// The file as it was named to us.
        file: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong and what to write instead, without a line break.
        message: String,
    },
    /// A `--mount` argument says something that does not go with the policy.
    #[error("{message}")]
    Argument {
        /// What is wrong and what to write instead.
        message: String,
    },
}

/// Why a `--mount` argument could not be used. Displays as one line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MountArgError {
    /// There is no manifest in it.
    #[error("--mount {argument}: no manifest is named; write AT=REF, or REF alone")]
    NoManifest {
        /// The argument as it was written.
        argument: String,
    },
    /// The mount point can't be one.
    #[error("--mount {argument}: {source}{hint}")]
    MountPoint {
        /// The argument as it was written.
        argument: String,
        /// Why.
        source: PrefixError,
        /// What to try, or nothing.
        hint: &'static str,
    },
    /// An option has no `=`, or an unknown name.
    #[error("--mount {argument}: unknown option `{option}`; {hint}")]
    UnknownOption {
        /// The argument as it was written.
        argument: String,
        /// The option.
        option: String,
        /// What to write instead.
        hint: String,
    },
    /// The same option twice.
    #[error("--mount {argument}: `{option}` is given twice; leave one out")]
    Twice {
        /// The argument as it was written.
        argument: String,
        /// The option.
        option: &'static str,
    },
    /// An option's value is none that it takes.
    #[error("--mount {argument}: `{value}` is no value of `{option}`; {hint}")]
    BadValue {
        /// The argument as it was written.
        argument: String,
        /// The option.
        option: &'static str,
        /// Its value.
        value: String,
        /// What to write instead.
        hint: String,
    },
    /// A backslash at the very end.
    #[error("--mount {argument}: ends in a lone backslash; write `\\\\` for a backslash")]
    LoneBackslash {
        /// The argument as it was written.
        argument: String,
    },
}
