//! The first stack of a new program: argc, argv, envp and the auxiliary vector.
//!
//! A program that the supervisor had executed by descriptor was given `/dev/fd/N` as its name, and
//! a script's interpreter none of the arguments that the kernel makes of `#!`. Before its first
//! instruction the block of pointers is written anew, a little lower, with the right strings
//! above it. The layout is create_elf_tables() of fs/binfmt_elf.c; a 32-bit program's words have
//! four bytes.

use crate::sys::trace::Registers;
use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::unistd::Pid;
use std::io::{IoSlice, IoSliceMut};

const PAGE: usize = 4096;
/// `AT_EXECFN`.
const AT_EXECFN: u64 = 31;
/// `AT_SYSINFO_EHDR`.
const AT_SYSINFO_EHDR: u64 = 33;
/// More than arch_align_stack() of arch/x86/kernel/process.c and the strings leave in between.
const MAX_GAP: usize = 64 * 1024;
/// More arguments and environment than the kernel lets through are no stack.
const LIMIT: usize = 64 * 1024 * 1024;

/// What stands where on the stack then.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Places {
    /// The program's name, a C string.
    pub name: u64,
    /// The strings of the arguments, one after the other, where they are changed.
    pub arguments: Option<(u64, u64)>,
    /// [`SCRATCH`] bytes that nobody needs, where the arguments are changed.
    pub scratch: u64,
    /// `AT_SYSINFO_EHDR`: where the vDSO is mapped.
    pub vdso: Option<u64>,
    /// The stack pointer.
    pub sp: u64,
}

/// Room for a structure of the supervisor's.
pub const SCRATCH: usize = 112;

/// A new program's first stack, made anew.
pub struct Stack {
    image: Vec<u8>,
    /// What stands where.
    pub places: Places,
}

impl Stack {
    /// Replaces the first argument by `prefix`, if there is one, and the program's name by `name`.
    /// Nothing is written yet.
    ///
    /// With `end`, where the argument strings end as the kernel keeps it, the new arguments'
    /// strings stand right before the second one's, as if the kernel had put them there:
    /// /proc/PID/cmdline is one piece of memory. What is in the way (the first argument, and below
    /// it `AT_RANDOM` and its like, up to the block of pointers) moves down.
    pub fn rebuild(
        tid: i32,
        regs: &Registers,
        prefix: Option<&[Vec<u8>]>,
        name: &[u8],
        end: Option<u64>,
    ) -> Result<Stack, String> {
        let sp = usize::try_from(stack_pointer(regs)).map_err(|e| e.to_string())?;
        let word = word_size(regs);
        let old = Block::read(tid, sp, word)?;
        let end = end.filter(|_| old.value(AT_SYSINFO_EHDR).is_some());
        let layout = Layout::new(&old, sp, word, prefix, name, end)?;
        let mut image = vec![0u8; layout.end - layout.sp];
        let words = layout.words(&old);
        for (slot, value) in image.chunks_exact_mut(word).zip(&words) {
            slot.copy_from_slice(&value.to_ne_bytes()[..word]);
        }
        let mut put = |at: usize, bytes: &[u8]| {
            image[at - layout.sp..at - layout.sp + bytes.len()].copy_from_slice(bytes);
        };
        put(layout.name, name);
        let gap = read(tid, layout.gap + layout.moved, layout.gap_len)?;
        if gap.len() != layout.gap_len {
            return Err("a part of the stack can't be read".into());
        }
        put(layout.gap, &gap);
        for (text, at) in prefix.unwrap_or_default().iter().zip(&layout.prefix) {
            put(*at, text);
        }
        let first = layout.prefix.first().map(|at| *at as u64);
        let places = Places {
            name: layout.name as u64,
            arguments: first.zip(end),
            scratch: layout.scratch as u64,
            vdso: old.value(AT_SYSINFO_EHDR),
            sp: layout.sp as u64,
        };
        Ok(Stack { image, places })
    }

