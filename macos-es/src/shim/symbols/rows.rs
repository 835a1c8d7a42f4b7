//! The rows.

use super::{Ask, Decided, Family, Row};
use vrift_policy::Operation as O;

const fn row(family: Family, name: &'static str, decided: Decided, ask: Ask) -> Row {
    Row {
        name,
        family,
        decided,
        ask,
        nocancel: false,
        inode64: false,
        extsn: false,
        variadic: false,
    }
}

impl Row {
    const fn nocancel(self) -> Row {
        Row { nocancel: true, ..self }
    }

    const fn inode64(self) -> Row {
        Row { inode64: true, ..self }
    }

    const fn extsn(self) -> Row {
        Row { extsn: true, ..self }
    }

    const fn variadic(self) -> Row {
        Row { variadic: true, ..self }
    }
}

const fn open(name: &'static str) -> Row {
    row(Family::Open, name, Decided::Redirect, Ask::Open)
}

const fn looks(family: Family, name: &'static str, operation: O) -> Row {
    row(family, name, Decided::Synthesise, Ask::Path(operation))
}

const fn fd_looks(family: Family, name: &'static str, operation: O) -> Row {
    row(family, name, Decided::Synthesise, Ask::Descriptor(operation))
}

const fn changes(family: Family, name: &'static str, operation: O) -> Row {
    row(family, name, Decided::Erofs, Ask::Path(operation))
}

const fn fd_changes(family: Family, name: &'static str, operation: O) -> Row {
    row(family, name, Decided::Erofs, Ask::Descriptor(operation))
}

const fn enters(name: &'static str) -> Row {
    row(Family::Current, name, Decided::Redirect, Ask::Path(O::EnterDirectory))
}

const fn fd_enters(name: &'static str) -> Row {
    row(Family::Current, name, Decided::Redirect, Ask::Descriptor(O::EnterDirectory))
}

const fn lists(name: &'static str) -> Row {
    row(Family::Directory, name, Decided::Synthesise, Ask::Listing)
}

const fn runs(name: &'static str) -> Row {
    row(Family::Exec, name, Decided::Materialise, Ask::Materialise(O::Execute))
}

const fn loads(name: &'static str) -> Row {
    row(Family::Load, name, Decided::Materialise, Ask::Materialise(O::Read))
}

const fn transfer(name: &'static str, ask: Ask) -> Row {
    row(Family::Transfer, name, Decided::Exdev, ask)
}

const fn sends(name: &'static str, decided: Decided, operation: O) -> Row {
    row(Family::Socket, name, decided, Ask::Address(operation))
}

const fn refused(name: &'static str) -> Row {
    row(Family::Round, name, Decided::Refuse, Ask::Nothing)
}

