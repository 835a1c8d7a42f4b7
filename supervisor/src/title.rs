//! What /proc says a program is called: `comm`, and the arguments in `cmdline`.
//!
//! A script's interpreter is executed by itself, so that the kernel calls it by its own name and
//! knows nothing of the arguments that `#!` made. Before its first instruction the new program is
//! made to say so itself, by prctl(2), with the `syscall` instruction that the vDSO has: ps, pgrep
//! and killall then find the script. Where that can't be (no vDSO, a kernel without
//! CONFIG_CHECKPOINT_RESTORE, a filter of the job's own that might not like the call), the names
//! stay the interpreter's, and nothing else is different.

use crate::held::{Held, HoldError, Number};
use crate::stack::{self, Places};
use crate::status::Status;
use crate::sys::process;
use crate::table::Arch;
use nix::sys::uio::{RemoteIoVec, process_vm_writev};
use nix::unistd::Pid;
use std::io::IoSlice;
use std::sync::OnceLock;

const PR_GET_PDEATHSIG: u64 = 2;
const PR_SET_NAME: u64 = 15;
const PR_SET_MM: u64 = 35;
const PR_SET_MM_MAP: u64 = 14;
/// `TASK_COMM_LEN` without the NUL.
const NAME_MAX: usize = 15;
/// The vDSO's code lies in its first pages.
const VDSO: usize = 2 * 4096;

/// The fields of /proc/PID/stat about memory, in the order of `struct prctl_mm_map`.
pub struct Memory {
    fields: [u64; 11],
}

impl Memory {
    /// Where `arg_start` stands.
    const ARGUMENTS: usize = 7;

    /// Those of a new program that can be made to change them.
    pub fn of_changeable(tid: i32) -> Option<Memory> {
        static KNOWN: OnceLock<bool> = OnceLock::new();
        let known = *KNOWN.get_or_init(process::knows_memory_map);
        if known && has_only_our_filter(tid) { Memory::of(tid) } else { None }
    }

    /// Those of a task; None where the supervisor may not know.
    fn of(tid: i32) -> Option<Memory> {
        let stat = std::fs::read(format!("/proc/{tid}/stat")).ok()?;
        // The name in parentheses may hold anything: the fields start after the last one.
        let start = stat.iter().rposition(|&b| b == b')')? + 1;
        let text = std::str::from_utf8(stat.get(start..)?).ok()?;
        let all: Vec<&str> = text.split_ascii_whitespace().collect();
        // Counted as in proc(5), where the state is the third.
        let field = |n: usize| all.get(n - 3)?.parse::<u64>().ok();
        let start_brk = field(47)?;
        let fields = [
            field(26)?,
            field(27)?,
            field(45)?,
            field(46)?,
            start_brk,
            // A program that has not begun has asked for nothing yet.
            start_brk,
            field(28)?,
            field(48)?,
            field(49)?,
            field(50)?,
            field(51)?,
        ];
        fields.iter().all(|&f| f != 0).then_some(Memory { fields })
    }

    /// Where the argument strings end.
    pub fn arguments_end(&self) -> u64 {
        self.fields[Memory::ARGUMENTS + 1]
    }

    /// `struct prctl_mm_map` with other arguments; no auxiliary vector, no executable.
    fn with_arguments(&self, (start, end): (u64, u64)) -> Vec<u8> {
        let mut fields = self.fields;
        fields[Memory::ARGUMENTS] = start;
        fields[Memory::ARGUMENTS + 1] = end;
        let mut map: Vec<u8> = fields.iter().flat_map(|f| f.to_ne_bytes()).collect();
        map.extend(0u64.to_ne_bytes());
        map.extend(0u32.to_ne_bytes());
        map.extend(u32::MAX.to_ne_bytes());
        map
    }
}

/// Makes the new program that `held` holds call itself what it was called, where the kernel does
/// not already. `name` is the path that it was called by, if it was by one.
pub fn settle(
    held: &mut Held,
    places: &Places,
    memory: Option<&Memory>,
    name: Option<&[u8]>,
) -> Result<(), HoldError> {
    let tid = held.tid();
    let renamed = name.and_then(|name| renamed(tid, name));
    let map = memory.zip(places.arguments).map(|(m, a)| m.with_arguments(a));
    if renamed.is_none() && map.is_none() {
        return Ok(());
    }
    if let Some(offset) = renamed {
        prctl(held, places, [PR_SET_NAME, places.name + offset, 0, 0, 0, 0])?;
    }
    if let Some(map) = map {
        let base = usize::try_from(places.scratch).unwrap_or(0);
        let remote = [RemoteIoVec { base, len: map.len() }];
        if process_vm_writev(Pid::from_raw(tid), &[IoSlice::new(&map)], &remote) == Ok(map.len()) {
            let size = map.len() as u64;
            prctl(held, places, [PR_SET_MM, PR_SET_MM_MAP, places.scratch, size, 0, 0])?;
        }
    }
    Ok(())
}

