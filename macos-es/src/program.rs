//! Whether the loader lets the shim into a program: by its Mach-O header and its signature.
//!
//! From `mach-o/loader.h`, `mach-o/fat.h` and `bsd/kern/cs_blobs.h`. A fixed buffer, no allocation:
//! it is asked between fork and exec. What can't be read as a program is the kernel's to refuse.

use crate::shim::symbols::Arch;
use vrift_policy::Errno;

/// Why it does not.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Apple's own: `DYLD_INSERT_LIBRARIES` is taken away.
    Platform,
    /// Set-user-id, or set-group-id: likewise.
    SetId,
    /// A `__RESTRICT` segment, or `CS_RESTRICT`: likewise.
    Restricted,
    /// The hardened runtime without the entitlement for the variable: likewise.
    Hardened,
    /// Its libraries have to be signed as it is: it ends.
    Validation,
    /// Compiled for arm64e, for which the shim has nothing: it ends.
    Arm64e,
}

impl Refusal {
    /// In words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Refusal::Platform => "Apple's own",
            Refusal::SetId => "set-id",
            Refusal::Restricted => "restricted",
            Refusal::Hardened => "hardened",
            Refusal::Validation => "validates its libraries",
            Refusal::Arm64e => "arm64e",
        }
    }
}

/// What a file is that is to be run.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// The shim is let in.
    Open,
    /// It is not.
    Closed(Refusal),
    /// A script: what follows `#!` is in the buffer that was handed over, this many bytes of it; its
    /// [`words`] are the interpreter's path and its first arguments.
    Script(usize),
    /// None that this knows.
    Other,
}

/// Reads some of a file: from where, and into what; fewer bytes than asked for at its end.
pub type ReadAt<'a> = &'a mut dyn FnMut(u64, &mut [u8]) -> Result<usize, Errno>;

/// `st_mode` bits that make a program set-id.
const SET_ID: u32 = 0o6000;
/// `SF_RESTRICTED` of `st_flags`: guarded by System Integrity Protection.
pub const SF_RESTRICTED: u32 = 0x8_0000;

const FAT: u32 = 0xcafe_babe;
const FAT_64: u32 = 0xcafe_babf;
const MACH_64: u32 = 0xfeed_facf;
const CPU_X86_64: u32 = 0x0100_0007;
const CPU_ARM64: u32 = 0x0100_000c;
const SUBTYPE_ARM64E: u32 = 2;
const LC_SEGMENT_64: u32 = 0x19;
const LC_CODE_SIGNATURE: u32 = 0x1d;
const SUPER_BLOB: u32 = 0xfade_0cc0;
const CODE_DIRECTORY: u32 = 0xfade_0c02;
const ENTITLEMENTS: u32 = 0xfade_7171;
const CS_RESTRICT: u32 = 0x800;
const CS_REQUIRE_LV: u32 = 0x2000;
const CS_RUNTIME: u32 = 0x1_0000;

const ALLOWS_VARIABLES: &[u8] = b"com.apple.security.cs.allow-dyld-environment-variables";
const ALLOWS_LIBRARIES: &[u8] = b"com.apple.security.cs.disable-library-validation";

/// What a file is, by `st_mode`, `st_flags` and what is in it. `script` gets a `#!` line, and has room
/// for 512 bytes, which is all the kernel looks at.
///
/// # Errors
/// It can't be read.
pub fn examine(
    (mode, flags): (u32, u32),
    arch: Arch,
    read: ReadAt<'_>,
    script: &mut [u8],
) -> Result<Program, Errno> {
    let mut head = [0u8; 1024];
    let length = read(0, &mut head)?;
    let head = &head[..length];
    if let Some(line) = head.strip_prefix(b"#!") {
        return Ok(first_line(line, script));
    }
    let Some((at, subtype)) = slice(head, arch) else { return Ok(Program::Other) };
    let closed = |why| Ok(Program::Closed(why));
    if mode & SET_ID != 0 {
        return closed(Refusal::SetId);
    }
    if flags & SF_RESTRICTED != 0 {
        return closed(Refusal::Platform);
    }
    if subtype & 0xff == SUBTYPE_ARM64E && arch == Arch::Arm64 {
        return closed(Refusal::Arm64e);
    }
    let Some(signature) = commands(at, read)? else { return closed(Refusal::Restricted) };
    let found = if signature == 0 { Signature::default() } else { signed(at + signature, read)? };
    let hardened = found.flags & CS_RUNTIME != 0;
    let validates = hardened || found.flags & CS_REQUIRE_LV != 0;
    Ok(match () {
        () if found.platform => Program::Closed(Refusal::Platform),
        () if found.flags & CS_RESTRICT != 0 => Program::Closed(Refusal::Restricted),
        () if hardened && !found.variables => Program::Closed(Refusal::Hardened),
        () if validates && !found.libraries => Program::Closed(Refusal::Validation),
        () => Program::Open,
    })
}

