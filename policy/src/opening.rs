//! What an open asks for, whatever the system's flags are called, and its name in the table.

use crate::{Operation, Target};

/// The flags of an open that decide about it.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Opening {
    /// `O_WRONLY` or `O_RDWR`.
    pub write: bool,
    /// `O_CREAT`.
    pub create: bool,
    /// `O_EXCL`.
    pub exclusive: bool,
    /// `O_TRUNC`.
    pub truncate: bool,
    /// `O_DIRECTORY`.
    pub directory: bool,
    /// Linux's `O_TMPFILE`.
    pub temporary: bool,
    /// What is there is not opened for its content: Linux's `O_PATH`.
    pub path_only: bool,
}

impl Opening {
    /// The call's name in the decision table, where `target` is found.
    #[must_use]
    pub const fn operation(self, target: Target) -> Operation {
        if self.path_only {
            if self.directory { Operation::List } else { Operation::OpenPath }
        } else if self.temporary {
            Operation::MakeTempFile
        } else if self.create && self.exclusive {
            Operation::CreateExclusive
        } else if self.create {
            if self.truncate {
                Operation::CreateTruncate
            } else if self.write {
                Operation::CreateWrite
            } else {
                Operation::CreateFile
            }
        } else if self.directory
            && matches!(target, Target::File | Target::Symlink | Target::Missing)
        {
            Operation::List
        } else if self.truncate {
            Operation::OpenTruncate
        } else if self.write {
            Operation::OpenWrite
        } else {
            Operation::Read
        }
    }

    /// Could it change anything at all?
    #[must_use]
    pub const fn changes(self) -> bool {
        !self.path_only && (self.write || self.create || self.truncate || self.temporary)
    }
}
