//! One mount as a policy file or a `--mount` argument asks for it, before any manifest is looked up.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;

use crate::error::PolicyError;
use crate::shown::shown;

/// What a job may do below a mount point.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// As a read-only bind mount: every change is refused with `EROFS` or `EXDEV`.
    #[default]
    ReadOnly,
    /// Existing files may be changed, each in a copy private to the job.
    CopyOnWrite,
    /// As a plain directory: whatever the job does, kept apart from the store.
    Overlay,
}

impl Mode {
    /// The word that a policy file uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Mode::ReadOnly => "read-only",
            Mode::CopyOnWrite => "copy-on-write",
            Mode::Overlay => "overlay",
        }
    }

    /// Every mode.
    pub const ALL: [Mode; 3] = [Mode::ReadOnly, Mode::CopyOnWrite, Mode::Overlay];

    /// The mode that a policy file has this word for.
    #[must_use]
    pub fn of_word(word: &[u8]) -> Option<Mode> {
        Mode::ALL.into_iter().find(|mode| mode.as_str().as_bytes() == word)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What becomes of a writable mount's changes when the job ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnExit {
    /// They are thrown away.
    Discard,
    /// They stay in the mount's upper directory.
    Keep,
    /// They become a new manifest, which this ref then names.
    Commit(String),
}

impl OnExit {
    /// The word that a policy file has for it: `commit:deps`.
    #[must_use]
    pub fn word(&self) -> Cow<'static, str> {
        match self {
            OnExit::Discard => "discard".into(),
            OnExit::Keep => "keep".into(),
            OnExit::Commit(name) => format!("commit:{name}").into(),
        }
    }
}

impl fmt::Display for OnExit {
    /// Writes it with its key: `on_exit "commit:deps"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "on_exit \"{}\"", self.word())
    }
}

/// Where a mount was asked for, to begin an error message with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A line, counted from 1, of a policy file.
    File {
        /// The policy file as it was named to us.
        name: Arc<PathBuf>,
        /// The line of the `at` key, or of the `[[mount]]` heading.
        line: usize,
    },
    /// A `--mount` argument, as it was written.
    Argument(OsString),
}

impl Origin {
    /// An error that is found here.
    pub(crate) fn fault(&self, message: String) -> PolicyError {
        match self {
            Origin::File { name, line } => {
                PolicyError::Invalid { file: name.as_ref().clone(), line: *line, message }
            }
            Origin::Argument(_) => PolicyError::Argument { message: format!("{self}: {message}") },
        }
    }

    /// The line, counted from 1, where it is one of a file.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        match self {
            Origin::File { line, .. } => Some(*line),
            Origin::Argument(_) => None,
        }
    }
}

impl fmt::Display for Origin {
    /// Writes `vrift.toml:7` or `--mount /vrift=deps`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File { name, line } => write!(f, "{}:{line}", name.display()),
            Origin::Argument(text) => write!(f, "--mount {}", shown(text.as_bytes())),
        }
    }
}

/// A manifest to be projected at a path.
///
/// The mount point has passed [`check_mount_point`](crate::check_mount_point); whether the
/// manifest exists is for the store to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountSpec {
    /// The absolute, normalised mount point.
    pub at: PathBuf,
    /// A ref, a hash, an unambiguous beginning of one, or a manifest file's path.
    pub manifest: OsString,
    /// What the job may do there.
    pub mode: Mode,
    /// Where changes are kept; `None`: in a place private to the job.
    pub upper: Option<PathBuf>,
    /// What becomes of the changes; `None` when nothing was said, see [`MountSpec::end`].
    pub on_exit: Option<OnExit>,
    /// Where this was asked for.
    pub origin: Origin,
}

impl MountSpec {
    /// What of this mount does not fit together: one line for each, beginning with the place and
    /// ending with what to do. Empty when the mount can be made.
    #[must_use]
    pub fn unsupported(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        let origin = &self.origin;
        let only = "only a writable mount (mode \"copy-on-write\" or \"overlay\") changes";
        if self.mode == Mode::ReadOnly {
            if let Some(upper) = &self.upper {
                reasons.push(format!(
                    "{origin}: upper \"{}\" is for changes, and {only}; leave it out, or give a \
                     mode",
                    upper.display()
                ));
            }
            if let Some(on_exit) = &self.on_exit {
                reasons.push(format!(
                    "{origin}: {on_exit} is about changes, and {only}; leave it out, or give a mode"
                ));
            }
        }
        reasons
    }

    /// What becomes of the changes: what was said, else they stay in an upper directory that was
    /// named, and go with one that was not.
    #[must_use]
    pub fn end(&self) -> OnExit {
        match (&self.on_exit, &self.upper) {
            (Some(on_exit), _) => on_exit.clone(),
            (None, Some(_)) => OnExit::Keep,
            (None, None) => OnExit::Discard,
        }
    }
}
