//! What a trace is made of: one event to a line. docs/TRACE.md says what each key means, and
//! docs/trace.schema.json what each line looks like.
//!
//! A key that does not apply is left out. Within a version keys may be added; a new event, or
//! another meaning, is a new version.

use crate::text::Text;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use vrift_policy::Origin;

/// The version of a trace without [`Event::Syscall`].
pub const VERSION: u32 = 1;

/// The version of one with them.
pub const VERSION_OF_SYSCALLS: u32 = 2;

/// A word of a fixed vocabulary: a system call's name, an errno's.
pub type Word = Cow<'static, str>;

/// One line.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// The job begins: always the first line.
    Job(Job),
    /// A process is heard of for the first time.
    Start(Start),
    /// A call did, or tried, something with a path.
    Op(Box<Op>),
    /// A process made a system call that it had not made before.
    Syscall(Syscall),
    /// A process has ended.
    Exit(Exit),
    /// The job has ended: the last line of a trace that is whole.
    End(End),
}

/// The job.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Job {
    /// [`VERSION`] or [`VERSION_OF_SYSCALLS`].
    pub version: u32,
    /// Who wrote it, with its version.
    pub program: String,
    /// When, in milliseconds since 1970.
    pub began: u64,
    /// The command and its arguments.
    pub command: Vec<Text>,
    /// Its working directory.
    pub cwd: Text,
    /// What the policy calls the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `uname -r`.
    pub kernel: String,
    /// `uname -m`.
    pub machine: String,
    /// What is projected.
    pub mounts: Vec<Mount>,
    /// Are files that are read recorded?
    pub reads: bool,
    /// Are look-ups that found nothing?
    pub probes: bool,
}

/// A mount of the job.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Mount {
    /// The mount point.
    pub at: Text,
    /// What is mounted, as it was asked for: a ref, a hash, a file.
    pub manifest: Text,
    /// The manifest's hash.
    pub hash: String,
    /// `read-only`, `copy-on-write` or `overlay`.
    pub mode: String,
    /// Where it was asked for.
    #[serde(flatten)]
    pub rule: Rule,
}

/// Where something was asked for: a line of a policy file, or an argument.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Rule {
    /// The policy file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<Text>,
    /// The line in it, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The argument of `vrift-trace`, without its value's option.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argument: Option<Text>,
}

impl Rule {
    /// As an event holds it.
    #[must_use]
    pub fn of(origin: &Origin) -> Rule {
        match origin {
            Origin::File { name, line } => Rule {
                file: Some(name.as_os_str().as_bytes().into()),
                line: Some(*line as u64),
                argument: None,
            },
            Origin::Argument(text) => {
                Rule { argument: Some(text.as_bytes().into()), ..Rule::default() }
            }
        }
    }
}

impl fmt::Display for Rule {
    /// `vrift.toml:7`, or `-m /vrift=deps`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, &self.argument) {
            (Some(file), _) => write!(f, "{}:{}", file.shown(), self.line.unwrap_or(0)),
            (None, Some(argument)) => write!(f, "-m {}", argument.shown()),
            (None, None) => f.write_str("no rule"),
        }
    }
}

/// A process.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Start {
    /// Nanoseconds since the job began.
    pub t: u64,
    /// Its number in this trace, from 1; unlike a pid never given again.
    pub process: u32,
    /// Its process id.
    pub pid: i32,
    /// Its parent's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<u32>,
}

/// A call of a process, told once with each value of the argument that matters.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Syscall {
    /// When it was first made, in nanoseconds since the job began.
    pub t: u64,
    /// The process.
    pub process: u32,
    /// The call's name.
    pub call: Word,
    /// The architecture, if it is not the machine's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arch: Option<Word>,
    /// Which argument `value` is, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u8>,
    /// The argument, 32 bits wide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<u32>,
}

/// What a call did with a path.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Opened for reading, or the old name of a link.
    Read,
    /// Opened for writing, or changed: content, mode, owner, times, attributes.
    Write,
    /// Made.
    Create,
    /// Removed, or the old name of a rename.
    Delete,
    /// A directory opened.
    List,
    /// Looked up, and nothing was there.
    Probe,
    /// Looked up: stat, access, readlink, chdir, connect.
    Stat,
    /// Run as a program.
    Exec,
    /// A lock or a lease was asked for.
    Lock,
}

