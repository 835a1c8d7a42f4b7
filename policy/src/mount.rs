//! One mount as a policy file or a `--mount` argument asks for it, before any manifest is looked up.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;

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

/// Where a mount was asked for, to begin an error message with.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// What becomes of the changes; `None` when nothing was said, which means [`OnExit::Discard`].
    pub on_exit: Option<OnExit>,
    /// Where this was asked for.
    pub origin: Origin,
}

impl MountSpec {
    /// What this mount asks for that this release does not do: one line for each use, beginning
    /// with the place and ending with what works instead. Empty when the mount can be made.
    #[must_use]
    pub fn unsupported(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        let origin = &self.origin;
        if self.mode != Mode::ReadOnly {
            reasons.push(format!(
                "{origin}: mode \"{}\" is not built in this release; use \"read-only\", and let \
                 the job write to a directory outside the mount",
                self.mode
            ));
        }
        if let Some(upper) = &self.upper {
            reasons.push(format!(
                "{origin}: upper \"{}\" is not built in this release, because no writable mode \
                 is; leave it out",
                upper.display()
            ));
        }
        if let Some(on_exit) = &self.on_exit {
            let what = match on_exit {
                OnExit::Discard => "on_exit \"discard\"".to_owned(),
                OnExit::Keep => "on_exit \"keep\"".to_owned(),
                OnExit::Commit(name) => format!("on_exit \"commit:{name}\""),
            };
            reasons.push(format!(
                "{origin}: {what} is not built in this release, because a read-only mount has \
                 nothing to keep; leave it out"
            ));
        }
        reasons
    }
}
