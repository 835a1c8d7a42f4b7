"""A store, a job, real files beside it, and an emulated process with the library in it; what its calls
come to."""

import os
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

from machine import Machine
from system import System

AT = "/vrift/deps"
EPERM, ENOENT, EBADF, EEXIST, EXDEV, ENOTDIR, EINVAL, EROFS, ENOTSOCK, ENOTSUP, ENOATTR = (
    1, 2, 9, 17, 18, 20, 22, 30, 38, 45, 93)
MINUS = (1 << 64) - 1
ERRNO = 77
FD = 777

arch, library, job_maker, signatures = sys.argv[1:]
SIGNATURES = {}
for line in Path(signatures).read_text().splitlines():
    if line and not line.startswith("#"):
        name, kinds, result = line.split()
        SIGNATURES[name] = (kinds, result)


def signature(name):
    return SIGNATURES[name.split("$")[0]]


class World:
    """A store, a job, real files beside it, and a process with the library in it."""

    def __init__(self, restricted="observe", user=501, start=True):
        self.dir = Path(tempfile.mkdtemp(prefix="vrift-emulate-")).resolve()
        tree = self.dir / "tree"
        (tree / "include").mkdir(parents=True)
        (tree / "include/a.h").write_text("a\n")
        (tree / "include/b.h").write_text("bb\n")
        (tree / "f").write_text("content")
        (tree / "tool").write_bytes(mach())
        (tree / "tool").chmod(0o755)
        (tree / "script").write_text("#!/vrift/deps/tool one two\nrest\n")
        (tree / "script").chmod(0o755)
        (tree / "link").symlink_to("include/a.h")
        real = self.dir / "real"
        real.mkdir()
        (real / "file").write_text("real")
        (real / "tool").write_bytes(mach())
        (real / "tool").chmod(0o755)
        (real / "script").write_text("#!/vrift/deps/tool\n")
        (real / "script").chmod(0o755)
        (tree / "out").symlink_to(real)
        os.utime(tree / "f", ns=(5 * 10**9 + 7, 5 * 10**9 + 7))
        subprocess.run([job_maker, self.dir, AT, library, restricted], check=True)
        self.real, self.store, self.private = real, self.dir / "store", self.dir / "private"
        self.job = self.private / "job"
        self.machine = Machine(library, arch)
        self.system = System(self.machine, user)
        self.entries = self.machine.tuples()
        self.watched = set()
        if start:
            self.start([f"VRIFT_SHIM_JOB={self.job}"])

    def start(self, environment):
        """What dyld does when the library is there."""
        _, constructors = self.machine.section("__mod_init_func")
        assert len(constructors) == 8, "one constructor"
        machine = self.machine
        arguments = [1, machine.list(["program"]), machine.list(environment), machine.list([])]
        self.system.in_constructor = True
        try:
            machine.call(struct.unpack("<Q", constructors)[0], arguments)
        finally:
            self.system.in_constructor = False

    def end(self):
        os.chdir("/")
        for dir, _, _ in os.walk(self.dir):
            os.chmod(dir, 0o755)
        shutil.rmtree(self.dir)

    def watch(self, name, result, errno=None):
        """Records calls of an original that have one of the watched paths or the descriptor FD; others
        are the shim's own."""
        kinds, answers = signature(name)[0], self.machine.answers
        before, system = answers.get(name), self.system
        system.record(name, kinds, (result, errno))
        recorded, fixed = answers[name], kinds.partition("|")[0]

        def answer(machine):
            known = [machine.argument(number) for number in range(len(fixed))]
            paths = {machine.string(at) for kind, at in zip(fixed, known) if kind == "p"}
            mine = paths & self.watched or any(
                kind == "d" and value & 0xFFFFFFFF == FD for kind, value in zip(fixed, known))
            return recorded(machine) if mine or before is None else before(machine)
        answers[name] = answer

        def undo():
            if before is None:
                del answers[name]
            else:
                answers[name] = before
        return undo

    def call(self, name, *arguments):
        """Calls the entry point of a function; texts become paths. What it returns, as its type says."""
        kinds, result = signature(name)
        fixed, _, variadic = kinds.partition("|")
        machine = self.machine
        given = [machine.text(one) if isinstance(one, (str, bytes, Path)) and not isinstance(one, Path)
                 else machine.text(str(one)) if isinstance(one, Path) else one for one in arguments]
        assert len(given) == len(fixed) + len(variadic), f"{name}: {kinds}"
        value = machine.call(self.entries[name], given, len(fixed) if variadic else None)
        if result in "in":
            value &= 0xFFFFFFFF
            return value - (1 << 32) if value >> 31 else value
        return value - (1 << 64) if result == "l" and value >> 63 else value

    def calls(self):
        """What was recorded since the last time."""
        found, self.system.calls = self.system.calls, []
        return found

    def fails(self, errno, name, *arguments):
        """The call is answered with an errno, and nothing was called but for the shim itself."""
        undo = self.watch(name, 0)
        self.machine.errno, self.system.calls = ERRNO, []
        value = self.call(name, *arguments)
        undo()
        kind = signature(name)[1]
        told = value if kind == "n" else self.machine.errno
        want = errno if kind == "n" else 0 if kind == "b" else -1
        assert (value, told) == (want, errno), f"{name}: {value}, errno {told}, not {errno}"
        if kind == "n":
            assert self.machine.errno == ERRNO, f"{name}: errno {self.machine.errno}"
        assert not self.system.calls, f"{name}: the original was called: {self.system.calls}"

    def passes(self, name, arguments, wanted=None):
        """The original is called once, with these arguments (or with `wanted` for its path), and what
        it gives back, and its errno, are told."""
        kinds, kind = signature(name)
        kinds = kinds.replace("|", "")
        for result, errno in ((success(name, kind), None), (failure(kind), 60)):
            undo = self.watch(name, result, errno)
            self.machine.errno, self.system.calls = ERRNO, []
            value = self.call(name, *arguments)
            undo()
            calls = [call for call in self.system.calls if call[0] == name]
            # The shim's own question about a descriptor comes before.
            most = 2 if name.split("$")[0] == "fstat" else 1
            assert 1 <= len(calls) <= most, f"{name}: called {len(calls)} times"
            _, known, texts = calls[-1]
            for number, (letter, given, got) in enumerate(zip(kinds, arguments, known)):
                if letter == "p":
                    path = wanted.get(number, given) if wanted else given
                    path = path.encode() if isinstance(path, str) else path
                    assert texts[number] == path, f"{name}: path {texts[number]}, not {path}"
                elif letter == "d" and wanted:
                    continue  # with an absolute path it does not matter
                else:
                    mask = {"i": 0xFFFFFFFF, "d": 0xFFFFFFFF, "h": 0xFFFF}.get(letter, MINUS)
                    assert got & mask == given & mask, f"{name}: argument {number} is {got:#x}, not {given:#x}"
            mask = 0xFFFFFFFF if kind in "in" else 1 if name == "dlopen_preflight" else MINUS
            assert value & mask == result & mask, f"{name}: gave back {value:#x}, not {result:#x}"
            expected = ERRNO if errno is None or kind == "n" else errno
            if errno is None or kind != "n":
                assert self.machine.errno == expected, f"{name}: errno {self.machine.errno}, not {expected}"


