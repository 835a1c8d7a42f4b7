//! The first stack of a new program: argc, argv, envp and the auxiliary vector.
//!
//! A program that the supervisor had executed by descriptor was given `/dev/fd/N` as its name, and
//! a script's interpreter none of the arguments that the kernel makes of `#!`. Before its first
//! instruction the block of pointers is written anew, a little lower, with the right strings
//! above it. The layout is create_elf_tables() of fs/binfmt_elf.c; a 32-bit program's words have
//! four bytes.

use crate::sys::trace::Registers;
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::unistd::Pid;
use std::io::{IoSlice, IoSliceMut};

const PAGE: usize = 4096;
/// `AT_EXECFN`.
const AT_EXECFN: u64 = 31;
/// More arguments and environment than the kernel lets through are no stack.
const LIMIT: usize = 64 * 1024 * 1024;

/// Replaces the first argument by `prefix`, if there is one, and the program's name by `name`.
pub fn rebuild(
    tid: i32,
    regs: &mut Registers,
    prefix: Option<&[Vec<u8>]>,
    name: &[u8],
) -> Result<(), String> {
    let sp = usize::try_from(stack_pointer(regs)).map_err(|e| e.to_string())?;
    let word = word_size(regs);
    let old = Block::read(tid, sp, word)?;
    let mut strings = Vec::new();
    let mut offsets = Vec::new();
    for text in prefix.unwrap_or_default() {
        offsets.push(strings.len());
        strings.extend_from_slice(text);
        strings.push(0);
    }
    let name_at = strings.len();
    strings.extend_from_slice(name);
    strings.push(0);
    // Strings below the old block's end, the new block below them, aligned as the ABI wants.
    let top = sp + old.words * word;
    let base = top - strings.len().next_multiple_of(16);
    let mut words: Vec<u64> = Vec::with_capacity(old.words + offsets.len());
    let kept = if prefix.is_some() { old.argv.get(1..).unwrap_or_default() } else { &old.argv };
    words.push((offsets.len() + kept.len()) as u64);
    words.extend(offsets.iter().map(|o| (base + o) as u64));
    words.extend_from_slice(kept);
    words.push(0);
    words.extend_from_slice(&old.envp);
    words.push(0);
    for (key, value) in &old.auxv {
        words.push(*key);
        words.push(if *key == AT_EXECFN { (base + name_at) as u64 } else { *value });
    }
    let new_sp = (base - words.len() * word) & !15;
    let mut image: Vec<u8> =
        words.iter().flat_map(|w| w.to_ne_bytes().into_iter().take(word)).collect();
    image.resize(base - new_sp, 0);
    image.extend_from_slice(&strings);
    let remote = [RemoteIoVec { base: new_sp, len: image.len() }];
    match process_vm_writev(Pid::from_raw(tid), &[IoSlice::new(&image)], &remote) {
        Ok(n) if n == image.len() => {}
        Ok(n) => return Err(format!("{n} of {} bytes of the stack were written", image.len())),
        Err(e) => return Err(format!("process_vm_writev: {e}")),
    }
    set_stack_pointer(regs, new_sp as u64);
    Ok(())
}

struct Block {
    argv: Vec<u64>,
    envp: Vec<u64>,
    auxv: Vec<(u64, u64)>,
    /// Words from argc to the end of the auxiliary vector.
    words: usize,
}

impl Block {
    fn read(tid: i32, sp: usize, word: usize) -> Result<Block, String> {
        let mut size = 4 * PAGE;
        loop {
            let bytes = read(tid, sp, size)?;
            let words: Vec<u64> = bytes
                .chunks_exact(word)
                .map(|w| {
                    let mut wide = [0u8; 8];
                    wide[..word].copy_from_slice(w);
                    // Both architectures are little-endian.
                    u64::from_le_bytes(wide)
                })
                .collect();
            if let Some(block) = Block::parse(&words) {
                return Ok(block);
            }
            if bytes.len() < size || size >= LIMIT {
                return Err("the new program's stack is not as expected".into());
            }
            size *= 4;
        }
    }

    fn parse(words: &[u64]) -> Option<Block> {
        let argc = usize::try_from(*words.first()?).ok()?;
        let argv = words.get(1..argc.checked_add(1)?)?.to_vec();
        let mut at = argc + 2;
        let envp: Vec<u64> = words.get(at..)?.iter().copied().take_while(|&w| w != 0).collect();
        at += envp.len() + 1;
        let mut auxv = Vec::new();
        loop {
            let pair = (*words.get(at)?, *words.get(at + 1)?);
            at += 2;
            auxv.push(pair);
            if pair.0 == 0 {
                return Some(Block { argv, envp, auxv, words: at });
            }
        }
    }
}

/// Reads up to `size` bytes, page by page, as many as are mapped.
fn read(tid: i32, from: usize, size: usize) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0u8; size];
    let mut done = 0;
    while done < size {
        let at = from + done;
        let len = (PAGE - at % PAGE).min(size - done);
        let remote = [RemoteIoVec { base: at, len }];
        let mut local = [IoSliceMut::new(&mut bytes[done..done + len])];
        match process_vm_readv(Pid::from_raw(tid), &mut local, &remote) {
            Ok(n) if n > 0 => done += n,
            Ok(_) | Err(nix::errno::Errno::EFAULT) => break,
            Err(e) => return Err(format!("process_vm_readv: {e}")),
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

/// Bytes of a pointer: the code segment tells a 32-bit program (`__USER32_CS`).
#[cfg(target_arch = "x86_64")]
fn word_size(regs: &Registers) -> usize {
    const USER32_CS: u64 = 0x23;
    if regs.cs == USER32_CS { 4 } else { 8 }
}
#[cfg(target_arch = "aarch64")]
fn word_size(_regs: &Registers) -> usize {
    8
}
#[cfg(target_arch = "x86_64")]
fn stack_pointer(regs: &Registers) -> u64 {
    regs.rsp
}
#[cfg(target_arch = "x86_64")]
fn set_stack_pointer(regs: &mut Registers, sp: u64) {
    regs.rsp = sp;
}
#[cfg(target_arch = "aarch64")]
fn stack_pointer(regs: &Registers) -> u64 {
    regs.sp
}
#[cfg(target_arch = "aarch64")]
fn set_stack_pointer(regs: &mut Registers, sp: u64) {
    regs.sp = sp;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_taken_apart() {
        let words = [2, 0x10, 0x20, 0, 0x30, 0, 31, 0x40, 0, 0, 99];
        let block = Block::parse(&words).expect("whole");
        assert_eq!(block.argv, [0x10, 0x20]);
        assert_eq!(block.envp, [0x30]);
        assert_eq!(block.auxv, [(31, 0x40), (0, 0)]);
        assert_eq!(block.words, 10);
        assert!(Block::parse(&words[..8]).is_none(), "cut short");
        assert!(Block::parse(&[u64::MAX]).is_none());
    }
}
