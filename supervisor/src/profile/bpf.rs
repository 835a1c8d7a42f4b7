//! A seccomp profile as a program: for `bwrap --seccomp FD`, and for who loads a filter himself.

use super::{ALLOW, Arg, Profile, Verdict};
use crate::filter::assembly::{
    AND, ARCH, EQUAL, LOAD, Leaves, MOST, RETURN, arg_high, arg_low, ins, jump,
};
use crate::filter::{Needs, search};
use crate::sys::seccomp::Instruction;
use crate::table::{Arch, names};

/// The architectures that a program can be made for, by libseccomp's names.
const ARCHITECTURES: [(&str, Arch); 3] = [
    ("SCMP_ARCH_X86_64", Arch::X86_64),
    ("SCMP_ARCH_X86", Arch::I386),
    ("SCMP_ARCH_AARCH64", Arch::Aarch64),
];

/// The program of `profile`: for those of its architectures whose numbers are known here. Calls of all
/// others, x32 among them, get the default.
///
/// # Errors
/// What can't be said in a program, or that it would be longer than the kernel takes.
pub fn compile(profile: &Profile) -> Result<Vec<Instruction>, String> {
    let others = verdict(&profile.default_action, profile.default_errno_ret)?;
    let rules = profile.by_name();
    let mut program = vec![ins(LOAD, 0, 0, ARCH)];
    for (name, arch) in ARCHITECTURES {
        if !profile.architectures.iter().any(|listed| listed == name) {
            continue;
        }
        let mut leaves = Leaves::new();
        for (call, verdicts) in &rules {
            if let Some(nr) = names::number(arch, call) {
                let of = verdicts.iter();
                leaves.push((nr, leaf(of, others).map_err(|e| format!("{call}: {e}"))?));
            }
        }
        let section = search(arch, leaves, &Needs::default(), others);
        program.extend([ins(EQUAL, 1, 0, arch.audit()), jump(section.len())]);
        program.extend(section);
    }
    program.push(ins(RETURN, 0, 0, others));
    if program.len() > MOST {
        return Err(format!(
            "the program has {} instructions, the kernel takes {MOST}; export without --arguments, or \
             for fewer architectures",
            program.len()
        ));
    }
    Ok(program)
}

/// The program's bytes: an array of `struct sock_filter` in the byte order of x86 and arm.
pub fn bytes(program: &[Instruction]) -> Vec<u8> {
    let one = |i: &Instruction| {
        let [a, b] = i.code.to_le_bytes();
        let [k0, k1, k2, k3] = i.k.to_le_bytes();
        [a, b, i.jt, i.jf, k0, k1, k2, k3]
    };
    program.iter().flat_map(one).collect()
}

fn verdict(action: &str, errno: Option<u32>) -> Result<u32, String> {
    match action {
        ALLOW => Ok(libc::SECCOMP_RET_ALLOW),
        "SCMP_ACT_ERRNO" => {
            // libseccomp's own default is EPERM.
            let errno = errno.unwrap_or(libc::EPERM.unsigned_abs());
            Ok(libc::SECCOMP_RET_ERRNO | (errno & libc::SECCOMP_RET_DATA))
        }
        "SCMP_ACT_KILL_PROCESS" => Ok(libc::SECCOMP_RET_KILL_PROCESS),
        other => Err(format!("{other} is not for programs made here")),
    }
}

/// The first of the verdicts whose conditions hold.
fn leaf<'a>(
    verdicts: impl Iterator<Item = &'a Verdict>,
    others: u32,
) -> Result<Vec<Instruction>, String> {
    let mut code = Vec::new();
    for one in verdicts {
        let action = verdict(&one.action, one.errno)?;
        let mut tests = Vec::new();
        for arg in &one.args {
            tests.extend(halves(arg)?);
        }
        // Three instructions for each: load, mask, compare; what fails goes past the verdict.
        for (at, (offset, mask, value)) in tests.iter().enumerate() {
            let past = u8::try_from((tests.len() - at - 1) * 3 + 1).map_err(|e| e.to_string())?;
            code.push(ins(LOAD, 0, 0, *offset));
            code.push(ins(AND, 0, 0, *mask));
            code.push(ins(EQUAL, 0, past, *value));
        }
        code.push(ins(RETURN, 0, 0, action));
        if tests.is_empty() {
            return Ok(code);
        }
    }
    code.push(ins(RETURN, 0, 0, others));
    Ok(code)
}