/// Every function, by family.
pub const ROWS: &[Row] = &[
    open("open").nocancel().variadic(),
    open("openat").nocancel().variadic(),
    open("creat").nocancel(),
    open("open_dprotected_np").variadic(),
    open("openat_dprotected_np").variadic(),
    open("openat_authenticated_np"),
    open("openx_np"),
    open("guarded_open_np").variadic(),
    open("guarded_open_dprotected_np").variadic(),
    open("__open_extended"),
    looks(Family::Stat, "stat", O::Stat).inode64(),
    looks(Family::Stat, "lstat", O::Stat).inode64(),
    fd_looks(Family::Stat, "fstat", O::Stat).inode64(),
    looks(Family::Stat, "fstatat", O::Stat).inode64(),
    looks(Family::Stat, "stat64", O::Stat),
    looks(Family::Stat, "lstat64", O::Stat),
    fd_looks(Family::Stat, "fstat64", O::Stat),
    looks(Family::Stat, "fstatat64", O::Stat),
    looks(Family::Stat, "statx_np", O::Stat).inode64(),
    looks(Family::Stat, "lstatx_np", O::Stat).inode64(),
    fd_looks(Family::Stat, "fstatx_np", O::Stat).inode64(),
    row(Family::Access, "access", Decided::Synthesise, Ask::Access),
    row(Family::Access, "faccessat", Decided::Synthesise, Ask::Access),
    row(Family::Access, "accessx_np", Decided::Synthesise, Ask::Access),
    looks(Family::ReadLink, "readlink", O::ReadLink),
    looks(Family::ReadLink, "readlinkat", O::ReadLink),
    fd_looks(Family::ReadLink, "freadlink", O::ReadLink),
    looks(Family::ReadLink, "realpath", O::Stat).extsn(),
    lists("getdirentries"),
    lists("__getdirentries64"),
    row(Family::Directory, "getdirentriesattr", Decided::Refuse, Ask::Listing),
    row(Family::Directory, "getattrlistbulk", Decided::Refuse, Ask::Listing),
    // A catalogue search of a whole volume: no mount is one.
    row(Family::Directory, "searchfs", Decided::Refuse, Ask::Path(O::MakeHandle)),
    // ENOTSUP, and who asks goes by stat.
    row(Family::AttrList, "getattrlist", Decided::Refuse, Ask::Path(O::Stat)),
    row(Family::AttrList, "getattrlistat", Decided::Refuse, Ask::Path(O::Stat)),
    row(Family::AttrList, "fgetattrlist", Decided::Refuse, Ask::Descriptor(O::Stat)),
    changes(Family::AttrList, "setattrlist", O::ChangeTimes),
    changes(Family::AttrList, "setattrlistat", O::ChangeTimes),
    fd_changes(Family::AttrList, "fsetattrlist", O::ChangeTimes),
    looks(Family::Xattr, "getxattr", O::GetXattr),
    fd_looks(Family::Xattr, "fgetxattr", O::GetXattr),
    looks(Family::Xattr, "listxattr", O::GetXattr),
    fd_looks(Family::Xattr, "flistxattr", O::GetXattr),
    changes(Family::Xattr, "setxattr", O::SetXattr),
    fd_changes(Family::Xattr, "fsetxattr", O::SetXattr),
    changes(Family::Xattr, "removexattr", O::RemoveXattr),
    fd_changes(Family::Xattr, "fremovexattr", O::RemoveXattr),
    enters("chdir"),
    fd_enters("fchdir"),
    enters("pthread_chdir_np"),
    fd_enters("pthread_fchdir_np"),
    enters("__pthread_chdir"),
    fd_enters("__pthread_fchdir"),
    row(Family::Descriptor, "fcntl", Decided::Synthesise, Ask::Fcntl).nocancel().variadic(),
    row(Family::Descriptor, "dup", Decided::Pass, Ask::Duplicate),
    row(Family::Descriptor, "dup2", Decided::Pass, Ask::Duplicate),
    row(Family::Descriptor, "close", Decided::Pass, Ask::Close).nocancel(),
    row(Family::Descriptor, "guarded_close_np", Decided::Pass, Ask::Close),
    runs("execve"),
    runs("posix_spawn"),
    runs("posix_spawnp"),
    row(Family::Exec, "posix_spawn_file_actions_addopen", Decided::Redirect, Ask::Open),
    row(
        Family::Exec,
        "posix_spawn_file_actions_addchdir",
        Decided::Redirect,
        Ask::Path(O::EnterDirectory),
    ),
    row(
        Family::Exec,
        "posix_spawn_file_actions_addchdir_np",
        Decided::Redirect,
        Ask::Path(O::EnterDirectory),
    ),
    loads("dlopen"),
    loads("dlopen_preflight"),
    loads("dlopen_from"),
    changes(Family::Name, "mkdir", O::MakeDirectory),
    changes(Family::Name, "mkdirat", O::MakeDirectory),
    changes(Family::Name, "mkdirx_np", O::MakeDirectory),
    changes(Family::Name, "mkfifo", O::MakeNode),
    changes(Family::Name, "mkfifoat", O::MakeNode),
    changes(Family::Name, "mkfifox_np", O::MakeNode),
    changes(Family::Name, "mknod", O::MakeNode),
    changes(Family::Name, "mknodat", O::MakeNode),
    changes(Family::Name, "symlink", O::MakeSymlink),
    changes(Family::Name, "symlinkat", O::MakeSymlink),
    changes(Family::Name, "unlink", O::Unlink),
    changes(Family::Name, "unlinkat", O::Unlink),
    changes(Family::Name, "rmdir", O::RemoveDirectory),
    changes(Family::Name, "undelete", O::Unlink),
    changes(Family::Change, "truncate", O::Truncate),
    changes(Family::Change, "chmod", O::ChangeMode),
    fd_changes(Family::Change, "fchmod", O::ChangeMode),
    changes(Family::Change, "fchmodat", O::ChangeMode),
    changes(Family::Change, "lchmod", O::ChangeMode),
    changes(Family::Change, "chmodx_np", O::ChangeMode),
    fd_changes(Family::Change, "fchmodx_np", O::ChangeMode),
    changes(Family::Change, "chown", O::ChangeOwner),
    changes(Family::Change, "lchown", O::ChangeOwner),
    fd_changes(Family::Change, "fchown", O::ChangeOwner),
    changes(Family::Change, "fchownat", O::ChangeOwner),
    changes(Family::Change, "utimes", O::ChangeTimes),
    changes(Family::Change, "lutimes", O::ChangeTimes),
    fd_changes(Family::Change, "futimes", O::ChangeTimes),
    changes(Family::Change, "utimensat", O::ChangeTimes),
    fd_changes(Family::Change, "futimens", O::ChangeTimes),
    changes(Family::Change, "fsctl", O::SetFlags),
    fd_changes(Family::Change, "ffsctl", O::SetFlags),
    transfer("rename", Ask::Rename),
    transfer("renameat", Ask::Rename),
    transfer("renamex_np", Ask::Rename),
    transfer("renameatx_np", Ask::Rename),
    transfer("rename_ext", Ask::Rename),
    transfer("link", Ask::Link),
    transfer("linkat", Ask::Link),
    transfer("clonefile", Ask::Link),
    transfer("clonefileat", Ask::Link),
    transfer("fclonefileat", Ask::LinkDescriptor),
    transfer("exchangedata", Ask::Rename),
    // They try clonefile, and on EXDEV open and copy.
    row(Family::Transfer, "copyfile", Decided::Pass, Ask::Nothing),
    row(Family::Transfer, "fcopyfile", Decided::Pass, Ask::Nothing),
    changes(Family::Flags, "chflags", O::SetFlags),
    changes(Family::Flags, "lchflags", O::SetFlags),
    fd_changes(Family::Flags, "fchflags", O::SetFlags),
    looks(Family::Acl, "acl_get_file", O::Stat),
    looks(Family::Acl, "acl_get_link_np", O::Stat),
    fd_looks(Family::Acl, "acl_get_fd", O::Stat),
    fd_looks(Family::Acl, "acl_get_fd_np", O::Stat),
    changes(Family::Acl, "acl_set_file", O::ChangeMode),
    changes(Family::Acl, "acl_set_link_np", O::ChangeMode),
    fd_changes(Family::Acl, "acl_set_fd", O::ChangeMode),
    fd_changes(Family::Acl, "acl_set_fd_np", O::ChangeMode),
    changes(Family::Acl, "acl_delete_def_file", O::ChangeMode),
    changes(Family::Acl, "acl_delete_file_np", O::ChangeMode),
    changes(Family::Acl, "acl_delete_link_np", O::ChangeMode),
    fd_changes(Family::Acl, "acl_delete_fd_np", O::ChangeMode),
    sends("bind", Decided::Erofs, O::BindSocket),
    sends("connect", Decided::Synthesise, O::ConnectSocket).nocancel(),
    sends("connectx", Decided::Synthesise, O::ConnectSocket),
    sends("sendto", Decided::Synthesise, O::ConnectSocket).nocancel(),
    sends("sendmsg", Decided::Synthesise, O::ConnectSocket).nocancel(),
    sends("sendmsg_x", Decided::Synthesise, O::ConnectSocket),
    looks(Family::StatFs, "statfs", O::StatFs).inode64(),
    fd_looks(Family::StatFs, "fstatfs", O::StatFs).inode64(),
    looks(Family::StatFs, "statfs64", O::StatFs),
    fd_looks(Family::StatFs, "fstatfs64", O::StatFs),
    looks(Family::StatFs, "pathconf", O::Stat),
    fd_looks(Family::StatFs, "fpathconf", O::Stat),
    row(Family::Round, "getfh", Decided::Refuse, Ask::Path(O::MakeHandle)),
    refused("fhopen"),
    refused("openbyid_np"),
    refused("fsgetpath"),
    refused("chroot"),
    refused("pivot_root"),
    refused("mount"),
    refused("fmount"),
    refused("unmount"),
    refused("graftdmg"),
    refused("revoke"),
    refused("acct"),
    refused("swapon"),
    refused("quotactl"),
];
