//! The policy file: what it means, its defaults, and everything that is refused in it.

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;

use crate::error::PolicyError;
use crate::mount::{MountSpec, OnExit, Origin};
use crate::prefix::check_mount_point;
use crate::raw::{self, RawJob, RawMount, RawPolicy, RawRule, Source};

/// What a job may do. [`Policy::default`] is what holds without a policy file: no mounts, no
/// rules, and the safe choice everywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The job itself.
    pub job: Job,
    /// The mounts, in the order of the file.
    pub mounts: Vec<MountSpec>,
    /// The rules for real paths, in the order of the file.
    pub rules: Vec<Rule>,
    /// What becomes of system calls that could go round the supervisor.
    pub syscalls: Syscalls,
    /// What is recorded.
    pub trace: Trace,
    /// What holds on macOS alone.
    pub macos: Macos,
}

/// The `[job]` table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Job {
    /// The job's name in traces and summaries.
    pub name: Option<String>,
    /// What is done about processes that outlive the command.
    pub on_leftover: OnLeftover,
    /// How long fetching the content of one file may take, in seconds; None: nothing is said of it.
    pub fetch_timeout: Option<NonZeroU32>,
    /// How the job sees its mounts; None: nothing is said of it.
    pub view: Option<View>,
}

/// How a job sees its mounts.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum View {
    /// Each call that names a file is answered by the supervisor.
    #[default]
    Notify,
    /// A read-only file system is mounted for the job alone, and the kernel answers.
    Mount,
    /// The latter where it can be had, else the former.
    Auto,
}

/// What is done about processes that are alive after the command has ended.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnLeftover {
    /// They are killed.
    #[default]
    Kill,
    /// The job ends when the last of them has ended.
    Wait,
}

/// The `[syscalls]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Syscalls {
    /// What `io_uring_setup` answers.
    pub io_uring: IoUring,
    /// What becomes of 32-bit programs.
    pub compat32: Compat32,
    /// Whether the job runs with `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privs: bool,
}

impl Default for Syscalls {
    fn default() -> Self {
        Syscalls { io_uring: IoUring::default(), compat32: Compat32::default(), no_new_privs: true }
    }
}

/// What becomes of io_uring, whose operations no supervisor sees.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IoUring {
    /// `ENOSYS`, as on a kernel without it: programs fall back to plain calls.
    #[default]
    Enosys,
    /// It works, on real paths only, and unseen.
    Allow,
}

/// What becomes of 32-bit system calls on a 64-bit kernel.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compat32 {
    /// They are supervised as 64-bit ones are.
    #[default]
    Supervise,
    /// `ENOSYS`: 32-bit programs can't run.
    Enosys,
    /// They work, on real paths only, and unseen.
    Allow,
}

/// The `[trace]` table.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Whether files that are read are recorded.
    pub reads: bool,
    /// Whether look-ups that found nothing are recorded.
    pub probes: bool,
}

impl Default for Trace {
    fn default() -> Self {
        Trace { reads: true, probes: true }
    }
}

/// The `[macos]` table. Linux has no use for it, and reads it all the same: a file may be shared.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Macos {
    /// What becomes of programs that the loader keeps the shim out of.
    pub restricted: Restricted,
}

/// What is done with a program that macOS' loader keeps the shim out of, so that it would see no mount.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restricted {
    /// It runs, and sees no mount: Endpoint Security, where there is a client, still does.
    Observe,
    /// It runs in a clone of the tree: its directory, and those of its arguments that name something
    /// projected, are real ones then.
    #[default]
    Clone,
    /// It is not run: EPERM.
    Refuse,
}

impl Restricted {
    /// Every one.
    pub const ALL: [Restricted; 3] = [Restricted::Observe, Restricted::Clone, Restricted::Refuse];

    /// The word that a policy file uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Restricted::Observe => "observe",
            Restricted::Clone => "clone",
            Restricted::Refuse => "refuse",
        }
    }
}

/// One `[[rule]]` for real paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The patterns.
    pub paths: Vec<RulePath>,
    /// What the job may do there; None: nothing is said of it.
    pub access: Option<Access>,
    /// Whether programs there may be run; None: nothing is said of it.
    pub exec: Option<bool>,
    /// What holds the job to it besides the supervisor.
    pub enforce: Option<Enforce>,
    /// Why, in the policy's words.
    pub reason: Option<String>,
    /// Where the rule stands in the file.
    pub origin: Origin,
}

