//! A small interpreter for the part of classic BPF that seccomp accepts and the filter uses.

use crate::sys::seccomp::Instruction;

/// One call as the filter sees it.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub nr: u32,
    pub arch: u32,
    pub args: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        let mut bytes = Vec::with_capacity(64);
        bytes.extend(self.nr.to_le_bytes());
        bytes.extend(self.arch.to_le_bytes());
        bytes.extend(0u64.to_le_bytes());
        for a in self.args {
            bytes.extend(a.to_le_bytes());
        }
        let at = offset as usize;
        u32::from_le_bytes(bytes[at..at + 4].try_into().expect("a word within seccomp_data"))
    }
}

/// Runs `program`; returns the verdict and the number of instructions executed.
pub fn run(program: &[Instruction], call: &Call) -> (u32, usize) {
    let mut acc = 0u32;
    let mut pc = 0usize;
    for steps in 1..=program.len() {
        let i = program[pc];
        pc += 1;
        let branch = |taken: bool| usize::from(if taken { i.jt } else { i.jf });
        match i.code {
            0x20 => acc = call.word(i.k),
            0x05 => pc += i.k as usize,
            0x15 => pc += branch(acc == i.k),
            0x25 => pc += branch(acc > i.k),
            0x35 => pc += branch(acc >= i.k),
            0x45 => pc += branch(acc & i.k != 0),
            0x54 => acc &= i.k,
            0x06 => return (i.k, steps),
            other => panic!("instruction {other:#x} is not one that a filter here uses"),
        }
    }
    panic!("the program does not end");
}
