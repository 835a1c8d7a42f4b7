"""Programs that are started, libraries that are loaded."""

import os
from pathlib import Path

from world import *


def executed(world, name, path, arguments, environment=("A=1",)):
    """What a program is started with, and as what: path, arguments, environment."""
    machine, found = world.machine, []

    def answer(machine):
        first = 1 if name != "execve" else 0
        lists = (1, 2) if name == "execve" else (4, 5)
        found.append((machine.string(machine.argument(first)),
                      *(machine.strings(machine.argument(number)) for number in lists), os.getcwd()))
        machine.errno = 12
        return -1 if name == "execve" else 12
    machine.answers[name] = answer
    given = (path, machine.list(arguments), machine.list(environment))
    if name == "execve":
        value = world.call(name, *given)
    else:
        value = world.call(name, 0, given[0], 0, 0, *given[1:])
    assert len(found) <= 1, "once"
    return found[0] if found else (value, machine.errno)


@test
def programs_are_started_in_the_job(world):
    kept = [b"A=1", f"VRIFT_SHIM_JOB={world.job}".encode(), f"DYLD_INSERT_LIBRARIES={library}".encode()]
    clone = f"{world.private}/c/0"
    for name in ("execve", "posix_spawn", "posix_spawnp"):
        path, arguments, environment, _ = executed(world, name, str(world.real / "tool"), ["tool", "x"])
        assert (path, arguments, environment) == (str(world.real / "tool").encode(), [b"tool", b"x"], kept)
        path, arguments, environment, _ = executed(world, name, f"{AT}/tool", ["tool"], ("A=1", "DYLD_INSERT_LIBRARIES=/o"))
        assert path == f"{clone}/tool".encode(), path
        assert Path(path.decode()).read_bytes() == mach() and os.stat(path).st_mode & 0o777 == 0o555
        assert environment == kept[:2] + [f"DYLD_INSERT_LIBRARIES={library}:/o".encode()], environment
        # Scripts: the interpreter is projected, and is told the path that the caller gave.
        path, arguments, _, _ = executed(world, name, f"{AT}/script", ["s", "last"])
        assert path == f"{clone}/tool".encode(), path
        assert arguments == [b"/vrift/deps/tool", b"one", b"two", f"{AT}/script".encode(), b"last"], arguments
        path, arguments, _, _ = executed(world, name, str(world.real / "script"), ["s"])
        assert (path, arguments) == (f"{clone}/tool".encode(), [b"/vrift/deps/tool", str(world.real / "script").encode()])
        assert not [one for one in world.system.mapped if one[1] == 4242], "mappings are given back"
    for name, none in (("execve", (-1, ENOENT)), ("posix_spawn", (ENOENT, 12))):
        assert executed(world, name, f"{AT}/none", ["none"])[0] == none[0]
    assert executed(world, "execve", f"{AT}/f", ["f"]) == (-1, 13), "no x bit"
    mapped = len(world.system.mapped)
    executed(world, "execve", f"{AT}/tool", ["tool"])
    assert len(world.system.mapped) == mapped, "the mapping of a start is given back"


@test
def without_clonefile_a_clone_is_copied(world):
    world.system.clones = False
    path, *_ = executed(world, "execve", f"{AT}/tool", ["tool"])
    assert Path(path.decode()).read_bytes() == mach() and os.stat(path).st_mode & 0o777 == 0o555
    assert sorted(os.listdir(world.private)) == ["c", "d", "job"]


def closed_program(world, kind):
    tool = world.real / kind
    tool.write_bytes(mach({"hardened": 0x10000, "restricted": 0x800, "validates": 0x2000}.get(kind, 0),
                          subtype=2 if kind == "arm64e" else 0))
    tool.chmod(0o4755 if kind == "set-id" else 0o755)
    if kind == "platform":
        world.system.restricted.add(str(tool).encode())
    return str(tool)


KINDS = ["hardened", "restricted", "validates", "set-id", "platform"] + (["arm64e"] if arch == "arm64" else [])


@test
def restricted_programs_run_without_the_shim(world):
    for kind in KINDS:
        path, arguments, environment, _ = executed(world, "execve", closed_program(world, kind), ["x", f"{AT}/f"])
        assert arguments == [b"x", f"{AT}/f".encode()]
        assert environment == [b"A=1", f"VRIFT_SHIM_JOB={world.job}".encode()], (kind, environment)


def restricted_programs_are_refused():
    world = World("refuse")
    for kind in KINDS:
        assert executed(world, "execve", closed_program(world, kind), ["x"]) == (-1, EPERM), kind
    assert executed(world, "execve", str(world.real / "tool"), ["x"])[0] == str(world.real / "tool").encode()
    world.end()


def restricted_programs_are_given_clones():
    world = World("clone")
    clone = f"{world.private}/c/0"
    assert world.call("chdir", f"{AT}/include") == 0
    tool = closed_program(world, "hardened")
    _, arguments, environment, cwd = executed(world, "execve", tool, ["x", f"{AT}/f", "a.h", AT, "/real"])
    assert arguments == [b"x", f"{clone}/f".encode(), b"a.h", clone.encode(), b"/real"], arguments
    assert cwd == f"{clone}/include", cwd
    assert os.getcwd().startswith(f"{world.private}/d/"), "back where it was, for it failed"
    assert Path(f"{clone}/include/b.h").read_text() == "bb\n"
    assert os.readlink(f"{clone}/link") == "include/a.h"
    assert not any("DYLD" in entry.decode() for entry in environment)
    assert os.stat(f"{clone}/f").st_mtime_ns == 5 * 10**9 + 7
    world.end()


@test
def libraries_are_loaded_from_clones(world):
    machine, found = world.machine, []
    machine.answers["dlopen_from"] = lambda machine: found.append(machine.string(machine.argument(0))) or 1
    for path in (f"{AT}/f", "libz.dylib", "@rpath/x/y", str(world.real / "file")):
        world.call("dlopen", path, 1)
    clone = f"{world.private}/c/0/f"
    assert found == [clone.encode(), b"libz.dylib", b"@rpath/x/y", str(world.real / "file").encode()], found
    assert Path(clone).read_text() == "content"


@test
def file_actions_get_real_paths(world):
    machine, found = world.machine, []
    for name, at in (("posix_spawn_file_actions_addopen", 2), ("posix_spawn_file_actions_addchdir_np", 1)):
        machine.answers[name] = lambda machine, at=at: found.append(machine.string(machine.argument(at))) or 0
    assert world.call("posix_spawn_file_actions_addopen", 0, 3, f"{AT}/f", 0, 0) == 0
    assert world.call("posix_spawn_file_actions_addchdir_np", 0, f"{AT}/include") == 0
    assert found[0].startswith(f"{world.store}/blobs/".encode()) and found[1].startswith(f"{world.private}/d/".encode())
    world.fails(EROFS, "posix_spawn_file_actions_addopen", 0, 3, f"{AT}/f", 1, 0)
