//! An event as this program holds it: plain data, owned, without a pointer into a message.
//!
//! The words are those of `EndpointSecurity/ESMessage.h`.

/// A process, as no other was or will be until the machine starts anew: a pid is given again, and
/// its version counts each exec.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessKey {
    /// `audit_token_to_pid`.
    pub pid: i32,
    /// `audit_token_to_pidversion`.
    pub version: u32,
}

/// `es_process_t`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Which one.
    pub key: ProcessKey,
    /// Its parent's pid.
    pub parent: i32,
    /// The path of its program.
    pub executable: Vec<u8>,
    /// Apple's own: it ignores `DYLD_INSERT_LIBRARIES`.
    pub platform: bool,
    /// An Endpoint Security client; this program is one.
    pub client: bool,
    /// `codesigning_flags`.
    pub signing: u32,
}

/// `CS_RESTRICT`, `CS_RUNTIME` and their like (`bsd/sys/codesign.h`).
const CS_RESTRICT: u32 = 0x800;
const CS_REQUIRE_LV: u32 = 0x2000;
const CS_RUNTIME: u32 = 0x1_0000;

impl Process {
    /// Does the loader refuse the shim there? By the flags alone: a hardened program may still have
    /// the entitlement that lets libraries in, which only its signature tells.
    #[must_use]
    pub const fn refuses_shim(&self) -> bool {
        self.platform || self.signing & (CS_RESTRICT | CS_REQUIRE_LV | CS_RUNTIME) != 0
    }
}

/// A file that an event names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its absolute path, links resolved.
    pub path: Vec<u8>,
    /// The path is longer than ES tells.
    pub truncated: bool,
    /// The bits of `S_IFMT` of its `st_mode`; 0: not told.
    pub kind: u32,
}

impl File {
    /// A directory.
    pub const DIRECTORY: u32 = 0o040_000;
    /// A regular file.
    pub const REGULAR: u32 = 0o100_000;
    /// A symbolic link.
    pub const LINK: u32 = 0o120_000;
}

/// Why ES tells of it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It asks, and waits for a reply.
    Auth,
    /// It tells.
    Notify,
}

/// What a file is asked about, by an event that changes nothing.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// access: the rights asked for.
    Access(u32),
    /// stat.
    Stat,
    /// readlink.
    ReadLink,
    /// readdir.
    List,
    /// chdir.
    Enter,
    /// getextattr, listextattr.
    Xattr,
    /// getattrlist, fsgetpath.
    Attributes,
    /// uipc_connect.
    Connect,
    /// mmap: it may be run from there.
    Map,
}

/// What a change does to what its file is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// truncate.
    Truncate,
    /// setmode: chmod.
    Mode,
    /// setowner: chown.
    Owner,
    /// utimes.
    Times,
    /// setflags: chflags.
    Flags,
    /// setextattr, deleteextattr.
    Xattr,
    /// setacl.
    Acl,
    /// setattrlist.
    Attributes,
    /// write: the first write through a descriptor. Told, never asked.
    Write,
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// open of a file that is there, with the kernel's flags ([`FREAD`](super::decide::FREAD) and
    /// so on, not `O_RDONLY`).
    Open(File, u32),
    /// close; whether it was modified.
    Close(File, bool),
    /// create: open, mkdir, mknod, mkfifo, symlink, bind. What is made, or was there and is replaced.
    Create(File),
    /// rename.
    Rename(File, File),
    /// unlink, rmdir.
    Unlink(File),
    /// link: what is there, and the new name.
    Link(File, File),
    /// clone, copyfile: what is there, and the new name.
    Clone(File, File),
    /// exchangedata.
    Exchange(File, File),
    /// What a name stands for is changed.
    Change(Change, File),
    /// Somebody looks.
    Look(Look, File),
    /// exec: the process that it becomes, the arguments, the directory, the script.
    Exec {
        /// What the process is afterwards.
        target: Process,
        /// The file that is run.
        file: File,
        /// Its arguments.
        args: Vec<Vec<u8>>,
        /// Its environment.
        env: Vec<Vec<u8>>,
        /// Its directory, where it is told.
        cwd: Option<Vec<u8>>,
        /// The script, if an interpreter was started for one.
        script: Option<Vec<u8>>,
    },
    /// fork: the new process.
    Fork(Process),
    /// exit: the status as wait(2) gives it.
    Exit(i32),
    /// mount, unmount: where.
    Mount(Vec<u8>),
    /// An event that this program does not know, by its name.
    Unknown(String),
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EsEvent {
    /// Asked or told.
    pub action: Action,
    /// Which of this program's clients was told, from 0. Each counts its events by itself.
    pub client: u8,
    /// The event's name as eslogger has it: `open`, `rename`. Sequence numbers are counted by it.
    pub name: String,
    /// `seq_num`: one for each client and kind of event.
    pub seq: Option<u64>,
    /// `global_seq_num`: one for each client. Not before message version 4.
    pub global_seq: Option<u64>,
    /// When, in nanoseconds of the machine's clock.
    pub at: u64,
    /// By when it has to be answered, by the same clock; None where it is only told.
    pub deadline: Option<u64>,
    /// Who.
    pub process: Process,
    /// What.
    pub what: What,
}

impl What {
    /// The files that it names, the one that is there first.
    #[must_use]
    pub fn files(&self) -> (Option<&File>, Option<&File>) {
        match self {
            What::Open(file, _)
            | What::Close(file, _)
            | What::Create(file)
            | What::Unlink(file)
            | What::Change(_, file)
            | What::Look(_, file)
            | What::Exec { file, .. } => (Some(file), None),
            What::Rename(from, to)
            | What::Link(from, to)
            | What::Clone(from, to)
            | What::Exchange(from, to) => (Some(from), Some(to)),
            What::Fork(_) | What::Exit(_) | What::Mount(_) | What::Unknown(_) => (None, None),
        }
    }
}