def success(name, kind):
    if name == "dlopen_preflight":
        return 1
    return {"i": 7, "l": 0x1_0000_0007, "b": 0x1234_5678_9ABC, "n": 0}[kind]


def failure(kind):
    return {"i": MINUS, "l": MINUS, "b": 0, "n": 60}[kind]


def mach(flags=0, signed=True, subtype=0):
    """A program: a Mach-O header, and a signature with these flags."""
    cpu = 0x0100000C if arch == "arm64" else 0x01000007
    directory = struct.pack(">IIIII", 0xFADE0C02, 64, 0x20400, flags, 0) + bytes(44)
    super_blob = struct.pack(">IIIII", 0xFADE0CC0, 20 + len(directory), 1, 0, 20) + directory
    command = struct.pack("<IIII", 0x1D, 16, 64, len(super_blob)) if signed else b""
    header = struct.pack("<IIIIIIII", 0xFEEDFACF, cpu, subtype, 2, 1 if signed else 0, len(command), 0, 0)
    return (header + command).ljust(64, b"\0") + super_blob


def fill(world, kinds, path):
    """Arguments of each kind, all different."""
    values, machine = [], world.machine
    for number, kind in enumerate(kinds.replace("|", "")):
        values.append({
            "p": f"{path}" if path else f"/real/{number}",
            "b": None, "d": FD, "i": 0x100 + number, "h": 0o640, "l": 0x7_0000_0000 + number,
        }[kind] if kind != "b" else machine.room(512))
    return values


TESTS = []


def test(does):
    TESTS.append(does)
    return does
