//! What a file to be run is, from its first bytes: `#!` and the program interpreter of an ELF.
//!
//! The kernel opens both by itself and unseen, so both have to be resolved here. Follows
//! load_script() of fs/binfmt_script.c and load_elf_binary() of fs/binfmt_elf.c.

/// How many bytes the kernel looks at for `#!`, `BINPRM_BUF_SIZE`.
const SCRIPT_HEAD: usize = 256;
/// `PT_INTERP`.
const PT_INTERP: u32 = 3;

/// What the first bytes say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Kind {
    /// `#!`: the interpreter and its one argument.
    Script { interpreter: Vec<u8>, argument: Option<Vec<u8>> },
    /// An ELF with a program interpreter, and where its program header is.
    Dynamic { interpreter: Vec<u8>, header: InterpHeader },
    /// Anything else: a static ELF, or something the kernel will judge.
    Other,
}

/// Where the `PT_INTERP` program header has its `p_offset` and `p_filesz`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct InterpHeader {
    /// File offset of `p_offset`.
    pub offset_at: usize,
    /// File offset of `p_filesz` (and, a word on, `p_memsz`).
    pub size_at: usize,
    /// Are these words of eight bytes (ELF64) or four?
    pub wide: bool,
}

/// Reads `len` bytes at a file offset.
pub trait ReadAt {
    /// As many of `buf` as there are.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<usize>;
}

impl ReadAt for std::fs::File {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, buf, offset)
    }
}

impl ReadAt for &[u8] {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<usize> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.len());
        let n = buf.len().min(self.len() - start);
        buf[..n].copy_from_slice(&self[start..start + n]);
        Ok(n)
    }
}

/// What is this file?
pub fn inspect(file: &impl ReadAt) -> std::io::Result<Kind> {
    let mut head = [0u8; 4096];
    let n = file.read_at(0, &mut head)?;
    let head = &head[..n];
    if head.starts_with(b"#!") {
        return Ok(script(&head[..n.min(SCRIPT_HEAD)]));
    }
    if !head.starts_with(b"\x7fELF") {
        return Ok(Kind::Other);
    }
    elf(file, head)
}

fn script(head: &[u8]) -> Kind {
    let line = &head[2..];
    let blank = |b: &u8| *b == b' ' || *b == b'\t';
    let end = line.iter().position(|&b| b == b'\n' || b == 0);
    let start = line.iter().position(|b| !blank(b)).unwrap_or(line.len());
    if end.is_none() && head.len() == SCRIPT_HEAD {
        // The line is longer than the kernel looks: it goes on only if the interpreter itself is
        // whole, that is, if a blank or the end comes after it.
        if !line[start..].iter().any(blank) {
            return Kind::Other;
        }
    }
    let end = end.unwrap_or(line.len()).max(start);
    let line = &line[start..end];
    let line = &line[..line.iter().rposition(|b| !blank(b)).map_or(0, |n| n + 1)];
    if line.is_empty() {
        return Kind::Other;
    }
    match line.iter().position(blank) {
        None => Kind::Script { interpreter: line.to_vec(), argument: None },
        Some(cut) => {
            let rest = &line[cut..];
            let begin = rest.iter().position(|b| !blank(b)).unwrap_or(rest.len());
            Kind::Script {
                interpreter: line[..cut].to_vec(),
                argument: Some(rest[begin..].to_vec()),
            }
        }
    }
}

