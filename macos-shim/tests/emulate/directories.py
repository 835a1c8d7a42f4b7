"""Directories that are read and entered, and paths in the addresses of sockets."""

import os
import struct

from world import *


def listed(world, name, fd, room):
    """All that a reader is told: names and kinds."""
    machine, found = world.machine, []
    to, base = machine.room(room), machine.room(8)
    while True:
        length = world.call(name, fd, to, room, base)
        assert length >= 0, machine.errno
        if length == 0:
            return found
        content, at = machine.read(to, room), 0
        while at < length:
            if name == "__getdirentries64":
                _, _, size, letters, kind = struct.unpack_from("<QQHHB", content, at)
                first = at + 21
            else:
                _, size, kind, letters = struct.unpack_from("<IHBB", content, at)
                first = at + 8
            found.append((content[first:first + letters], kind))
            assert content[first + letters] == 0
            at += size
        if name == "__getdirentries64" and room >= 1024 and content[-4:] == b"\1\0\0\0":
            return found


@test
def directories_are_listed(world):
    want = [(b".", 4), (b"..", 4), (b"a.h", 8), (b"b.h", 8)]
    for name in ("__getdirentries64", "getdirentries"):
        for room in (64, 1024, 8192):
            fd = world.call("open", f"{AT}/include", 0x100000, 0)
            assert listed(world, name, fd, room) == want, (name, room)
            assert listed(world, name, fd, room) == [], "it stays at its end"
            assert world.machine.answers["lseek"] and world.system.offsets[fd, os.fstat(fd).st_ino] == 4
    fd = world.call("open", AT, 0x100000, 0)
    names = dict(listed(world, "__getdirentries64", fd, 2048))
    assert names[b"link"] == 10 and names[b"f"] == 8 and names[b"include"] == 4
    world.fails(EINVAL, "__getdirentries64", world.call("open", AT, 0x100000, 0), world.machine.room(8), 8, 0)
    for name in ("getattrlistbulk", "getdirentriesattr"):
        arguments = fill(world, signature(name)[0], None)
        arguments[0] = fd
        world.fails(ENOTSUP, name, *arguments)


@test
def mount_points_show_in_real_directories(world):
    """Where the kernel's own entries end, the mount points follow; what they cover does not show."""
    machine, system = world.machine, world.system
    given = [(b".", 4), (b"..", 4), (b"vrift", 8), (b"other", 8)]

    def answer(machine):
        fd, to = machine.argument(0), machine.argument(1)
        told = system.offsets.get((fd, os.fstat(fd).st_ino), 0)
        content = b""
        for name, kind in given[told:told + 2]:
            size = (21 + len(name) + 8) & ~7
            content += (struct.pack("<QQHHB", 99, 1, size, len(name), kind) + name).ljust(size, b"\0")
        system.offsets[fd, os.fstat(fd).st_ino] = min(told + 2, len(given))
        machine.write(to, content)
        machine.write(to + machine.argument(2) - 4, struct.pack("<I", 1 if told + 2 >= len(given) else 0))
        return len(content)
    machine.answers["__getdirentries64"] = answer
    fd = os.open("/", os.O_RDONLY)
    system.offsets = {}
    found = listed(world, "__getdirentries64", fd, 2048)
    assert found == [(b".", 4), (b"..", 4), (b"other", 8), (b"vrift", 4)], found
    os.close(fd)


@test
def the_directory_is_changed(world):
    machine = world.machine
    assert world.call("chdir", f"{AT}/include") == 0
    assert os.getcwd().startswith(f"{world.private}/d/"), os.getcwd()
    to = machine.room(144)
    assert world.call("stat64", "a.h", to) == 0
    assert world.call("stat64", "../f", to) == 0
    assert os.read(world.call("open", "b.h", 0, 0), 9) == b"bb\n"
    fd = world.call("open", ".", 0, 0)
    room = machine.room(1024)
    assert world.call("fcntl", fd, 50, room) == 0
    assert machine.string(room) == f"{AT}/include".encode()
    assert world.call("chdir", str(world.real)) == 0
    world.watched = {b"a.h"}
    world.passes("stat64", ["a.h", to])
    assert world.call("chdir", f"{AT}/out") == 0 and os.getcwd() == str(world.real)


@test
def sockets_in_a_mount_are_refused(world):
    machine = world.machine

    def address(path):
        content = b"\0\1" + path.encode() + b"\0"
        at = machine.room(128)
        machine.write(at, content)
        return at, len(content)
    new, f, out = address(f"{AT}/s"), address(f"{AT}/f"), address(f"{AT}/out/s")
    world.watched = set()
    world.fails(EROFS, "bind", FD, *new)
    world.fails(ENOTSOCK, "connect", FD, *f)
    world.fails(ENOENT, "connect$NOCANCEL", FD, *new)
    world.fails(ENOTSOCK, "sendto", FD, 0, 0, 0, *f)
    header = machine.room(64)
    machine.write(header, struct.pack("<QI4x", *f))
    world.fails(ENOTSOCK, "sendmsg", FD, header, 0)
    world.fails(ENOTSOCK, "sendmsg_x", FD, header, 1, 0)
    ends = machine.room(64)
    machine.write(ends, struct.pack("<I4xQI4xQI", 0, 0, 0, *f))
    world.fails(ENOTSOCK, "connectx", FD, ends, 0, 0, 0, 0, 0, 0)
    world.machine.answers["bind"] = lambda machine: paths.append(
        machine.read(machine.argument(1), machine.argument(2)))
    paths = []
    world.call("bind", FD, *out)
    want = str(world.real / "s").encode() + b"\0"
    assert paths == [bytes([len(want) + 2, 1]) + want], paths
