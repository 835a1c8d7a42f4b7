"""What stands for libSystem: the functions that the shim calls by itself, over this machine's own files
(descriptors are this machine's, too), with Darwin's numbers and structures. And a record of every call."""

import os
import struct

from machine import Failed

# Darwin's errno of what goes wrong here; below 35 both systems have the same.
ERRNO = {11: 35, 36: 63, 39: 66, 40: 62, 61: 93, 95: 45}
O_FLAGS = {0x200: os.O_CREAT, 0x400: os.O_TRUNC, 0x800: os.O_EXCL, 0x100: os.O_NOFOLLOW,
           0x100000: os.O_DIRECTORY, 0x1000000: os.O_CLOEXEC}
AT_FDCWD = 0xFFFFFFFE


def signed(value, bits=32):
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


class System:
    """Answers for a machine."""

    def __init__(self, machine, user=501):
        self.machine, self.user, self.calls, self.mapped = machine, user, [], []
        # Functions that are only recorded, by what they are to return: (value, errno).
        self.returns = {}
        # Whose flags say what no file of this machine's has (SF_RESTRICTED).
        self.restricted = set()
        self.clones, self.in_constructor, self.locals = True, False, None
        answers = machine.answers
        for name in [name for name in dir(self) if name.startswith("do_")]:
            answers[name[3:]] = self.failing(getattr(self, name))
        for suffix in ("$NOCANCEL", "$INODE64", "$DARWIN_EXTSN"):
            for name in list(answers):
                answers.setdefault(name + suffix, answers[name])
        for name, answer in {"bzero": self.do_bzero, "__bzero": self.do_bzero,
                             "memmove": self.do_memcpy}.items():
            answers[name] = self.failing(answer)

    def failing(self, does):
        """A function of the system, that fails by errno."""
        def answer(machine):
            try:
                return does(machine.argument)
            except OSError as error:
                machine.errno = ERRNO.get(error.errno, error.errno)
                return -1
        return answer

    def record(self, name, kinds, result):
        """From now on a call of `name` is only recorded, and answered with `result` and an errno."""
        fixed, _, variadic = kinds.partition("|")
        self.returns[name] = result
        count = len(fixed) + len(variadic)

        def answer(machine):
            known = [machine.argument(number, len(fixed) if variadic else None) for number in range(count)]
            texts = [machine.string(value) if kind == "p" else None
                     for kind, value in zip(fixed + variadic, known)]
            self.calls.append((name, known, texts))
            value, errno = self.returns[name]
            if errno is not None:
                machine.errno = errno
            return value
        self.machine.answers[name] = answer

    def path(self, at):
        path = self.machine.string(at)
        if path is None:
            raise OSError(14, "EFAULT")
        return path

    def stat_at(self, at, stat, path=b""):
        """struct stat with 64-bit inode numbers."""
        flags = 0x80000 if os.path.realpath(path) in self.restricted else 0
        times = [(int(t // 10**9), t % 10**9) for t in (stat.st_atime_ns, stat.st_mtime_ns, stat.st_ctime_ns,
                                                        stat.st_mtime_ns)]
        content = struct.pack("<iHHQIIixxxx", signed(stat.st_dev & 0x7FFFFFFF), stat.st_mode, min(stat.st_nlink, 65535),
                              stat.st_ino, stat.st_uid, stat.st_gid, 0)
        for time in times:
            content += struct.pack("<qq", *time)
        content += struct.pack("<qqiIIi16x", stat.st_size, stat.st_blocks, stat.st_blksize, flags, 0, 0)
        assert len(content) == 144
        self.machine.write(at, content)
        return 0

    # Files

    def opened(self, path, flags, mode):
        host = flags & 3
        for darwin, linux in O_FLAGS.items():
            host |= linux if flags & darwin else 0
        return os.open(path, host, mode & 0o7777)

    def do_open(self, argument):
        path, flags = self.path(argument(0)), argument(1) & 0xFFFFFFFF
        mode = self.variadic(2, 2)
        return self.opened(path, flags, mode)

    def do_openat(self, argument):
        flags, mode = argument(2) & 0xFFFFFFFF, self.variadic(3, 3)
        directory = argument(0) & 0xFFFFFFFF
        path = self.path(argument(1))
        if directory != AT_FDCWD and not path.startswith(b"/"):
            path = os.readlink(f"/proc/self/fd/{directory}").encode() + b"/" + path
        return self.opened(path, flags, mode)

    def variadic(self, number, fixed):
        return self.machine.argument(number, fixed)

    def do_close(self, argument):
        os.close(signed(argument(0)))
        return 0

    def do_fstat(self, argument):
        fd = signed(argument(0))
        stat = os.fstat(fd)
        return self.stat_at(argument(1), stat, os.readlink(f"/proc/self/fd/{fd}").encode())

    def do_stat(self, argument):
        path = self.path(argument(0))
        return self.stat_at(argument(1), os.stat(path), path)

    def do_lstat(self, argument):
        path = self.path(argument(0))
        return self.stat_at(argument(1), os.lstat(path), path)

    def do_readlink(self, argument):
        target = os.readlink(self.path(argument(0)))[:argument(2)]
        self.machine.write(argument(1), target)
        return len(target)

    def do_fcntl(self, argument):
        fd, command = signed(argument(0)), argument(1) & 0xFFFFFFFF
        extra = self.variadic(2, 2)
        if command in (50, 102):  # F_GETPATH
            path = os.readlink(f"/proc/self/fd/{fd}").encode()
            if not path.startswith(b"/"):
                raise OSError(9, "EBADF")
            self.machine.write(extra, path + b"\0")
            return 0
        if command in (0, 67):  # F_DUPFD
            return os.dup(fd)
        if command in (1, 2, 3):
            return 0
        raise Failed(f"fcntl {command}")

    def do_dup(self, argument):
        return os.dup(signed(argument(0)))

    def do_lseek(self, argument):
        # The offsets of directories are any number on Darwin; this machine's are not.
        fd, to, how = signed(argument(0)), signed(argument(1), 64), argument(2) & 3
        key = os.fstat(fd)
        if not hasattr(self, "offsets"):
            self.offsets = {}
        here = self.offsets.get((fd, key.st_ino), 0)
        here = to if how == 0 else here + to
        self.offsets[fd, key.st_ino] = here
        return here

    def do_read(self, argument):
        content = os.read(signed(argument(0)), argument(2))
        self.machine.write(argument(1), content)
        return len(content)

    def do_pread(self, argument):
        content = os.pread(signed(argument(0)), argument(2), argument(3))
        self.machine.write(argument(1), content)
        return len(content)

    def do_write(self, argument):
        content = self.machine.read(argument(1), argument(2))
        if signed(argument(0)) <= 2:
            self.calls.append(("stderr", [], [content]))
            return len(content)
        return os.write(signed(argument(0)), content)

    def do_flock(self, _argument):
        return 0

    def do_mkdir(self, argument):
        os.mkdir(self.path(argument(0)), argument(1) & 0o7777)
        return 0

    def do_chdir(self, argument):
        self.calls.append(("chdir", [], [self.path(argument(0))]))
        os.chdir(self.path(argument(0)))
        return 0

    def do_fchdir(self, argument):
        os.fchdir(signed(argument(0)))
        return 0

    def do_rename(self, argument):
        os.rename(self.path(argument(0)), self.path(argument(1)))
        return 0

    def do_symlink(self, argument):
        os.symlink(self.path(argument(0)), self.path(argument(1)))
        return 0

    def do_unlink(self, argument):
        os.unlink(self.path(argument(0)))
        return 0

    def do_chmod(self, argument):
        os.chmod(self.path(argument(0)), argument(1) & 0o7777)
        return 0

    def do_chflags(self, argument):
        os.lstat(self.path(argument(0)))
        return 0

    def do_utimensat(self, argument):
        seconds, nanos, *_ = struct.unpack("<qqqq", self.machine.read(argument(2), 32))
        time = seconds * 10**9 + nanos
        os.utime(self.path(argument(1)), ns=(time, time))
        return 0

    def do_clonefile(self, argument):
        source, target = self.path(argument(0)), self.path(argument(1))
        if not self.clones:
            raise OSError(95, "ENOTSUP")
        with open(source, "rb") as file, open(target, "xb") as copy:
            copy.write(file.read())
        os.chmod(target, 0o444)
        return 0

    def do_access(self, argument):
        if not os.access(self.path(argument(0)), argument(1) & 7):
            os.stat(self.path(argument(0)))
            raise OSError(13, "EACCES")
        return 0

    # Memory

    def do_mmap(self, argument):
        size, flags, fd = argument(1), argument(3) & 0xFFFFFFFF, signed(argument(4))
        at = self.machine.room(size + 0x4000)
        at = (at + 0x3FFF) // 0x4000 * 0x4000
        if not flags & 0x1000:  # MAP_ANON
            self.machine.write(at, os.pread(fd, size, argument(5)))
        self.mapped.append((at, size))
        return at

    def do_munmap(self, argument):
        self.mapped.remove((argument(0), argument(1)))
        return 0

    def do_memcpy(self, argument):
        self.machine.write(argument(0), self.machine.read(argument(1), argument(2)))
        return argument(0)

    def do_memset(self, argument):
        self.machine.write(argument(0), bytes([argument(1) & 255]) * argument(2))
        return argument(0)

    def do_bzero(self, argument):
        self.machine.write(argument(0), bytes(argument(1)))

    def do_memcmp(self, argument):
        a, b = (self.machine.read(argument(number), argument(2)) for number in (0, 1))
        return (a > b) - (a < b)

    def do_strlen(self, argument):
        return len(self.machine.string(argument(0)))

    def do_memchr(self, argument):
        found = self.machine.read(argument(0), argument(2)).find(argument(1) & 255)
        return argument(0) + found if found >= 0 else 0

    def do_strdup(self, argument):
        return self.machine.text(self.machine.string(argument(0)))

    # What only the constructor may use: libSystem is ready for it.

    def constructing(self):
        if not self.in_constructor:
            raise Failed("a thread-local, or chance, outside of the constructor")

    def do__tlv_bootstrap(self, argument):
        self.constructing()
        if self.locals is None:
            data, content = self.machine.section("__thread_data")
            last = self.machine.image.get_section("__thread_bss")
            self.locals = self.machine.room(0x10000)
            self.machine.write(self.locals, content)
            assert last.virtual_address + last.size - self.machine.image.get_section(
                "__thread_data").virtual_address < 0x10000 and data
        return self.locals + self.machine.word(argument(0) + 16)

    def do__tlv_atexit(self, _argument):
        self.constructing()

    def do_CCRandomGenerateBytes(self, argument):
        self.constructing()
        self.machine.write(argument(0), bytes(argument(1)))
        return 0

    def do_strerror_r(self, argument):
        self.constructing()
        self.machine.write(argument(1), b"told in words\0")
        return 0

    # The process

    def do___error(self, _argument):
        return self.machine.errno_at

    def do_sysconf(self, argument):
        if argument(0) & 0xFFFFFFFF != 29:  # _SC_PAGESIZE
            raise Failed(f"sysconf {argument(0)}")
        return 0x4000

    def do_geteuid(self, _argument):
        return self.user

    def do_getegid(self, _argument):
        return 20

    def do_getpid(self, _argument):
        return 4242

    def do__exit(self, argument):
        self.calls.append(("_exit", [argument(0)], []))
        raise Ended(argument(0))

    def do_abort(self, _argument):
        raise Failed("it aborts")


class Ended(Exception):
    """The process has ended."""