fn elf(file: &impl ReadAt, head: &[u8]) -> std::io::Result<Kind> {
    let wide = match head.get(4) {
        Some(1) => false,
        Some(2) => true,
        _ => return Ok(Kind::Other),
    };
    // Little-endian only: neither architecture here runs the other kind.
    if head.get(5) != Some(&1) {
        return Ok(Kind::Other);
    }
    let (phoff_at, phentsize_at) = if wide { (32, 54) } else { (28, 42) };
    let word = if wide { 8 } else { 4 };
    let (Some(phoff), Some(entry), Some(count)) = (
        number(head, phoff_at, word),
        number(head, phentsize_at, 2),
        number(head, phentsize_at + 2, 2),
    ) else {
        return Ok(Kind::Other);
    };
    // ELF_MIN_ALIGN bounds the table to one page in the kernel.
    let size = usize::try_from(entry * count).unwrap_or(usize::MAX);
    if entry == 0 || size > 65_536 {
        return Ok(Kind::Other);
    }
    let mut table = vec![0u8; size];
    if file.read_at(phoff, &mut table)? < size {
        return Ok(Kind::Other);
    }
    let entry = usize::try_from(entry).unwrap_or(usize::MAX);
    for (i, header) in table.chunks_exact(entry).enumerate() {
        if number(header, 0, 4) != Some(u64::from(PT_INTERP)) {
            continue;
        }
        let (offset_in, size_in) = if wide { (8, 32) } else { (4, 16) };
        let (Some(offset), Some(len)) =
            (number(header, offset_in, word), number(header, size_in, word))
        else {
            return Ok(Kind::Other);
        };
        if !(2..=4096).contains(&len) {
            return Ok(Kind::Other);
        }
        let mut name = vec![0u8; usize::try_from(len).unwrap_or(0)];
        if file.read_at(offset, &mut name)? < name.len() || name.last() != Some(&0) {
            return Ok(Kind::Other);
        }
        let end = name.iter().position(|&b| b == 0).unwrap_or(0);
        name.truncate(end);
        let base = usize::try_from(phoff).unwrap_or(0) + i * entry;
        return Ok(Kind::Dynamic {
            interpreter: name,
            header: InterpHeader { offset_at: base + offset_in, size_at: base + size_in, wide },
        });
    }
    Ok(Kind::Other)
}

fn number(bytes: &[u8], at: usize, len: usize) -> Option<u64> {
    let mut word = [0u8; 8];
    word[..len].copy_from_slice(bytes.get(at..at + len)?);
    Some(u64::from_le_bytes(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(bytes: &[u8]) -> Kind {
        inspect(&bytes).expect("memory can be read")
    }

    fn script_of(i: &str, a: Option<&str>) -> Kind {
        Kind::Script { interpreter: i.into(), argument: a.map(Into::into) }
    }

    #[test]
    fn script_lines_are_cut_as_the_kernel_cuts_them() {
        assert_eq!(kind(b"#!/bin/sh\necho"), script_of("/bin/sh", None));
        assert_eq!(kind(b"#! /bin/sh -e \nx"), script_of("/bin/sh", Some("-e")));
        assert_eq!(kind(b"#!/usr/bin/env -S a  b\n"), script_of("/usr/bin/env", Some("-S a  b")));
        assert_eq!(kind(b"#!/bin/sh"), script_of("/bin/sh", None));
        assert_eq!(kind(b"#!\n/bin/sh"), Kind::Other);
        assert_eq!(kind(b"#!   \n"), Kind::Other);
        assert_eq!(kind(b""), Kind::Other);
        let long = [b"#!/".as_slice(), &[b'x'; 300]].concat();
        assert_eq!(kind(&long), Kind::Other, "a name that is cut off is not run");
    }

    #[test]
    fn the_interpreter_of_this_test_is_found() {
        let file = std::fs::File::open("/proc/self/exe").expect("the test's own program");
        match inspect(&file).expect("it can be read") {
            Kind::Dynamic { interpreter, header } => {
                assert!(interpreter.starts_with(b"/lib"), "{interpreter:?}");
                assert!(header.wide && header.size_at == header.offset_at + 24);
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn damaged_headers_are_nothing_special() {
        let file = std::fs::read("/proc/self/exe").expect("the test's own program");
        for len in 0..200 {
            let _ = kind(&file[..len]);
        }
        let mut bad = file[..4096].to_vec();
        for i in 0..64 {
            let old = bad[i];
            bad[i] = 0xff;
            let _ = kind(&bad);
            bad[i] = old;
        }
    }
}
