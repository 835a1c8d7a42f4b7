//! Programs that refuse the shim, by headers and signatures made here.

#![expect(clippy::tests_outside_test_module, reason = "an integration test is one test module")]

use vrift_macos_es::program::{Program, Refusal, SF_RESTRICTED, examine, native, words};
use vrift_macos_es::shim::symbols::Arch;
use vrift_policy::Errno;

const ARM64: u32 = 0x0100_000c;
const X86_64: u32 = 0x0100_0007;
const RUNTIME: u32 = 0x1_0000;
const VARIABLES: &str = "com.apple.security.cs.allow-dyld-environment-variables";
const LIBRARIES: &str = "com.apple.security.cs.disable-library-validation";

fn little(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn big(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("a small thing")
}

/// A signature: its flags, whether Apple made it, and its entitlements.
fn signature(flags: u32, platform: u8, entitlements: &str) -> Vec<u8> {
    let mut directory = big(&[0xfade_0c02, 64, 0x2_0400, flags]);
    directory.resize(64, 0);
    directory[38] = platform;
    let text =
        [big(&[0xfade_7171, 8 + length(entitlements.as_bytes())]), entitlements.into()].concat();
    let first = 12 + 2 * 8;
    let index = big(&[0, first, 5, first + length(&directory)]);
    let whole = first + length(&directory) + length(&text);
    [big(&[0xfade_0cc0, whole, 2]), index, directory, text].concat()
}

/// A program of one processor, with these load commands and a signature.
fn thin(cpu: u32, subtype: u32, commands: &[Vec<u8>], signature: &[u8]) -> Vec<u8> {
    let size: usize = commands.iter().map(Vec::len).sum();
    let signed = u32::try_from(32 + size + 16).expect("a small thing");
    let count = u32::try_from(commands.len()).expect("few");
    let header =
        little(&[0xfeed_facf, cpu, subtype, 2, count + 1, length(&commands.concat()) + 16, 0, 0]);
    let command = little(&[0x1d, 16, signed, length(signature)]);
    [header, commands.concat(), command, signature.to_vec()].concat()
}

fn asked(file: &[u8], mode: u32, flags: u32, arch: Arch) -> Result<Program, Errno> {
    let read = &mut |at: u64, out: &mut [u8]| {
        let rest = usize::try_from(at).ok().and_then(|at| file.get(at..)).unwrap_or_default();
        let length = rest.len().min(out.len());
        out[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    };
    examine((mode, flags), arch, read, &mut [0; 512])
}

fn of(file: &[u8]) -> Program {
    asked(file, 0o755, 0, Arch::Arm64).expect("a program")
}

fn plist(keys: &[(&str, bool)]) -> String {
    let entries = keys.iter().map(|(key, value)| format!("<key>{key}</key>\n\t<{value}/>\n"));
    format!(
        "<?xml version=\"1.0\"?>\n<plist><dict>\n{}</dict></plist>",
        entries.collect::<String>()
    )
}

#[test]
fn a_signature_says_whether_the_shim_is_let_in() {
    let with = |flags, platform, keys: &[(&str, bool)]| {
        of(&thin(ARM64, 0, &[], &signature(flags, platform, &plist(keys))))
    };
    let closed = Program::Closed;
    assert_eq!(with(0, 0, &[]), Program::Open);
    assert_eq!(with(2, 0, &[]), Program::Open, "an ad-hoc signature");
    assert_eq!(with(0, 1, &[]), closed(Refusal::Platform));
    assert_eq!(with(0x800, 0, &[]), closed(Refusal::Restricted));
    assert_eq!(with(RUNTIME, 0, &[]), closed(Refusal::Hardened));
    assert_eq!(
        with(RUNTIME, 0, &[(VARIABLES, false), (LIBRARIES, true)]),
        closed(Refusal::Hardened)
    );
    assert_eq!(with(RUNTIME, 0, &[(VARIABLES, true)]), closed(Refusal::Validation));
    assert_eq!(with(RUNTIME, 0, &[(VARIABLES, true), (LIBRARIES, true)]), Program::Open);
    assert_eq!(with(0x2000, 0, &[]), closed(Refusal::Validation));
    assert_eq!(with(0x2000, 0, &[(LIBRARIES, true)]), Program::Open);
}

/// A library is loaded untranslated, or not at all.
#[test]
fn a_part_is_native_to_the_processor_that_runs_it_as_it_is() {
    let of = |cpu, subtype| little(&[0xfeed_facf, cpu, subtype, 6, 0, 0, 0, 0]);
    for (file, arm64, x86_64) in [
        (of(ARM64, 0), true, false),
        (of(ARM64, 2), false, false),
        (of(X86_64, 3), false, true),
        (big(&[0xcafe_babe, 2, X86_64, 3, 4096, 32, 12, ARM64, 0, 8192, 32, 12]), true, true),
        (b"#!/bin/sh\n".to_vec(), false, false),
        (Vec::new(), false, false),
    ] {
        let found = (native(&file, Arch::Arm64), native(&file, Arch::X86_64));
        assert_eq!(found, (arm64, x86_64), "{file:02x?}");
    }
}

/// Wherever a key stands in a long list, it is found: the list is read piece by piece.
#[test]
fn entitlements_are_read_over_the_edges_of_what_is_read_at_once() {
    for before in 0..1200 {
        let filler = "x".repeat(before);
        let text = format!("<!--{filler}-->{}", plist(&[(VARIABLES, true), (LIBRARIES, true)]));
        let file = thin(ARM64, 0, &[], &signature(RUNTIME, 0, &text));
        assert_eq!(of(&file), Program::Open, "{before}");
    }
}

#[test]
fn a_file_says_it_without_a_signature() {
    let unsigned = little(&[0xfeed_facf, X86_64, 3, 2, 0, 0, 0, 0]);
    let ask = |mode, flags| asked(&unsigned, mode, flags, Arch::X86_64);
    assert_eq!(ask(0o755, 0), Ok(Program::Open));
    assert_eq!(ask(0o4755, 0), Ok(Program::Closed(Refusal::SetId)));
    assert_eq!(ask(0o2755, 0), Ok(Program::Closed(Refusal::SetId)));
    assert_eq!(ask(0o755, SF_RESTRICTED), Ok(Program::Closed(Refusal::Platform)));
    let mut segment = little(&[0x19, 72]);
    segment.extend(b"__RESTRICT");
    segment.resize(72, 0);
    assert_eq!(
        of(&thin(ARM64, 0, &[segment], &signature(0, 0, ""))),
        Program::Closed(Refusal::Restricted)
    );
}

#[test]
fn of_a_program_for_several_processors_the_part_that_runs_counts() {
    let open = |cpu, subtype| thin(cpu, subtype, &[], &signature(0, 0, ""));
    let hard = |cpu, subtype| thin(cpu, subtype, &[], &signature(RUNTIME, 0, ""));
    let fat = |parts: &[(u32, u32, Vec<u8>)]| {
        let mut head = big(&[0xcafe_babe, u32::try_from(parts.len()).expect("few")]);
        let mut body = Vec::new();
        for (cpu, subtype, part) in parts {
            head.extend(big(&[*cpu, *subtype, 4096 + length(&body), length(part), 12]));
            body.extend(part);
        }
        head.resize(4096, 0);
        [head, body].concat()
    };
    let both = fat(&[(X86_64, 3, hard(X86_64, 3)), (ARM64, 0, open(ARM64, 0))]);
    assert_eq!(asked(&both, 0o755, 0, Arch::Arm64), Ok(Program::Open));
    assert_eq!(asked(&both, 0o755, 0, Arch::X86_64), Ok(Program::Closed(Refusal::Hardened)));
    let two = fat(&[(ARM64, 2, hard(ARM64, 2)), (ARM64, 0, open(ARM64, 0))]);
    assert_eq!(asked(&two, 0o755, 0, Arch::Arm64), Ok(Program::Open), "arm64e comes last");
    let e = fat(&[(X86_64, 3, open(X86_64, 3)), (ARM64, 0x8000_0002, open(ARM64, 2))]);
    assert_eq!(asked(&e, 0o755, 0, Arch::Arm64), Ok(Program::Closed(Refusal::Arm64e)));
    let intel = fat(&[(X86_64, 3, open(X86_64, 3))]);
    assert_eq!(asked(&intel, 0o755, 0, Arch::Arm64), Ok(Program::Open), "it is translated");
    assert_eq!(asked(&fat(&[]), 0o755, 0, Arch::Arm64), Ok(Program::Other));
}

#[test]
fn scripts_name_their_interpreter() {
    let line = b" \t/usr/bin/env  python3 -x";
    assert_eq!(of(&[b"#!", &line[..], b"\nprint()"].concat()), Program::Script(line.len()));
    assert!(words(line).eq([&b"/usr/bin/env"[..], b"python3", b"-x"]));
    assert_eq!(of(b"#!\n/bin/sh"), Program::Other);
    assert_eq!(of(&[b"#!/".to_vec(), vec![b'x'; 600]].concat()), Program::Other);
}

/// Whatever is cut or odd is an errno or no program, and never ends this one.
#[test]
fn what_is_damaged_is_no_program() {
    let keys = plist(&[(VARIABLES, true), (LIBRARIES, true)]);
    let whole = thin(ARM64, 0, &[], &signature(RUNTIME, 0, &keys));
    for end in 0..whole.len() - 16 {
        // Without its end the entitlements are not there; what is found may only be closed.
        let found = asked(&whole[..end], 0o755, 0, Arch::Arm64);
        assert_ne!(found, Ok(Program::Open), "{end}");
    }
    for at in 0..whole.len() {
        let mut odd = whole.clone();
        odd[at] ^= 0xff;
        let _ = asked(&odd, 0o755, 0, Arch::Arm64);
    }
    assert_eq!(asked(b"", 0o755, 0, Arch::Arm64), Ok(Program::Other));
    assert_eq!(asked(b"\xcf\xfa\xed\xfe", 0o755, 0, Arch::Arm64), Ok(Program::Other));
}