/// Where to look, with which mask, for which value: the halves of the argument that count.
fn halves(arg: &Arg) -> Result<Vec<(u32, u32, u32)>, String> {
    let (mask, value) = match arg.op.as_str() {
        "SCMP_CMP_MASKED_EQ" => (arg.value, arg.value_two),
        "SCMP_CMP_EQ" => (u64::MAX, arg.value),
        other => return Err(format!("{other} is not for programs made here")),
    };
    let low = |wide: u64| u32::try_from(wide & 0xffff_ffff).unwrap_or_default();
    let both = [
        (arg_low(arg.index), low(mask), low(value)),
        (arg_high(arg.index), low(mask >> 32), low(value >> 32)),
    ];
    // A value with bits that the mask hasn't is never met, which a half without a mask must say too.
    Ok(both.into_iter().filter(|(_, mask, value)| *mask != 0 || *value != 0).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::interpreter::{self, Call};
    use crate::profile::Rule;

    fn profile(architectures: &[&str], rules: Vec<Rule>) -> Profile {
        Profile {
            default_action: "SCMP_ACT_ERRNO".into(),
            default_errno_ret: Some(38),
            architectures: architectures.iter().map(|&a| a.to_owned()).collect(),
            syscalls: rules,
            ..Profile::default()
        }
    }

    fn rule(name: &str, args: Vec<Arg>) -> Rule {
        Rule { names: vec![name.into()], action: ALLOW.into(), args, ..Rule::default() }
    }

    fn masked(index: u32, value: u64, value_two: u64) -> Arg {
        Arg { index, value, value_two, op: "SCMP_CMP_MASKED_EQ".into() }
    }

    fn run(program: &[Instruction], arch: u32, nr: u32, args: [u64; 6]) -> u32 {
        interpreter::run(program, &Call { nr, arch, args }).expect("a verdict").0
    }

    const NO: u32 = libc::SECCOMP_RET_ERRNO | 38;
    const YES: u32 = libc::SECCOMP_RET_ALLOW;

    #[test]
    fn each_architecture_has_its_own_numbers_and_all_others_the_default() {
        let all = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64"];
        let program = compile(&profile(&all, vec![rule("read", vec![]), rule("openat", vec![])]))
            .expect("a program");
        for (arch, read, openat) in
            [(Arch::X86_64, 0, 257), (Arch::I386, 3, 295), (Arch::Aarch64, 63, 56)]
        {
            for nr in 0..500 {
                let want = if nr == read || nr == openat { YES } else { NO };
                assert_eq!(run(&program, arch.audit(), nr, [0; 6]), want, "{arch:?} {nr}");
            }
        }
        assert_eq!(run(&program, Arch::X86_64.audit(), 0x4000_0000, [0; 6]), NO, "x32");
        assert_eq!(run(&program, 0x1234, 0, [0; 6]), NO, "unknown");
        let one = compile(&profile(&all[..1], vec![rule("read", vec![])])).expect("a program");
        assert_eq!(run(&one, Arch::I386.audit(), 3, [0; 6]), NO, "not listed");
        assert_eq!(bytes(&one).len(), one.len() * 8);
        assert_eq!(bytes(&one)[..8], [0x20, 0, 0, 0, 4, 0, 0, 0]);
    }

    #[test]
    fn conditions_are_those_of_all_64_bits() {
        let wide = 0x1_0000_0001;
        let conditions = vec![
            rule("ioctl", vec![masked(1, 0xffff_ffff, 0x5401)]),
            rule("ioctl", vec![masked(1, 0xffff_ffff, 0x8000_0000), masked(0, wide, 1)]),
            rule("lseek", vec![Arg { op: "SCMP_CMP_EQ".into(), ..masked(1, wide, 0) }]),
            rule("lseek", vec![masked(2, 0, 0)]),
            rule("fcntl", vec![masked(1, 1, 2)]),
        ];
        let program = compile(&profile(&["SCMP_ARCH_X86_64"], conditions)).expect("a program");
        let on = |nr, args: [u64; 3]| {
            let [a, b, c] = args;
            run(&program, Arch::X86_64.audit(), nr, [a, b, c, 0, 0, 0]) == YES
        };
        let (ioctl, lseek, fcntl) = (16, 8, 72);
        assert!(on(ioctl, [9, 0x5401, 0]) && on(ioctl, [9, 0xffff_ffff_0000_5401, 0]));
        assert!(!on(ioctl, [0, 0x5402, 0]));
        // Both conditions of one rule.
        assert!(on(ioctl, [1, 0x8000_0000, 0]) && !on(ioctl, [wide, 0x8000_0000, 0]));
        assert!(on(lseek, [0, 0, 0]), "a mask of nothing always holds");
        assert!(!on(fcntl, [0, 2, 0]) && !on(fcntl, [0, 3, 0]), "one that can't hold");
    }

    #[test]
    fn what_a_program_cannot_say_is_named() {
        let some = rule("read", vec![Arg { op: "SCMP_CMP_GT".into(), ..masked(0, 1, 0) }]);
        let e = compile(&profile(&["SCMP_ARCH_X86_64"], vec![some])).expect_err("greater than");
        assert!(e.contains("read: SCMP_CMP_GT"), "{e}");
        let many = (0..2000).map(|n| rule("ioctl", vec![masked(1, 0xffff_ffff, n)])).collect();
        let e = compile(&profile(&["SCMP_ARCH_X86_64"], many)).expect_err("8000 instructions");
        assert!(e.contains("4096"), "{e}");
    }
}
