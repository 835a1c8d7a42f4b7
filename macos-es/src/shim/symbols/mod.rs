//! The one table of functions that the shim takes the place of.
//!
//! The interpose tuples of both architectures, the entry points, and docs/MACOS.md all come from
//! [`ROWS`]. These are the functions in which libSystem enters the kernel. What is built on them
//! inside of libSystem (fopen, opendir, fts, mkstemp, removefile) calls them across its libraries,
//! and so calls the shim.

mod rows;

pub use rows::ROWS;
use vrift_policy::Operation;

/// The processor that a table is for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Arch {
    /// Intel.
    X86_64,
    /// Apple silicon: arm64, and arm64e by the same names.
    Arm64,
}

impl Arch {
    /// Both.
    pub const ALL: [Arch; 2] = [Arch::X86_64, Arch::Arm64];

    /// As lipo(1) calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
            Arch::Arm64 => "arm64",
        }
    }
}

/// What kind of call it is.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Opens a file.
    Open,
    /// stat.
    Stat,
    /// access.
    Access,
    /// readlink, realpath.
    ReadLink,
    /// Reads a directory.
    Directory,
    /// getattrlist, setattrlist.
    AttrList,
    /// Extended attributes.
    Xattr,
    /// The current directory.
    Current,
    /// Descriptors: duplicated, closed, asked for their path.
    Descriptor,
    /// exec and spawn.
    Exec,
    /// dlopen.
    Load,
    /// Makes or removes a name.
    Name,
    /// Changes what a name stands for.
    Change,
    /// Names two places.
    Transfer,
    /// Flags.
    Flags,
    /// Access control lists.
    Acl,
    /// Unix sockets' paths.
    Socket,
    /// statfs, pathconf.
    StatFs,
    /// Would go round paths, or change their meaning.
    Round,
}

impl Family {
    /// Every one.
    pub const ALL: [Family; 19] = [
        Family::Open,
        Family::Stat,
        Family::Access,
        Family::ReadLink,
        Family::Directory,
        Family::AttrList,
        Family::Xattr,
        Family::Current,
        Family::Descriptor,
        Family::Exec,
        Family::Load,
        Family::Name,
        Family::Change,
        Family::Transfer,
        Family::Flags,
        Family::Acl,
        Family::Socket,
        Family::StatFs,
        Family::Round,
    ];

    /// Its name in the documentation.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Family::Open => "open",
            Family::Stat => "stat",
            Family::Access => "access",
            Family::ReadLink => "readlink",
            Family::Directory => "directories",
            Family::AttrList => "attrlist",
            Family::Xattr => "xattr",
            Family::Current => "current directory",
            Family::Descriptor => "descriptors",
            Family::Exec => "exec and spawn",
            Family::Load => "dlopen",
            Family::Name => "names made and removed",
            Family::Change => "changes",
            Family::Transfer => "two places",
            Family::Flags => "flags",
            Family::Acl => "ACLs",
            Family::Socket => "sockets",
            Family::StatFs => "statfs",
            Family::Round => "ways round",
        }
    }
}

/// What is done where the path, or the descriptor, is a projected one.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Decided {
    /// The original call on a blob, or on what stands for a directory.
    Redirect,
    /// Answered from the manifest.
    Synthesise,
    /// Refused as by a read-only file system: EROFS, and what comes before it.
    Erofs,
    /// Refused across the edge with EXDEV, inside with EROFS.
    Exdev,
    /// The original call on a real clone of the file.
    Materialise,
    /// The original call as it came; what it changes is the shim's own knowledge, or nothing.
    Pass,
    /// Refused whatever its arguments.
    Refuse,
}

impl Decided {
    /// Every one.
    pub const ALL: [Decided; 7] = [
        Decided::Redirect,
        Decided::Synthesise,
        Decided::Erofs,
        Decided::Exdev,
        Decided::Materialise,
        Decided::Pass,
        Decided::Refuse,
    ];

    /// Its name in the documentation.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Decided::Redirect => "redirect",
            Decided::Synthesise => "synthesise",
            Decided::Erofs => "EROFS",
            Decided::Exdev => "EXDEV",
            Decided::Materialise => "materialise",
            Decided::Pass => "pass",
            Decided::Refuse => "refuse",
        }
    }
}

/// Which question of the core's the entry point puts.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// `Shim::open`.
    Open,
    /// `Shim::by_path` with this operation.
    Path(Operation),
    /// `Shim::by_descriptor` with this operation.
    Descriptor(Operation),
    /// `Shim::access`.
    Access,
    /// `Shim::listing`.
    Listing,
    /// `Shim::rename`.
    Rename,
    /// `Shim::link`.
    Link,
    /// `Shim::link_descriptor`.
    LinkDescriptor,
    /// `Shim::materialise` with this operation.
    Materialise(Operation),
    /// `Shim::path_of_descriptor`, and `Shim::duplicated` for what makes another one.
    Fcntl,
    /// `Shim::duplicated`.
    Duplicate,
    /// `Shim::closed`.
    Close,
    /// `Shim::by_path` of the path in a Unix socket's address, with this operation.
    Address(Operation),
    /// Nothing: it is made of calls that are asked about.
    Nothing,
}

/// One function, with the forms that libSystem has of it.
#[derive(Copy, Clone, Debug)]
pub struct Row {
    /// Its name, without the underscore of the symbol.
    pub name: &'static str,
    /// What kind of call it is.
    pub family: Family,
    /// What is done with a projected place.
    pub decided: Decided,
    /// What the core is asked.
    pub ask: Ask,
    /// There is a `$NOCANCEL` form, on both architectures: libc calls it.
    pub nocancel: bool,
    /// There is an `$INODE64` form, on x86_64 alone.
    pub inode64: bool,
    /// There is a `$DARWIN_EXTSN` form, on both.
    pub extsn: bool,
    /// It has variadic arguments, which arm64 passes on the stack: a naked trampoline.
    pub variadic: bool,
}

impl Row {
    /// The ends of its names on an architecture.
    pub fn suffixes(&self, arch: Arch) -> impl Iterator<Item = &'static str> {
        let inode64 = self.inode64 && arch == Arch::X86_64;
        [
            (true, ""),
            (self.nocancel, "$NOCANCEL"),
            (inode64, "$INODE64"),
            (self.extsn, "$DARWIN_EXTSN"),
        ]
        .into_iter()
        .filter_map(|(there, suffix)| there.then_some(suffix))
    }
}

/// How many functions are interposed on an architecture.
#[must_use]
pub fn count(arch: Arch) -> usize {
    ROWS.iter().map(|row| row.suffixes(arch).count()).sum()
}

/// The row of a function by its whole name, if the shim takes its place on that architecture.
#[must_use]
pub fn find(name: &str, arch: Arch) -> Option<&'static Row> {
    ROWS.iter().find(|row| {
        name.strip_prefix(row.name)
            .is_some_and(|rest| row.suffixes(arch).any(|suffix| suffix == rest))
    })
}