/// Has the new program's stack mapped down to where `places` are. A long list of arguments may
/// fill it up to a page, and only an access of the task's own makes it grow.
pub fn reach(held: &mut Held, places: &Places) -> Result<(), HoldError> {
    prctl(held, places, [PR_GET_PDEATHSIG, places.sp & !15, 0, 0, 0, 0])
}

/// Makes the new program call prctl, if it can be made to; its result is no concern.
fn prctl(held: &mut Held, places: &Places, args: [u64; 6]) -> Result<(), HoldError> {
    let tid = held.tid();
    let regs = held.registers()?;
    let arch = if stack::word_size(&regs) == 4 { Arch::I386 } else { Arch::NATIVE };
    let instruction = places.vdso.and_then(|vdso| syscall_instruction(tid, vdso, arch));
    let Some(instruction) = instruction.filter(|_| has_only_our_filter(tid)) else {
        tracing::debug!("task {tid} can't be made to call prctl({args:?})");
        return Ok(());
    };
    let result = held.call_in_program(instruction, arch, Number::PrCtl.on(arch), args)?;
    tracing::trace!("prctl({args:?}) in task {tid}: {result}");
    Ok(())
}

/// Where in the path `name` the program's name begins, if the kernel calls it otherwise.
fn renamed(tid: i32, name: &[u8]) -> Option<u64> {
    let start = name.iter().rposition(|&b| b == b'/').map_or(0, |n| n + 1);
    let base = &name[start..];
    let comm = std::fs::read(format!("/proc/{tid}/comm")).ok()?;
    let comm = comm.strip_suffix(b"\n").unwrap_or(&comm);
    (comm != &base[..base.len().min(NAME_MAX)]).then_some(start as u64)
}

/// The address of a system call instruction in the vDSO.
fn syscall_instruction(tid: i32, vdso: u64, arch: Arch) -> Option<u64> {
    let wanted: &[u8] = match arch {
        Arch::X86_64 => &[0x0f, 0x05],
        Arch::I386 => &[0xcd, 0x80],
        Arch::Aarch64 => &[0x01, 0x00, 0x00, 0xd4],
    };
    let code = stack::read(tid, usize::try_from(vdso).ok()?, VDSO).ok()?;
    let step = if arch == Arch::Aarch64 { 4 } else { 1 };
    let at = (0..code.len()).step_by(step).find(|&at| code[at..].starts_with(wanted))?;
    Some(vdso + at as u64)
}

/// Has the task no seccomp filter but those it had when the job began? One of its own may answer
/// prctl by killing it.
fn has_only_our_filter(tid: i32) -> bool {
    static BEFORE: OnceLock<u32> = OnceLock::new();
    let count = |status: Status| status.number::<u32>("Seccomp_filters:");
    let before = *BEFORE.get_or_init(|| Status::of("self").and_then(count).unwrap_or(0));
    Status::of(tid).and_then(count) == Some(before + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_a_program_is_read_and_written_in_the_kernels_order() {
        let me = i32::try_from(std::process::id()).expect("a process id");
        let memory = Memory::of(me).expect("one's own");
        let [code, code_end, data, data_end, brk, now, stack, arg, arg_end, env, env_end] =
            memory.fields;
        assert!(code < code_end && data <= data_end && brk == now && arg < arg_end);
        assert!(arg_end <= env && env < env_end && stack < arg);
        let map = memory.with_arguments((7, 8));
        assert_eq!(map.len(), 104, "struct prctl_mm_map");
        assert!(map.len() <= stack::SCRATCH);
        assert_eq!(map[56..64], 7u64.to_ne_bytes());
        assert_eq!(map[64..72], 8u64.to_ne_bytes());
    }

    #[test]
    fn the_vdso_has_a_system_call() {
        let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
        let vdso = maps.lines().find(|l| l.ends_with("[vdso]")).expect("a vDSO");
        let at = u64::from_str_radix(vdso.split('-').next().expect("a start"), 16).expect("hex");
        let me = i32::try_from(std::process::id()).expect("a process id");
        assert!(syscall_instruction(me, at, Arch::NATIVE).is_some_and(|found| found > at));
    }
}