impl Access {
    /// Every one, in the order of the documentation.
    pub const ALL: [Access; 9] = [
        Access::Read,
        Access::Write,
        Access::Create,
        Access::Delete,
        Access::List,
        Access::Probe,
        Access::Stat,
        Access::Exec,
        Access::Lock,
    ];

    /// The word in a trace.
    pub fn word(self) -> &'static str {
        match self {
            Access::Read => "read",
            Access::Write => "write",
            Access::Create => "create",
            Access::Delete => "delete",
            Access::List => "list",
            Access::Probe => "probe",
            Access::Stat => "stat",
            Access::Exec => "exec",
            Access::Lock => "lock",
        }
    }
}

/// What stands at a path.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Link,
    /// A device, a fifo, a socket.
    Other,
}

/// What one call did with one path. Calls with two paths (rename, link) make two events with the
/// same `n`: first the old name, then the new one.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Op {
    /// Nanoseconds since the job began, when the call was received.
    pub t: u64,
    /// The call's number in this trace, from 1, in the order in which calls were received.
    pub n: u64,
    /// The process.
    pub process: u32,
    /// The system call.
    pub call: Word,
    /// What it did.
    pub access: Access,
    /// The path as the process gave it; left out for calls by descriptor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<Text>,
    /// The absolute path, links resolved, where it is another text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<Text>,
    /// The mount point that it lies in; left out for a real path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount: Option<Text>,
    /// What stands there; left out where nothing does, or nobody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// Of access(2): which of `r`, `w` and `x` it asked for; left out where that is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asks: Option<Word>,
    /// Outside of mounts: symbolic links that the way led through, and directories that it left by
    /// `..`. Not told again where the supervisor knows another name of a directory by then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub through: Vec<Text>,
    /// With `write`: what was there can be read through the descriptor too.
    #[serde(default, skip_serializing_if = "is_false")]
    pub reads: bool,
    /// The errno; left out when the call did not fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub err: Option<Word>,
    /// The call went on in the kernel, and the result is what a look just before says.
    #[serde(default, skip_serializing_if = "is_false")]
    pub looked: bool,
    /// The hash of the content, for a file of a mount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob: Option<String>,
    /// Why it was refused, if it was vrift-trace who did so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refused>,
    /// With `exec`: what was run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<Exec>,
}

impl Op {
    /// The absolute path, as far as it is known; empty when nothing is.
    pub fn place(&self) -> &[u8] {
        self.resolved.as_ref().or(self.path.as_ref()).map_or(b"", Text::as_bytes)
    }
}

/// Why a call was refused.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Refused {
    /// What says so.
    #[serde(flatten)]
    pub rule: Rule,
    /// In words.
    pub why: String,
}

/// A program that a process became.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Exec {
    /// Its arguments, `argv[0]` first.
    pub argv: Vec<Text>,
    /// The BLAKE3 hash of its environment: the strings in byte order, each with a NUL.
    pub env: String,
    /// Its working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<Text>,
    /// What the kernel opens besides, unseen: `#!` and program interpreters, links resolved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interpreters: Vec<Text>,
    /// The arguments are longer than two mebibytes, and the rest is left out.
    #[serde(default, skip_serializing_if = "is_false")]
    pub cut: bool,
}

/// A process's end.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Exit {
    /// Nanoseconds since the job began, when it was noticed.
    pub t: u64,
    /// The process.
    pub process: u32,
    /// Its exit status, where it exited and that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<i32>,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
}

/// The job's end.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct End {
    /// Nanoseconds since the job began.
    pub t: u64,
    /// The exit status that vrift-trace ends with.
    pub status: u8,
    /// How many lines are before this one.
    pub events: u64,
    /// Processes that outlived the command and were ended.
    pub ended: u32,
    /// The supervisor's processor time, in milliseconds.
    pub supervision_ms: u64,
    /// Events that the system dropped before they were seen: the trace is not all that happened.
    /// The Linux supervisor loses none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference over")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference over")]
fn is_false(value: &bool) -> bool {
    !*value
}
