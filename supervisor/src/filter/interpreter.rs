//! A small interpreter for the part of classic BPF that seccomp accepts and the filter uses.

use crate::sys::seccomp::Instruction;

/// One call as the filter sees it.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Its number.
    pub nr: u32,
    /// The `AUDIT_ARCH_*` word.
    pub arch: u32,
    /// The arguments.
    pub args: [u64; 6],
}

impl Call {
    /// The word at `offset` of `struct seccomp_data`.
    fn word(&self, offset: u32) -> Option<u32> {
        let half = |value: u64, upper: bool| {
            let bytes = value.to_le_bytes();
            let at = if upper { 4 } else { 0 };
            Some(u32::from_le_bytes(bytes[at..at + 4].try_into().ok()?))
        };
        match offset {
            0 => Some(self.nr),
            4 => Some(self.arch),
            // The instruction pointer.
            8 | 12 => Some(0),
            16..64 if offset.is_multiple_of(4) => {
                let argument = self.args[usize::try_from(offset / 8 - 2).ok()?];
                half(argument, offset % 8 == 4)
            }
            _ => None,
        }
    }
}

/// Runs `program`; returns the verdict and the number of instructions executed. None: it is not
/// one that the kernel takes, or has an instruction that no compiler of such filters uses.
pub fn run(program: &[Instruction], call: &Call) -> Option<(u32, usize)> {
    let mut acc = 0u32;
    let mut pc = 0usize;
    for steps in 1..=program.len() {
        let i = program.get(pc)?;
        pc += 1;
        let branch = |taken: bool| usize::from(if taken { i.jt } else { i.jf });
        match i.code {
            0x20 => acc = call.word(i.k)?,
            0x05 => pc += usize::try_from(i.k).ok()?,
            0x15 => pc += branch(acc == i.k),
            0x25 => pc += branch(acc > i.k),
            0x35 => pc += branch(acc >= i.k),
            0x45 => pc += branch(acc & i.k != 0),
            0x54 => acc &= i.k,
            0x06 => return Some((i.k, steps)),
            _ => return None,
        }
    }
    None
}
