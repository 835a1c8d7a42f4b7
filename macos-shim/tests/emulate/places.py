"""Paths and descriptors: what passes, what is refused, what is answered."""

import os
import struct

from world import *


@test
def what_is_real_passes_in_a_job(world):
    """A path elsewhere, and a descriptor that is none of ours, for all functions that have one."""
    for name in sorted(world.entries):
        kinds = signature(name)[0]
        if name.split("$")[0] in REFUSED or name in ("dlopen", "execve", "posix_spawn", "posix_spawnp", "accessx_np"):
            continue
        if "p" not in kinds and "d" not in kinds:
            continue
        path = str(world.real / "file")
        world.watched = {path.encode()}
        arguments = fill(world, kinds, path)
        if name.split("$")[0] in ("bind", "connect", "sendto"):
            arguments[-1] = 0
        world.passes(name, arguments)


REFUSED = {"fhopen": EPERM, "openbyid_np": ENOTSUP, "fsgetpath": ENOTSUP, "chroot": EPERM, "pivot_root": EPERM,
           "mount": EPERM, "fmount": EPERM, "unmount": EPERM, "graftdmg": EPERM, "revoke": EPERM, "acct": EPERM,
           "swapon": EPERM, "quotactl": EPERM}


@test
def what_goes_round_paths_is_refused(world):
    for name, errno in REFUSED.items():
        world.watched = {b"/real/x"}
        world.fails(errno, name, *fill(world, signature(name)[0], "/real/x"))


@test
def a_projected_link_leads_out(world):
    """Functions with one path get the real one where the way led through the mount."""
    wanted, given = str(world.real / "file"), f"{AT}/out/file"
    for name in sorted(world.entries):
        base, kinds = name.split("$")[0], signature(name)[0]
        if kinds.count("p") != 1 or base in REFUSED or base in (
                "dlopen", "execve", "posix_spawn", "posix_spawnp", "realpath"):
            continue
        world.watched = {wanted.encode(), given.encode()}
        arguments = [-2 if kind == "d" and "at" in base else value
                     for kind, value in zip(kinds.replace("|", ""), fill(world, kinds, given))]
        world.passes(name, arguments, {kinds.replace("|", "").index("p"): wanted})


@test
def changes_are_refused(world):
    """Of a file of the mount, of one that is not there, by path and by descriptor."""
    f, new, fd = f"{AT}/f", f"{AT}/new", world.call("open", f"{AT}/f", 0, 0)
    assert fd > 2
    world.watched = {f.encode(), new.encode()}
    for name in ("chmod", "lchmod", "chmodx_np", "chown", "lchown", "utimes", "lutimes", "truncate", "setxattr",
                 "removexattr", "setattrlist", "chflags", "lchflags", "fsctl", "acl_set_file", "acl_set_link_np",
                 "acl_delete_def_file", "acl_delete_file_np", "acl_delete_link_np", "unlink", "undelete"):
        world.fails(EROFS, name, *fill(world, signature(name)[0], f))
    for name in ("fchmodat", "fchownat", "utimensat", "setattrlistat", "unlinkat"):
        arguments = fill(world, signature(name)[0], f)
        arguments[0] = -2
        arguments[-1] = 0
        world.fails(EROFS, name, *arguments)
    for name in ("fchmod", "fchmodx_np", "fchown", "futimes", "futimens", "fsetxattr", "fremovexattr",
                 "fsetattrlist", "fchflags", "ffsctl", "acl_set_fd", "acl_set_fd_np", "acl_delete_fd_np"):
        arguments = fill(world, signature(name)[0], None)
        arguments[0] = fd
        world.fails(EROFS, name, *arguments)
    for name in ("mkdir", "mkdirx_np", "mkfifo", "mkfifox_np", "mknod"):
        world.fails(EEXIST, name, *fill(world, signature(name)[0], f))
        world.fails(EROFS, name, *fill(world, signature(name)[0], new))
    for name in ("mkdirat", "mkfifoat", "mknodat", "symlinkat"):
        arguments = fill(world, signature(name)[0], new)
        arguments[1 if name == "symlinkat" else 0] = -2
        world.fails(EROFS, name, *arguments)
    world.fails(EROFS, "symlink", world.machine.text("x"), new)
    world.fails(ENOTDIR, "rmdir", f)
    world.fails(ENOENT, "unlink", new)
    for flags in (1, 2, 0x601, 0x400):
        for name in ("open", "open$NOCANCEL"):
            world.fails(EROFS, name, f, flags, 0o644)
    world.fails(EROFS, "creat", new, 0o644)
    world.fails(EROFS, "open", new, 0x201, 0o644)
    world.fails(EROFS, "openx_np", f, 2, 0)
    world.fails(EROFS, "fcntl", fd, 64, 1)


@test
def two_places_are_kept_apart(world):
    f, real, h = f"{AT}/f", str(world.real / "new"), f"{AT}/include/a.h"
    world.watched = {f.encode(), real.encode(), h.encode()}
    for name in ("rename", "link"):
        world.fails(EXDEV, name, f, real)
    for name in ("renamex_np", "rename_ext", "clonefile"):
        world.fails(EXDEV, name, f, real, 0)
    for name in ("renameat", ):
        world.fails(EXDEV, name, -2, f, -2, real)
    for name in ("renameatx_np", "linkat", "clonefileat"):
        world.fails(EXDEV, name, -2, f, -2, real, 0)
    world.fails(EROFS, "exchangedata", f, h, 0)
    world.fails(EROFS, "rename", f, h)
    fd = world.call("open", f, 0, 0)
    world.fails(EXDEV, "fclonefileat", fd, -2, real, 0)
    world.fails(EXDEV, "rename", str(world.real / "file"), f"{AT}/new")