/// One pattern of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RulePath {
    /// As it was written.
    pub pattern: String,
    /// Where it stands in the file.
    pub origin: Origin,
}

/// What holds a job to a rule besides the supervisor.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Enforce {
    /// A Landlock ruleset of the kernel's, which no race can get round.
    Landlock,
}

/// What a rule lets a job do with a real path.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// `ENOENT`: as if it weren't there.
    Hide,
    /// `EACCES`.
    Deny,
    /// `EROFS` for every change.
    ReadOnly,
    /// Whatever the kernel allows.
    ReadWrite,
}

impl Access {
    /// The word that a policy file uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Access::Hide => "hide",
            Access::Deny => "deny",
            Access::ReadOnly => "read-only",
            Access::ReadWrite => "read-write",
        }
    }
}

impl Policy {
    /// Reads a policy file.
    ///
    /// # Errors
    /// One line that begins with the file's name, and with `FILE:LINE:` where a line is at fault.
    pub fn load(path: &Path) -> Result<Policy, PolicyError> {
        Policy::parse(&read_text(path)?, path)
    }

    /// Reads a policy from its text; `name` is the file's, for messages.
    ///
    /// # Errors
    /// One line, `FILE:LINE: …`, for the first thing that is wrong.
    pub fn parse(text: &str, name: &Path) -> Result<Policy, PolicyError> {
        let source = Source { text, name };
        let (policy, faults) = Policy::build(&source, raw::read(&source)?);
        match faults.into_iter().next() {
            Some(fault) => Err(fault),
            None => Ok(policy),
        }
    }

    /// What the form means, without what is at fault in it.
    pub(crate) fn build(source: &Source<'_>, raw: RawPolicy) -> (Policy, Vec<PolicyError>) {
        let file = Arc::new(source.name.to_owned());
        let mut faults = Vec::new();
        let mut mounts: Vec<MountSpec> = Vec::with_capacity(raw.mount.len());
        for raw in raw.mount {
            let (spec, span) = match mount(source, &file, raw.into_inner()) {
                Ok(mount) => mount,
                Err(fault) => {
                    faults.push(fault);
                    continue;
                }
            };
            if let Some(first) = mounts.iter().find(|other| other.at == spec.at) {
                let message = format!(
                    "{:?} is a mount point already ({}); leave one of the two out",
                    spec.at, first.origin
                );
                faults.push(source.error(span, message));
                continue;
            }
            mounts.push(spec);
        }
        let mut rules = Vec::with_capacity(raw.rule.len());
        for raw in raw.rule {
            match rule(source, &file, raw) {
                Ok(rule) => rules.push(rule),
                Err(fault) => faults.push(fault),
            }
        }
        let name = raw.job.name.map(|name| text_value(source, &name, "name")).transpose();
        let name = name.unwrap_or_else(|fault| {
            faults.push(fault);
            None
        });
        let on_leftover = raw.job.on_leftover.unwrap_or_default();
        let RawJob { fetch_timeout, view, .. } = raw.job;
        let job = Job { name, on_leftover, fetch_timeout, view };
        let usual = Syscalls::default();
        let syscalls = Syscalls {
            io_uring: raw.syscalls.io_uring.unwrap_or(usual.io_uring),
            compat32: raw.syscalls.compat32.unwrap_or(usual.compat32),
            no_new_privs: raw.syscalls.no_new_privs.unwrap_or(usual.no_new_privs),
        };
        let usual = Trace::default();
        let trace = Trace {
            reads: raw.trace.reads.unwrap_or(usual.reads),
            probes: raw.trace.probes.unwrap_or(usual.probes),
        };
        let macos = Macos { restricted: raw.macos.restricted.unwrap_or_default() };
        (Policy { job, mounts, rules, syscalls, trace, macos }, faults)
    }

    /// Everything this policy asks for that this release does not do: one line for each use, with
    /// its place and what works instead. A job must not start unless this is empty, or it would
    /// run with less than its policy asks for.
    #[must_use]
    pub fn unsupported(&self) -> Vec<String> {
        self.mounts.iter().flat_map(MountSpec::unsupported).collect()
    }
}

