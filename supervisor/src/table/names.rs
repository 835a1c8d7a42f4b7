//! Names and numbers of all system calls, those without a row too.

use super::{Arch, ROWS};
use std::borrow::Cow;

/// As libseccomp has it: the generic header, which is aarch64's, calls newfstatat fstatat, and break
/// is a word of Rust's.
fn spelled(arch: Arch, name: &'static str) -> &'static str {
    match name {
        "fstatat" if arch == Arch::Aarch64 => "newfstatat",
        _ => name.strip_prefix("r#").unwrap_or(name),
    }
}

/// The name of call `nr`, as libseccomp has it; `syscall_N` for one that is newer than the list.
pub fn name(arch: Arch, nr: u32) -> Cow<'static, str> {
    if let Some(row) = ROWS.iter().find(|row| row.number(arch) == Some(nr)) {
        return row.name.into();
    }
    let id = usize::try_from(nr).unwrap_or(usize::MAX);
    let known = match arch {
        Arch::X86_64 => syscalls::x86_64::Sysno::new(id).map(|nr| nr.name()),
        Arch::I386 => syscalls::x86::Sysno::new(id).map(|nr| nr.name()),
        Arch::Aarch64 => syscalls::aarch64::Sysno::new(id).map(|nr| nr.name()),
    };
    known.map_or_else(|| format!("syscall_{nr}").into(), |name| spelled(arch, name).into())
}

/// The number of a call, by the kernel's headers.
pub fn number(arch: Arch, name: &str) -> Option<u32> {
    let id = match arch {
        Arch::X86_64 => name.parse::<syscalls::x86_64::Sysno>().ok()?.id(),
        Arch::I386 => {
            let name = if name == "break" { "r#break" } else { name };
            name.parse::<syscalls::x86::Sysno>().ok()?.id()
        }
        Arch::Aarch64 => {
            let name = if name == "newfstatat" { "fstatat" } else { name };
            name.parse::<syscalls::aarch64::Sysno>().ok()?.id()
        }
    };
    u32::try_from(id).ok()
}

/// The names of all calls of the kernel's headers.
pub fn all(arch: Arch) -> Vec<&'static str> {
    let names: Vec<&'static str> = match arch {
        Arch::X86_64 => syscalls::x86_64::Sysno::iter().map(|nr| nr.name()).collect(),
        Arch::I386 => syscalls::x86::Sysno::iter().map(|nr| nr.name()).collect(),
        Arch::Aarch64 => syscalls::aarch64::Sysno::iter().map(|nr| nr.name()).collect(),
    };
    names.into_iter().map(|name| spelled(arch, name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::libseccomp;

    #[test]
    fn names_are_those_of_libseccomp_and_lead_back_to_their_number() {
        for arch in [Arch::X86_64, Arch::I386, Arch::Aarch64] {
            for name in all(arch) {
                let number = number(arch, name).expect(name);
                assert_eq!(self::name(arch, number), name, "{arch:?}");
                // Calls that no kernel has any more.
                let gone = libseccomp::since(name).is_none();
                assert!(!gone || GONE.contains(&name), "{arch:?}: libseccomp has no {name}");
            }
        }
    }

    const GONE: [&str; 2] = ["epoll_ctl_old", "epoll_wait_old"];
}
