//! Classic BPF as seccomp(2) takes it: instructions, and a search tree over system call numbers.

use crate::sys::seccomp::Instruction;
use vrift_policy::Errno;

/// `BPF_LD | BPF_W | BPF_ABS`: a word of `struct seccomp_data`.
pub const LOAD: u16 = 0x20;
/// `BPF_ALU | BPF_AND | BPF_K`.
pub const AND: u16 = 0x54;
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
/// `BPF_JMP | BPF_JEQ | BPF_K`.
pub const EQUAL: u16 = 0x15;
/// `BPF_JMP | BPF_JGE | BPF_K`.
pub const AT_LEAST: u16 = 0x35;
/// `BPF_JMP | BPF_JSET | BPF_K`.
pub const ANY_BIT: u16 = 0x45;
/// `BPF_RET | BPF_K`.
pub const RETURN: u16 = 0x06;

/// The longest program that the kernel takes: `BPF_MAXINSNS` of include/uapi/linux/bpf_common.h.
pub const MOST: usize = 4096;

/// Where `struct seccomp_data` has the number.
pub const NR: u32 = 0;
/// And the architecture.
pub const ARCH: u32 = 4;

/// And the lower half of argument `i`.
pub const fn arg_low(i: u32) -> u32 {
    16 + 8 * i
}

/// And the upper half.
pub const fn arg_high(i: u32) -> u32 {
    16 + 8 * i + 4
}

/// Numbers from here up are x32 calls under the x86_64 arch word.
pub const X32_BIT: u32 = 0x4000_0000;

/// An instruction; `jt` and `jf` are how many to leave out when it holds and when it does not.
pub const fn ins(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
    Instruction { code, jt, jf, k }
}

/// The verdict that the call fails with `e`.
pub fn errno(e: Errno) -> u32 {
    libc::SECCOMP_RET_ERRNO | (e.raw().unsigned_abs() & 0xffff)
}

/// A jump over so many instructions.
pub fn jump(over: usize) -> Instruction {
    ins(JUMP, 0, 0, u32::try_from(over).unwrap_or(u32::MAX))
}

/// What each number gets: code that returns, whichever way it takes.
pub type Leaves = Vec<(u32, Vec<Instruction>)>;

/// A search over `leaves`, which are sorted by number; the number is loaded.
pub fn tree(leaves: &[(u32, Vec<Instruction>)], others: u32) -> Vec<Instruction> {
    if leaves.len() <= 2 {
        let mut out = Vec::new();
        for (nr, code) in leaves {
            // A condition reaches 255 instructions far.
            match u8::try_from(code.len()) {
                Ok(over) => out.push(ins(EQUAL, 0, over, *nr)),
                Err(_) => out.extend([ins(EQUAL, 1, 0, *nr), jump(code.len())]),
            }
            out.extend_from_slice(code);
        }
        out.push(ins(RETURN, 0, 0, others));
        return out;
    }
    let (low, high) = leaves.split_at(leaves.len() / 2);
    let low_code = tree(low, others);
    let mut out = vec![ins(AT_LEAST, 0, 1, high[0].0), jump(low_code.len())];
    out.extend(low_code);
    out.extend(tree(high, others));
    out
}

#[cfg(test)]
mod tests {
    use super::super::interpreter::{self, Call};
    use super::*;

    #[test]
    fn a_leaf_may_be_longer_than_a_condition_reaches() {
        for length in [1, 254, 255, 256, 700] {
            let leaf = |verdict| {
                let mut code = vec![ins(LOAD, 0, 0, arg_low(0)); length - 1];
                code.push(ins(RETURN, 0, 0, verdict));
                code
            };
            for count in 1..=5u32 {
                let leaves: Leaves = (0..count).map(|nr| (nr * 2, leaf(100 + nr))).collect();
                let mut program = vec![ins(LOAD, 0, 0, NR)];
                program.extend(tree(&leaves, 7));
                for nr in 0..count * 2 + 1 {
                    let call = Call { nr, arch: 0, args: [0; 6] };
                    let want = if nr % 2 == 0 && nr < count * 2 { 100 + nr / 2 } else { 7 };
                    let got = interpreter::run(&program, &call).map(|(verdict, _)| verdict);
                    assert_eq!(got, Some(want), "{length} instructions, {count} calls, call {nr}");
                }
            }
        }
    }
}