    /// Writes it. EFAULT: the stack is not mapped as far down; see [`crate::title::reach`].
    pub fn write(&self, tid: i32, regs: &mut Registers) -> Result<(), Errno> {
        let base = usize::try_from(self.places.sp).map_err(|_| Errno::EFAULT)?;
        let remote = [RemoteIoVec { base, len: self.image.len() }];
        match process_vm_writev(Pid::from_raw(tid), &[IoSlice::new(&self.image)], &remote)? {
            n if n == self.image.len() => {
                set_stack_pointer(regs, self.places.sp);
                Ok(())
            }
            _ => Err(Errno::EFAULT),
        }
    }
}

/// Where everything goes.
struct Layout {
    sp: usize,
    words: usize,
    name: usize,
    scratch: usize,
    /// The moved part: its new place, its length, and how far it moved down.
    gap: usize,
    gap_len: usize,
    moved: usize,
    /// The strings of the new arguments.
    prefix: Vec<usize>,
    /// The end of what is written.
    end: usize,
}

impl Layout {
    fn new(
        old: &Block,
        sp: usize,
        word: usize,
        prefix: Option<&[Vec<u8>]>,
        name: &[u8],
        end: Option<u64>,
    ) -> Result<Layout, String> {
        let size = |n: u64| usize::try_from(n).map_err(|e| e.to_string());
        let top = sp + old.words * word;
        let mut words = old.words;
        let (mut gap_len, mut moved, mut strings) = (0, 0, Vec::new());
        let (mut end_of_image, mut gap) = (top, top);
        if let Some(prefix) = prefix {
            // The block, what is in between, the first argument, the second: upwards in memory.
            let (first, second) = match end {
                Some(end) => {
                    let second = old.argv.get(1).copied().unwrap_or(end);
                    (size(old.argv.first().copied().unwrap_or(end))?, size(second)?)
                }
                // Wherever there is room: below the block's end.
                None => (top, top),
            };
            if !(top <= first && first <= second && first - top <= MAX_GAP) {
                return Err("the new program's arguments are not where they should be".into());
            }
            let bytes: usize = prefix.iter().map(|text| text.len() + 1).sum();
            let mut at = second - bytes;
            let start = at;
            for text in prefix {
                strings.push(at);
                at += text.len() + 1;
            }
            gap_len = first - top;
            // As far down as need be, with the alignment that it had.
            moved = first.saturating_sub(start).next_multiple_of(16);
            gap = top - moved;
            end_of_image = second;
            words += prefix.len();
            words -= old.argv.len().min(1);
        }
        let name_at = gap - (name.len() + 1).next_multiple_of(16);
        let scratch = if prefix.is_some() { name_at - SCRATCH } else { name_at };
        let sp = (scratch - words * word) & !15;
        Ok(Layout {
            sp,
            words,
            name: name_at,
            scratch,
            gap,
            gap_len,
            moved,
            prefix: strings,
            end: end_of_image,
        })
    }

    /// The block of pointers.
    fn words(&self, old: &Block) -> Vec<u64> {
        let kept = match self.prefix.is_empty() {
            true => old.argv.as_slice(),
            false => old.argv.get(1..).unwrap_or_default(),
        };
        let mut words = Vec::with_capacity(self.words);
        words.push((self.prefix.len() + kept.len()) as u64);
        words.extend(self.prefix.iter().map(|at| *at as u64));
        words.extend_from_slice(kept);
        words.push(0);
        words.extend_from_slice(&old.envp);
        words.push(0);
        let before = (self.gap + self.moved) as u64;
        let gap = before..before + self.gap_len as u64;
        for (key, value) in &old.auxv {
            words.push(*key);
            words.push(match *key {
                AT_EXECFN => self.name as u64,
                _ if gap.contains(value) => value - self.moved as u64,
                _ => *value,
            });
        }
        words
    }
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

