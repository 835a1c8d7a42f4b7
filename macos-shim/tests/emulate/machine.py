"""A processor, and the shim's library in its memory: what dyld does, for one library over functions
that are not there. Each function that the library imports is an address of its own; when the
processor gets there, Python answers."""

import struct

import lief
import unicorn
from unicorn import UC_HOOK_CODE, UC_PROT_ALL, Uc, UcError
from unicorn import arm64_const as arm
from unicorn import x86_const as x86

BASE, IMPORTS, HEAP, STACK, END = 0x1_0000_0000, 0x2_0000_0000, 0x3_0000_0000, 0x5_0000_0000, 0x6_0000_0000
STACK_SIZE, HEAP_SIZE, PAGE = 1 << 20, 64 << 20, 0x4000


class Failed(Exception):
    """The library did something that it must not."""


class Machine:
    """One process."""

    def __init__(self, path, arch):
        self.arch = arch
        fat = lief.MachO.parse(path, lief.MachO.ParserConfig.deep)
        self.image = fat.at(0)
        if arch == "arm64":
            self.cpu = Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
            self.cpu.ctl_set_cpu_model(arm.UC_CPU_ARM64_MAX)
            self.registers = [getattr(arm, f"UC_ARM64_REG_X{n}") for n in range(8)]
            self.sp, self.pc, self.result, stop = (
                arm.UC_ARM64_REG_SP, arm.UC_ARM64_REG_PC, arm.UC_ARM64_REG_X0, b"\xc0\x03\x5f\xd6")
            # Floating point is allowed to a process.
            self.cpu.reg_write(arm.UC_ARM64_REG_CPACR_EL1, 3 << 20)
        else:
            self.cpu = Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
            names = ["RDI", "RSI", "RDX", "RCX", "R8", "R9"]
            self.registers = [getattr(x86, f"UC_X86_REG_{name}") for name in names]
            self.sp, self.pc, self.result, stop = (
                x86.UC_X86_REG_RSP, x86.UC_X86_REG_RIP, x86.UC_X86_REG_RAX, b"\xc3" + b"\xcc" * 3)
        for start, size in ((IMPORTS, 1 << 20), (HEAP, HEAP_SIZE), (STACK - STACK_SIZE, STACK_SIZE + PAGE),
                            (END, PAGE)):
            self.cpu.mem_map(start, size, UC_PROT_ALL)
        self.cpu.mem_write(IMPORTS, stop * ((1 << 20) // len(stop)))
        self.heap = HEAP
        self.names, self.addresses, self.answers, self.error = {}, {}, {}, None
        self.load()
        self.cpu.hook_add(UC_HOOK_CODE, self.called, begin=IMPORTS, end=IMPORTS + (1 << 20) - 1)
        self.errno_at = self.room(8)

    # The loader

    def load(self):
        """Puts the segments into place, and what they import and point to."""
        end = max(s.virtual_address + s.virtual_size for s in self.image.segments)
        self.cpu.mem_map(BASE, (end + PAGE - 1) // PAGE * PAGE, UC_PROT_ALL)
        for segment in self.image.segments:
            if segment.virtual_size and segment.name != "__LINKEDIT":
                self.cpu.mem_write(BASE + segment.virtual_address, bytes(segment.content))
        for fixup in self.image.relocations:
            chained = isinstance(fixup, lief.MachO.RelocationFixup)
            kinds = getattr(lief.MachO.Relocation, "ORIGIN", None)
            if kinds is not None and fixup.origin == kinds.RELOC_TABLE:
                continue
            target = fixup.target if chained else self.word(BASE + fixup.address)
            self.put(BASE + fixup.address, BASE + target)
        for binding in self.image.bindings:
            self.put(BASE + binding.address, self.imported(binding.symbol.name.removeprefix("_")) + binding.addend)

    def imported(self, name):
        """The address of an imported function."""
        if name not in self.addresses:
            address = IMPORTS + 16 * (len(self.addresses) + 1)
            self.addresses[name], self.names[address] = address, name
        return self.addresses[name]

    def section(self, name):
        """Where a section is, and its bytes as they are in memory."""
        section = self.image.get_section(name)
        start = BASE + section.virtual_address
        return start, self.read(start, section.size)

    def tuples(self):
        """The interpose pairs: original name to replacement's address."""
        _, content = self.section("__interpose")
        pairs = struct.iter_unpack("<QQ", content)
        return {self.names[original]: replacement for replacement, original in pairs}

    # Memory

    def read(self, at, size):
        return bytes(self.cpu.mem_read(at, size)) if size else b""

    def write(self, at, content):
        self.cpu.mem_write(at, bytes(content))

    def word(self, at):
        return struct.unpack("<Q", self.read(at, 8))[0]

    def put(self, at, value):
        self.write(at, struct.pack("<Q", value & (1 << 64) - 1))

    def room(self, size):
        """Fresh memory, zeroed, and far from what is next to it."""
        at = self.heap
        self.heap += (size + 0x3f) // 0x40 * 0x40 + 0x40
        if self.heap > HEAP + HEAP_SIZE:
            raise Failed("the process has used 64 MiB")
        return at

    def text(self, content):
        """The address of a C string."""
        content = content if isinstance(content, bytes) else content.encode()
        at = self.room(len(content) + 1)
        self.write(at, content + b"\0")
        return at

    def string(self, at):
        """The C string there; None at null."""
        if not at:
            return None
        content = b""
        while b"\0" not in content:
            content += self.read(at + len(content), 1)
        return content[:-1]

    def strings(self, at):
        """A list that ends in null."""
        found = []
        while at and self.word(at):
            found.append(self.string(self.word(at)))
            at += 8
        return found

    def list(self, strings):
        """The address of such a list."""
        at = self.room(8 * (len(strings) + 1))
        for number, one in enumerate(strings):
            self.put(at + 8 * number, self.text(one))
        return at

    @property
    def errno(self):
        return struct.unpack("<i", self.read(self.errno_at, 4))[0]

    @errno.setter
    def errno(self, number):
        self.write(self.errno_at, struct.pack("<i", number))

    # Calls

    def argument(self, number, variadic_from=None):
        """An argument of the function that has just been called. Apple's arm64 puts variadic ones on
        the stack, 8 bytes each."""
        registers = len(self.registers)
        sp = self.cpu.reg_read(self.sp)
        if self.arch == "arm64":
            fixed = registers if variadic_from is None else min(variadic_from, registers)
            if number < fixed:
                return self.cpu.reg_read(self.registers[number])
            return self.word(sp + 8 * (number - fixed))
        if number < registers:
            return self.cpu.reg_read(self.registers[number])
        return self.word(sp + 8 + 8 * (number - registers))

    def called(self, cpu, address, _size, _data):
        name = self.names.get(address)
        try:
            if name is None or name not in self.answers:
                raise Failed(f"it calls {name or hex(address)}, which is not to be called")
            value = self.answers[name](self)
            if value is not None:
                cpu.reg_write(self.result, value & (1 << 64) - 1)
        except Exception as error:  # Unicorn would lose it
            self.error = self.error or error
            cpu.emu_stop()

    def call(self, address, arguments, variadic_from=None):
        """Calls a function of the library: what it returns."""
        registers = len(self.registers)
        sp, self.error = STACK - 0x1000, None
        if self.arch == "arm64":
            fixed = registers if variadic_from is None else min(variadic_from, registers)
            for register, value in zip(self.registers[:fixed], arguments):
                self.cpu.reg_write(register, value & (1 << 64) - 1)
            for register in self.registers[min(fixed, len(arguments)):]:
                self.cpu.reg_write(register, 0xdead_beef_dead_beef)
            stack = arguments[fixed:]
            self.cpu.reg_write(arm.UC_ARM64_REG_LR, END)
        else:
            for register, value in zip(self.registers, arguments):
                self.cpu.reg_write(register, value & (1 << 64) - 1)
            stack = [END] + list(arguments[registers:])
            sp -= 8
        for number, value in enumerate(stack):
            self.put(sp + 8 * number, value)
        self.cpu.reg_write(self.sp, sp)
        try:
            self.cpu.emu_start(address, END, timeout=20_000_000)
        except UcError as error:
            where = self.cpu.reg_read(self.pc)
            raise self.error or Failed(f"{error} at {where - BASE:#x} of the library") from error
        if self.error:
            raise self.error
        if self.cpu.reg_read(self.pc) != END:
            raise Failed("it does not come back within 20 s")
        after = self.cpu.reg_read(self.sp)
        if after != sp + (0 if self.arch == "arm64" else 8):
            raise Failed("the stack is not as it was")
        return self.cpu.reg_read(self.result)