/// The text of a policy file.
pub(crate) fn read_text(path: &Path) -> Result<String, PolicyError> {
    let bytes = std::fs::read(path)
        .map_err(|source| PolicyError::Read { path: path.to_owned(), source })?;
    String::from_utf8(bytes).map_err(|error| {
        let (good, _) = error.as_bytes().split_at(error.utf8_error().valid_up_to());
        PolicyError::Invalid {
            file: path.to_owned(),
            line: 1 + good.iter().filter(|byte| **byte == b'\n').count(),
            message: "a byte that is not UTF-8; TOML is UTF-8 (a name that isn't can be given by \
                      --mount)"
                .to_owned(),
        }
    })
}

fn mount(
    source: &Source<'_>,
    file: &Arc<PathBuf>,
    raw: RawMount,
) -> Result<(MountSpec, std::ops::Range<usize>), PolicyError> {
    let span = raw.at.span();
    let at = PathBuf::from(raw.at.into_inner());
    check_mount_point(&at).map_err(|error| source.error(span.clone(), error.to_string()))?;
    let manifest = OsString::from(text_value(source, &raw.manifest, "manifest")?);
    let upper = raw.upper.map(|upper| text_value(source, &upper, "upper")).transpose()?;
    let on_exit = raw.on_exit.map(|text| on_exit(source, &text)).transpose()?;
    let origin = Origin::File { name: Arc::clone(file), line: source.line(span.start) };
    let upper = upper.map(PathBuf::from);
    Ok((MountSpec { at, manifest, mode: raw.mode, upper, on_exit, origin }, span))
}

fn rule(
    source: &Source<'_>,
    file: &Arc<PathBuf>,
    raw: Spanned<RawRule>,
) -> Result<Rule, PolicyError> {
    let span = raw.span();
    let origin = |at: usize| Origin::File { name: Arc::clone(file), line: source.line(at) };
    let RawRule { paths, access, exec, enforce, reason } = raw.into_inner();
    if paths.get_ref().is_empty() {
        return Err(source.error(paths.span(), "`paths` is empty; name at least one path"));
    }
    if access.is_none() && exec.is_none() {
        let message = "the rule says nothing; give it `access`, or `exec`";
        return Err(source.error(span, message));
    }
    if let Some(enforce) = &enforce
        && (access == Some(Access::Hide)
            || !(matches!(access, Some(Access::Deny | Access::ReadOnly)) || exec == Some(false)))
    {
        let message = "Landlock can only deny and keep from writing and running; use it with \
                       `access = \"deny\"`, `access = \"read-only\"` or `exec = false`";
        return Err(source.error(enforce.span(), message));
    }
    let texts = paths.into_inner().into_iter();
    let paths = texts.map(|text| {
        let pattern = text_value(source, &text, "paths")?;
        Ok(RulePath { pattern, origin: origin(text.span().start) })
    });
    let paths = paths.collect::<Result<_, _>>()?;
    let enforce = enforce.map(Spanned::into_inner);
    Ok(Rule { paths, access, exec, enforce, reason, origin: origin(span.start) })
}

/// A text that must say something and that the kernel can be given.
fn text_value(
    source: &Source<'_>,
    text: &Spanned<String>,
    key: &str,
) -> Result<String, PolicyError> {
    let value = text.get_ref();
    if value.is_empty() {
        return Err(source.error(text.span(), format!("`{key}` is empty; give it a value")));
    }
    if value.contains('\0') {
        return Err(source.error(text.span(), format!("`{key}` holds a NUL byte; leave it out")));
    }
    Ok(value.clone())
}

fn on_exit(source: &Source<'_>, text: &Spanned<String>) -> Result<OnExit, PolicyError> {
    match text.get_ref().as_str() {
        "discard" => Ok(OnExit::Discard),
        "keep" => Ok(OnExit::Keep),
        other => match other.strip_prefix("commit:") {
            Some(name) if !name.is_empty() => Ok(OnExit::Commit(name.to_owned())),
            _ => Err(source.error(
                text.span(),
                format!("unknown value {other:?} of `on_exit`; known here: `discard`, `keep`, `commit:REF`"),
            )),
        },
    }
}