    fn value(&self, key: u64) -> Option<u64> {
        self.auxv.iter().find_map(|(k, value)| (*k == key).then_some(*value))
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
pub fn read(tid: i32, from: usize, size: usize) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0u8; size];
    let mut done = 0;
    while done < size {
        let at = from + done;
        let len = (PAGE - at % PAGE).min(size - done);
        let remote = [RemoteIoVec { base: at, len }];
        let mut local = [IoSliceMut::new(&mut bytes[done..done + len])];
        match process_vm_readv(Pid::from_raw(tid), &mut local, &remote) {
            Ok(n) if n > 0 => done += n,
            Ok(_) | Err(Errno::EFAULT) => break,
            Err(e) => return Err(format!("process_vm_readv: {e}")),
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

/// Bytes of a pointer: the code segment tells a 32-bit program (`__USER32_CS`).
#[cfg(target_arch = "x86_64")]
pub fn word_size(regs: &Registers) -> usize {
    const USER32_CS: u64 = 0x23;
    if regs.cs == USER32_CS { 4 } else { 8 }
}
#[cfg(target_arch = "aarch64")]
pub fn word_size(_regs: &Registers) -> usize {
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

    /// A block at 0x1000 with these arguments' addresses; AT_RANDOM stands behind it.
    fn block(argv: &[u64]) -> Block {
        let words = 1 + argv.len() + 2 + 6;
        let random = 0x1000 + words as u64 * 8 + 8;
        let auxv = vec![(25, random), (AT_EXECFN, 0x9000), (0, 0)];
        Block { argv: argv.to_vec(), envp: vec![], auxv, words }
    }

    #[test]
    fn new_arguments_stand_right_before_the_second_one() {
        let old = block(&[0x1100, 0x1110]);
        let prefix = [b"/bin/sh".to_vec(), b"-e".to_vec(), b"/vrift/a/long/script".to_vec()];
        let new = Layout::new(&old, 0x1000, 8, Some(&prefix), b"name", Some(0x1120));
        let new = new.expect("it fits");
        let end = new.prefix[2] + prefix[2].len() + 1;
        assert_eq!(end, 0x1110, "no hole in what /proc shows");
        assert_eq!(new.prefix[1], new.prefix[0] + 8);
        // Nothing overlaps, from the block up.
        assert!(new.sp.is_multiple_of(16) && new.sp + new.words * 8 <= new.scratch);
        assert!(new.scratch + SCRATCH <= new.name && new.name + 5 <= new.gap);
        assert!(new.gap + new.gap_len <= new.prefix[0] && new.moved.is_multiple_of(16));
        let words = new.words(&old);
        assert_eq!(words.len(), new.words);
        assert_eq!(words[..6], [4, new.prefix[0] as u64, words[2], words[3], 0x1110, 0]);
        let random = old.auxv[0].1 - new.moved as u64;
        assert_eq!(words[7..], [25, random, AT_EXECFN, new.name as u64, 0, 0]);
    }

    #[test]
    fn a_name_alone_moves_nothing() {
        let old = block(&[0x1100]);
        let new = Layout::new(&old, 0x1000, 8, None, b"name", None).expect("it fits");
        assert_eq!((new.moved, new.gap_len, new.end), (0, 0, 0x1000 + old.words * 8));
        assert_eq!(new.words(&old)[..3], [1, 0x1100, 0]);
        assert!(new.sp + new.words * 8 <= new.name && new.name + 5 <= new.end);
    }

    #[test]
    fn arguments_that_are_not_there_and_strange_ones() {
        let prefix = [b"sh".to_vec(), b"script".to_vec()];
        let new =
            |argv: &[u64], end| Layout::new(&block(argv), 0x1000, 8, Some(&prefix), b"n", end);
        assert_eq!(new(&[], Some(0x1200)).expect("it fits").prefix[0], 0x1200 - 10);
        for argv in [[0x900, 0x910], [0x1100, 0x1050], [0x1100, 0x10]] {
            assert!(new(&argv, Some(0x1200)).is_err(), "{argv:x?}");
        }
    }

    #[test]
    fn arguments_that_need_not_be_in_one_piece_move_nothing() {
        let prefix = [b"sh".to_vec(), b"script".to_vec()];
        let old = block(&[0x1100, 0x1110]);
        let new = Layout::new(&old, 0x1000, 8, Some(&prefix), b"name", None).expect("it fits");
        let top = 0x1000 + old.words * 8;
        assert_eq!((new.gap_len, new.end, new.prefix[1] + 7), (0, top, top));
        assert!(new.sp + new.words * 8 <= new.scratch && new.name + 5 <= new.prefix[0]);
        assert_eq!(new.words(&old)[..4], [3, new.prefix[0] as u64, new.prefix[1] as u64, 0x1110]);
    }

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
