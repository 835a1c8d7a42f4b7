//! A static program of a few bytes: no compiler, no library and no loader take part in it.

/// What the program ends with.
pub const STATUS: i32 = 42;

/// exit(42), in machine code.
#[cfg(target_arch = "x86_64")]
const CODE: [u8; 12] = [
    0xb8, 60, 0, 0, 0, // mov eax, SYS_exit
    0xbf, 42, 0, 0, 0, // mov edi, 42
    0x0f, 0x05, // syscall
];
#[cfg(target_arch = "aarch64")]
const CODE: [u8; 12] = [
    0xa8, 0x0b, 0x80, 0xd2, // mov x8, SYS_exit
    0x40, 0x05, 0x80, 0xd2, // mov x0, 42
    0x01, 0x00, 0x00, 0xd4, // svc 0
];

#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = 62; // EM_X86_64
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = 183; // EM_AARCH64

/// Where the file is mapped, and how long its two headers are.
const BASE: u64 = 0x40_0000;
const HEADER: u16 = 64;
const PROGRAM_HEADER: u16 = 56;

/// The program's file: an ELF header, one loadable segment, the code.
pub fn static_program() -> Vec<u8> {
    let start = u64::from(HEADER + PROGRAM_HEADER);
    let size = start + CODE.len() as u64;
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    file.extend(2u16.to_le_bytes()); // ET_EXEC
    file.extend(MACHINE.to_le_bytes());
    file.extend(1u32.to_le_bytes()); // EV_CURRENT
    file.extend((BASE + start).to_le_bytes()); // entry
    file.extend(u64::from(HEADER).to_le_bytes()); // program headers
    file.extend(0u64.to_le_bytes()); // section headers: none
    file.extend(0u32.to_le_bytes()); // flags
    for half in [HEADER, PROGRAM_HEADER, 1, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    file.extend(1u32.to_le_bytes()); // PT_LOAD
    file.extend(5u32.to_le_bytes()); // readable, executable
    for word in [0, BASE, BASE, size, size, 0x1_0000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(CODE);
    file
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_static_program_runs_and_needs_no_interpreter() {
        let file = static_program();
        let kind = crate::program::inspect(&file.as_slice()).expect("memory can be read");
        assert_eq!(kind, crate::program::Kind::Other);
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("static");
        std::fs::write(&path, file).expect("it can be written");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("chmod");
        // Another test's fork may hold the file open for writing for a moment (ETXTBSY).
        let status = (0..100)
            .find_map(|_| match std::process::Command::new(&path).status() {
                Err(e) if e.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                    std::thread::sleep(std::time::Duration::from_millis(20));
                    None
                }
                other => Some(other),
            })
            .expect("nobody holds it for ever");
        assert_eq!(status.expect("it runs").code(), Some(STATUS));
    }
}