@test
def stat_tells_of_the_manifest(world):
    machine, wide = world.machine, 144
    forms = [("stat", f"{AT}/f"), ("lstat", f"{AT}/f"), ("stat64", f"{AT}/f"), ("lstat64", f"{AT}/f")]
    if arch == "x86_64":
        forms += [("stat$INODE64", f"{AT}/f"), ("lstat$INODE64", f"{AT}/f")]
    for name, path in forms:
        to = machine.room(wide)
        machine.errno = ERRNO
        assert world.call(name, path, to) == 0, name
        assert machine.errno == ERRNO
        content = machine.read(to, wide)
        if arch == "x86_64" and name in ("stat", "lstat"):
            mode, = struct.unpack_from("<H", content, 8)
            seconds, nanos = struct.unpack_from("<qq", content, 40)
            size, = struct.unpack_from("<q", content, 72)
            user, = struct.unpack_from("<I", content, 12)
        else:
            mode, = struct.unpack_from("<H", content, 4)
            seconds, nanos = struct.unpack_from("<qq", content, 48)
            size, = struct.unpack_from("<q", content, 96)
            user, = struct.unpack_from("<I", content, 16)
        assert (mode, seconds, nanos, size, user) == (0o100644, 5, 7, 7, 501), (name, oct(mode), seconds, nanos, size)
    to = machine.room(wide)
    fd = world.call("open", f"{AT}/f", 0, 0)
    assert world.call("fstat64", fd, to) == 0
    assert struct.unpack_from("<q", machine.read(to, wide), 96) == (7,)
    assert world.call("lstat64", f"{AT}/link", to) == 0
    assert struct.unpack_from("<H", machine.read(to, wide), 4)[0] & 0o170000 == 0o120000
    assert world.call("fstatat64", -2, f"{AT}/link", to, 0) == 0
    assert struct.unpack_from("<q", machine.read(to, wide), 96) == (2,)
    world.watched = {f"{AT}/none".encode()}
    world.fails(ENOENT, "stat64", f"{AT}/none", to)


@test
def a_file_is_opened_as_its_blob(world):
    for name in ("open", "open$NOCANCEL"):
        fd = world.call(name, f"{AT}/link", 0x1000000, 0)
        path = os.readlink(f"/proc/self/fd/{fd}")
        assert path.startswith(f"{world.store}/blobs/"), path
        assert os.read(fd, 9) == b"a\n"
        to = world.machine.room(1024)
        assert world.call("fcntl", fd, 50, to) == 0
        assert world.machine.string(to) == f"{AT}/include/a.h".encode()
        again = world.call("fcntl", fd, 67, 0)
        assert world.call("fcntl", again, 50, to) == 0
        assert world.machine.string(to) == f"{AT}/include/a.h".encode()
        assert world.call("close", fd) == 0
    dir = world.call("open", f"{AT}/include", 0x100000, 0)
    fd = world.call("openat", dir, "../f", 0, 0)
    assert os.read(fd, 9) == b"content"
    assert world.call("openat", dir, "b.h", 0, 0) > 2
    world.watched = {b"nothing"}
    world.fails(ENOENT, "openat", dir, "nothing", 0, 0)


@test
def looks_are_answered(world):
    machine = world.machine
    to = machine.room(2048)
    assert world.call("readlink", f"{AT}/link", to, 2048) == 11
    assert machine.string(to) == b"include/a.h"
    assert world.call("readlink", f"{AT}/link", to, 3) == 3
    world.watched = {f"{AT}/f".encode()}
    world.fails(EINVAL, "readlink", f"{AT}/f", to, 99)
    for name in ("realpath", "realpath$DARWIN_EXTSN"):
        assert world.call(name, f"{AT}/include/../link", to) == to
        assert machine.string(to) == f"{AT}/include/a.h".encode()
        assert machine.string(world.call(name, f"{AT}/link", 0)) == f"{AT}/include/a.h".encode()
    assert world.call("access", f"{AT}/f", 4) == 0
    world.fails(EROFS, "access", f"{AT}/f", 2)
    world.fails(13, "access", f"{AT}/f", 1)
    assert world.call("listxattr", f"{AT}/f", 0, 0, 0) == 0
    world.fails(ENOATTR, "getxattr", f"{AT}/f", machine.text("user.x"), to, 9, 0, 0)
    for name in ("getattrlist", "acl_get_file", "acl_get_link_np", "getfh"):
        errno = ENOENT if name.startswith("acl") else ENOTSUP
        world.fails(errno, name, *fill(world, signature(name)[0], f"{AT}/f"))
    assert world.call("pathconf", f"{AT}/f", 11) == 1


@test
def accessx_answers_each_path(world):
    machine = world.machine
    paths = [f"{AT}/f", str(world.real / "file"), f"{AT}/none", f"{AT}/out/file"]
    head, text = b"", b""
    for path in paths:
        head += struct.pack("<Ii8x", 16 * len(paths) + len(text), 4)
        text += path.encode() + b"\0"
    given, results = machine.room(len(head + text)), machine.room(16)
    machine.write(given, head + text)
    machine.write(results, struct.pack("<4i", 2, 0, 2, 2))
    world.machine.answers["accessx_np"] = lambda _machine: 0
    assert world.call("accessx_np", given, len(head + text), results, 501) == 0
    assert struct.unpack("<4i", machine.read(results, 16)) == (0, 0, ENOENT, 0)


@test
def the_store_is_not_there(world):
    to = world.machine.room(144)
    for path in (str(world.store), f"{world.store}/refs", str(world.job), f"{world.real}/../store"):
        world.watched = {path.encode()}
        world.fails(ENOENT, "stat64", path, to)
        world.fails(ENOENT, "open", path, 0, 0)
