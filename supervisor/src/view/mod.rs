//! The mount view: a job sees its mounts as file systems that are mounted for it alone.
//!
//! Without it each call that names a file is answered by the supervisor. With it the job's first
//! process makes itself a mount namespace ([`mounting`]), and the supervisor serves a FUSE file
//! system there for each mount ([`server`]). What a manifest says never changes, so the kernel may
//! keep all that it was told: a path that was looked up once costs what it costs on a disk. The
//! filter asks only about what would uncover what is mounted over, and about calls that act on the
//! supervisor.
//!
//! It is the same projection, and its changes ([`changes`]) go to the same overlay. What isn't there is
//! refused before the job starts ([`fits`]). Where there are rules for real paths, or a trace is asked
//! for, the filter asks about what they need, as in a job without mounts.

mod aliases;
mod attributes;
mod changes;
mod contents;
mod held;
mod mounting;
mod server;
mod told;
mod tree;

pub use mounting::{Failed, Mounting};
pub use server::serve;

use std::path::Path;
use vrift_policy::{Mode, MountSpec, Policy};

/// How the mounts of a job are seen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Seen {
    /// By the supervisor's answers. `instead`: why not as file systems, which were asked for.
    Notified {
        /// In one line.
        instead: Option<String>,
    },
    /// As file systems of the job's own.
    Mounted,
}

impl Seen {
    /// The word for it, as in the policy.
    pub fn name(&self) -> &'static str {
        match self {
            Seen::Notified { .. } => "notify",
            Seen::Mounted => "mount",
        }
    }
}

/// Whether a job of this kind can have its mounts as file systems.
///
/// # Errors
/// Why not, and what to do.
pub fn fits(policy: &Policy, specs: &[MountSpec]) -> Result<(), String> {
    if let Some(rule) = policy.rules.iter().find(|rule| rule.enforce.is_some()) {
        return Err(format!(
            "{}: the rule is enforced by the kernel, which would take what is mounted for what lies \
             below; leave out `enforce`, or use --view notify",
            rule.origin
        ));
    }
    for spec in specs {
        let at = spec.at.display();
        if spec.mode == Mode::CopyOnWrite {
            return Err(format!(
                "mount at {at}: only what is read-only or an overlay can be mounted, and this is {}; use \
                 --view notify",
                spec.mode
            ));
        }
        // In another mount a directory is made up where there is none.
        let within = |outer: &MountSpec| outer.at != spec.at && spec.at.starts_with(&outer.at);
        if !specs.iter().any(within) {
            there(&spec.at)?;
        }
    }
    Ok(())
}

/// A file system needs a directory to be mounted on.
fn there(at: &Path) -> Result<(), String> {
    match std::fs::metadata(at) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => Err(format!("mount at {}: there is a file; name a directory", at.display())),
        Err(e) => Err(format!(
            "mount at {}: a file system needs a directory that is there ({e}); make it, or use \
             --view notify",
            at.display()
        )),
    }
}
