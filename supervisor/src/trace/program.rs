//! What a task is about to run: its arguments and environment, read from its memory.

use super::event::Exec;
use crate::table::Arch;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use std::collections::HashMap;
use std::io::IoSliceMut;
use vrift_store::Hash;

const PAGE: usize = 4096;
/// The most that is read of each, in bytes. The kernel's own limit is a quarter of the stack's.
const MOST: usize = 2 << 20;

/// Reads `argv`, and of `envp` its hash. What can't be read is left out.
pub fn read(tid: i32, arch: Arch, argv: u64, envp: u64) -> Exec {
    let mut memory = Memory { tid, pages: HashMap::new() };
    let wide = arch != Arch::I386;
    let (argv, cut) = memory.strings(argv, wide);
    let (mut env, _) = memory.strings(envp, wide);
    env.sort_unstable();
    let mut text = Vec::new();
    for string in &env {
        text.extend_from_slice(string);
        text.push(0);
    }
    Exec {
        argv: argv.into_iter().map(Into::into).collect(),
        env: Hash::of(&text).to_string(),
        cwd: None,
        interpreters: Vec::new(),
        cut,
    }
}

/// A task's memory, page by page: the strings of a vector mostly lie side by side.
struct Memory {
    tid: i32,
    pages: HashMap<u64, Option<Box<[u8; PAGE]>>>,
}

impl Memory {
    /// The bytes from `address` to the end of its page.
    fn at(&mut self, address: u64) -> Option<&[u8]> {
        let page = address & !(PAGE as u64 - 1);
        let tid = self.tid;
        let read = || {
            let mut bytes = Box::new([0u8; PAGE]);
            let remote = [RemoteIoVec { base: usize::try_from(page).ok()?, len: PAGE }];
            let mut local = [IoSliceMut::new(&mut bytes[..])];
            let n = process_vm_readv(Pid::from_raw(tid), &mut local, &remote).ok()?;
            (n == PAGE).then_some(bytes)
        };
        let bytes = self.pages.entry(page).or_insert_with(read).as_ref()?;
        bytes.get(usize::try_from(address - page).ok()?..)
    }

    fn word(&mut self, address: u64, wide: bool) -> Option<u64> {
        let size = if wide { 8 } else { 4 };
        let mut word = [0u8; 8];
        let mut have = 0;
        while have < size {
            let part = self.at(address.checked_add(have as u64)?)?;
            let n = part.len().min(size - have);
            word[have..have + n].copy_from_slice(&part[..n]);
            have += n;
        }
        let mut low = [0u8; 4];
        low.copy_from_slice(&word[..4]);
        Some(if wide { u64::from_ne_bytes(word) } else { u32::from_ne_bytes(low).into() })
    }

    fn string(&mut self, mut address: u64) -> Option<Vec<u8>> {
        let mut string = Vec::new();
        while string.len() <= MOST {
            let part = self.at(address)?;
            match part.iter().position(|&b| b == 0) {
                Some(end) => {
                    string.extend_from_slice(&part[..end]);
                    return Some(string);
                }
                None => {
                    string.extend_from_slice(part);
                    address = address.checked_add(part.len() as u64)?;
                }
            }
        }
        None
    }

    /// The strings of a vector that ends in NULL, and whether it was cut.
    fn strings(&mut self, vector: u64, wide: bool) -> (Vec<Vec<u8>>, bool) {
        let step = if wide { 8 } else { 4 };
        let (mut all, mut size, mut at) = (Vec::new(), 0, vector);
        if vector == 0 {
            return (all, false);
        }
        while let Some(address) = self.word(at, wide) {
            if address == 0 {
                return (all, false);
            }
            let Some(string) = self.string(address) else { return (all, true) };
            size += string.len() + step;
            if size > MOST {
                return (all, true);
            }
            all.push(string);
            let Some(next) = at.checked_add(step as u64) else { break };
            at = next;
        }
        (all, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;

    #[test]
    fn vectors_are_read_as_they_stand() {
        let words = ["cc", "", &"x".repeat(3 * PAGE), "last"];
        let strings: Vec<_> = words.iter().map(|w| CString::new(*w).expect("no NUL")).collect();
        let mut vector: Vec<u64> = strings.iter().map(|s| s.as_ptr().addr() as u64).collect();
        vector.push(0);
        let tid = nix::unistd::gettid().as_raw();
        let argv = vector.as_ptr().addr() as u64;
        let exec = read(tid, Arch::NATIVE, argv, 0);
        assert_eq!(exec.argv, words.map(super::super::Text::from));
        assert!(!exec.cut);
        assert_eq!(exec.env, Hash::of(b"").to_string());
        let mut sorted: Vec<_> = words.to_vec();
        sorted.sort_unstable();
        let env = read(tid, Arch::NATIVE, 0, argv).env;
        let text: String = sorted.iter().map(|word| format!("{word}\0")).collect();
        assert_eq!(env, Hash::of(text.as_bytes()).to_string());
        // The last pointer leads nowhere.
        let broken = [vector[0], 8];
        let exec = read(tid, Arch::NATIVE, broken.as_ptr().addr() as u64, 0);
        assert_eq!(exec.argv, ["cc".into()]);
        assert!(exec.cut);
    }
}
