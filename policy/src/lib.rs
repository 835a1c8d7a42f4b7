//! What a job may do: the policy file, the `--mount` argument, and the one decision table.
//!
//! Text and paths flow in, decisions flow out. Nothing here does I/O, except that
//! [`Policy::load`] reads the one file it is given; nothing here knows of processes, manifests or
//! system call numbers. Every answer that a job gets because of a policy comes from
//! [`decide`], [`decide_rename`], [`decide_link`] or, for real paths, [`decide_rule`], so that there is one place to read, to test
//! and to explain.

#![forbid(unsafe_code)]

mod check;
mod decision;
mod errno;
mod error;
mod file;
mod mount;
mod mount_arg;
mod opening;
mod prefix;
mod raw;
mod rules;
mod schema;
mod shown;
mod suggest;
mod transfer;

pub use check::{Finding, Severity, check};
pub use decision::{Operation, Outcome, Permission, Target, decide};
pub use errno::Errno;
pub use error::{MountArgError, PolicyError};
pub use file::{
    Access, Compat32, Enforce, IoUring, Job, Macos, OnLeftover, Policy, Restricted, Rule, RulePath,
    Syscalls, Trace, View,
};
pub use mount::{Mode, MountSpec, OnExit, Origin};
pub use opening::Opening;
pub use prefix::{MAX_COMPONENT, MAX_MOUNT_POINT, PrefixError, check_mount_point};
pub use rules::{
    Grant, Pattern, RealTarget, Rules, Spoken, Surroundings, Verdict, decide_exec, decide_rule,
    decide_rule_link, decide_rule_rename,
};
pub use schema::SCHEMA;
pub use transfer::{RenameFlags, Side, decide_link, decide_rename};