/// The words of a `#!` line: XNU hands each of them on by itself (`exec_shell_imgact`).
pub fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|&byte| byte == b' ' || byte == b'\t').filter(|word| !word.is_empty())
}

fn first_line(text: &[u8], script: &mut [u8]) -> Program {
    let line = text.split(|&byte| byte == b'\n' || byte == 0).next().unwrap_or_default();
    match script.get_mut(..line.len()) {
        Some(room) if words(line).next().is_some() => {
            room.copy_from_slice(line);
            Program::Script(line.len())
        }
        // The kernel says what is wrong with it.
        _ => Program::Other,
    }
}

fn big(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}

fn little(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

/// Whether a file that begins so has code that this processor runs untranslated, which is what a process
/// that is itself not translated can load. Not arm64e: a plain process can't.
#[must_use]
pub fn native(head: &[u8], arch: Arch) -> bool {
    match arch {
        Arch::X86_64 => part(head, &[CPU_X86_64]).is_some(),
        Arch::Arm64 => {
            part(head, &[CPU_ARM64]).is_some_and(|(_, subtype)| subtype & 0xff != SUBTYPE_ARM64E)
        }
    }
}

/// Where the part begins that this processor would run, be it translated, and its subtype.
fn slice(head: &[u8], arch: Arch) -> Option<(u64, u32)> {
    match arch {
        Arch::X86_64 => part(head, &[CPU_X86_64]),
        Arch::Arm64 => part(head, &[CPU_ARM64, CPU_X86_64]),
    }
}

/// Where the best part for these processors begins, and its subtype. The kernel takes arm64e of a program
/// of Apple's own alone, which `SF_RESTRICTED` tells; so the plain one comes first.
fn part(head: &[u8], cpus: &[u32]) -> Option<(u64, u32)> {
    let wanted = |cpu| cpus.contains(&cpu);
    if little(head, 0) == Some(MACH_64) {
        let (cpu, subtype) = (little(head, 4)?, little(head, 8)?);
        return wanted(cpu).then_some((0, subtype));
    }
    let wide = big(head, 0) == Some(FAT_64);
    if !wide && big(head, 0) != Some(FAT) {
        return None;
    }
    let size = if wide { 32 } else { 20 };
    let mut best: Option<(u32, (u64, u32))> = None;
    for number in 0..usize::try_from(big(head, 4)?).ok()? {
        let at = 8 + number * size;
        let Some((cpu, subtype)) = big(head, at).zip(big(head, at + 4)) else { break };
        if !wanted(cpu) {
            continue;
        }
        let offset = if wide {
            u64::from(big(head, at + 8)?) << 32 | u64::from(big(head, at + 12)?)
        } else {
            u64::from(big(head, at + 8)?)
        };
        let rank = match cpu {
            CPU_ARM64 if subtype & 0xff != SUBTYPE_ARM64E => 3,
            CPU_ARM64 => 2,
            _ => 1,
        };
        if best.is_none_or(|(other, _)| rank > other) {
            best = Some((rank, (offset, subtype)));
        }
    }
    best.map(|(_, found)| found)
}

/// Goes through the load commands: where in the part the signature is, 0 if there is none, and None
/// if it has a `__RESTRICT` segment.
fn commands(start: u64, read: ReadAt<'_>) -> Result<Option<u64>, Errno> {
    let mut header = [0u8; 32];
    exactly(start, &mut header, read)?;
    let count = little(&header, 16).ok_or(Errno::ENOEXEC)?;
    let (mut at, mut signature) = (start + 32, 0);
    for _ in 0..count {
        let mut command = [0u8; 24];
        // The last one may be shorter.
        let length = read(at, &mut command)?;
        let command = &command[..length];
        let (kind, size) = little(command, 0).zip(little(command, 4)).ok_or(Errno::ENOEXEC)?;
        if size < 8 {
            return Err(Errno::ENOEXEC);
        }
        match kind {
            LC_SEGMENT_64 if command.get(8..18) == Some(b"__RESTRICT") => return Ok(None),
            LC_CODE_SIGNATURE => {
                signature = u64::from(little(command, 8).ok_or(Errno::ENOEXEC)?);
            }
            _ => {}
        }
        at += u64::from(size);
    }
    Ok(Some(signature))
}

/// What a signature says.
#[derive(Default)]
struct Signature {
    flags: u32,
    platform: bool,
    variables: bool,
    libraries: bool,
}

fn signed(start: u64, read: ReadAt<'_>) -> Result<Signature, Errno> {
    let mut found = Signature::default();
    let mut head = [0u8; 12];
    exactly(start, &mut head, read)?;
    if big(&head, 0) != Some(SUPER_BLOB) {
        return Ok(found);
    }
    // A signature has about ten.
    let count = u64::from(big(&head, 8).unwrap_or(0).min(64));
    for number in 0..count {
        let mut index = [0u8; 8];
        exactly(start + 12 + number * 8, &mut index, read)?;
        let at = start + u64::from(big(&index, 4).unwrap_or(0));
        let mut blob = [0u8; 40];
        let length = read(at, &mut blob)?;
        let blob = &blob[..length];
        // Cut short: the kernel does not start such a one.
        if length < 8 || big(blob, 0) == Some(CODE_DIRECTORY) && length < 40 {
            return Err(Errno::ENOEXEC);
        }
        match big(blob, 0) {
            // The first one is the one that counts; the others are of other hashes, and say the same.
            Some(CODE_DIRECTORY) => {
                found.flags |= big(blob, 12).unwrap_or(0);
                found.platform |= blob.get(38).is_some_and(|&platform| platform != 0);
            }
            Some(ENTITLEMENTS) => {
                let length = u64::from(big(blob, 4).unwrap_or(0));
                let text = (at + 8, at + length.max(8));
                found.variables |= is_true(text, ALLOWS_VARIABLES, read)?;
                found.libraries |= is_true(text, ALLOWS_LIBRARIES, read)?;
            }
            _ => {}
        }
    }
    Ok(found)
}

/// Bytes that are looked at at once, and by how many two looks overlap: more than a key, its marks
/// and its value.
const WINDOW: usize = 1024;
const OVERLAP: usize = 256;

/// Does a property list set a key to true?
fn is_true((mut at, end): (u64, u64), key: &[u8], read: ReadAt<'_>) -> Result<bool, Errno> {
    while at < end {
        let mut window = [0u8; WINDOW];
        let room = usize::try_from(end - at).unwrap_or(WINDOW).min(WINDOW);
        let length = read(at, &mut window[..room])?;
        let text = &window[..length];
        if let Some(found) = text.windows(key.len()).position(|part| part == key) {
            let after = &text[found + key.len()..];
            if let Some(after) = after.strip_prefix(b"</key>") {
                let value = after.trim_ascii_start();
                // Cut off by the window's end: the next one has it whole.
                if value.len() >= 7 || at + length as u64 >= end {
                    return Ok(value.starts_with(b"<true/>"));
                }
            }
        }
        if length < WINDOW {
            break;
        }
        at += (WINDOW - OVERLAP) as u64;
    }
    Ok(false)
}

/// Fills all of `out`.
fn exactly(at: u64, out: &mut [u8], read: ReadAt<'_>) -> Result<(), Errno> {
    if read(at, out)? == out.len() { Ok(()) } else { Err(Errno::ENOEXEC) }
}
