//! The supervisor's filter as an OCI profile, for `vrift-trace profile notify`.
//!
//! libseccomp drops a name that it doesn't know, without a word. With ALLOW as the default such a
//! call would run unseen; so the default is ENOSYS, which libc falls back from, and what is known
//! and needs no looking at is allowed by name.
//!
//! libseccomp has no "else": an unconditional rule swallows the conditional ones of its name. A call
//! that is asked about for some values of an argument only is therefore split along the argument's
//! bits ([`split`]), so that each value meets exactly one rule. Comparisons are masked, for the
//! kernel reads the lower half of a register that callers fill as they like.

use crate::filter::{CLONE_NEWUSER, F_SETLEASE};
use crate::profile::{ALLOW, Arg, NOTIFY, Profile, Rule};
use crate::table::{Arch, Handler, IOCTLS, REFUSED_IOCTLS, ROWS, Row, in_containers, names};
use std::collections::{BTreeMap, BTreeSet};
use vrift_policy::Errno;

const ERRNO: &str = "SCMP_ACT_ERRNO";

/// The profile of containers that the agent at `listener` supervises.
pub fn profile(listener: &str, metadata: &[String], wait_killable: bool) -> Profile {
    let mut allowed = known();
    let mut notified = BTreeSet::new();
    let mut refused: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
    let mut split_up = Vec::new();
    for row in in_containers() {
        allowed.remove(row.name);
        match (row.handler, looked_at(row)) {
            // The default says so.
            (Handler::Refuse(Errno::ENOSYS), _) => {}
            (Handler::Refuse(e), _) => {
                refused.entry(e.raw().unsigned_abs()).or_default().insert(row.name.to_owned());
            }
            (_, Some((index, mask, values))) => {
                let masked = |mask: u32, value: u32| Arg {
                    index,
                    value: mask.into(),
                    value_two: value.into(),
                    op: "SCMP_CMP_MASKED_EQ".into(),
                };
                split_up.extend(split(mask, &values).into_iter().map(|(mask, value, ours)| Rule {
                    names: vec![row.name.to_owned()],
                    action: if ours { NOTIFY } else { ALLOW }.into(),
                    args: vec![masked(mask, value)],
                    ..Rule::default()
                }));
            }
            _ => {
                notified.insert(row.name.to_owned());
            }
        }
    }
    let rule = |names: BTreeSet<String>, action: &str, errno_ret| Rule {
        names: names.into_iter().collect(),
        action: action.into(),
        errno_ret,
        ..Rule::default()
    };
    let mut syscalls = vec![rule(notified, NOTIFY, None)];
    syscalls.extend(split_up);
    syscalls.extend(refused.into_iter().map(|(errno, names)| rule(names, ERRNO, Some(errno))));
    syscalls.push(rule(allowed, ALLOW, None));
    let architectures = match Arch::NATIVE {
        Arch::Aarch64 => &["SCMP_ARCH_AARCH64"][..],
        _ => &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
    };
    Profile {
        default_action: ERRNO.into(),
        default_errno_ret: Some(Errno::ENOSYS.raw().unsigned_abs()),
        architectures: architectures.iter().map(|arch| (*arch).to_owned()).collect(),
        flags: wait_killable.then(|| vec!["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV".into()]),
        listener_path: Some(listener.to_owned()),
        listener_metadata: (!metadata.is_empty()).then(|| metadata.join(",")),
        syscalls,
        ..Profile::default()
    }
}

/// Every call that is known by name.
fn known() -> BTreeSet<String> {
    let rows = ROWS.iter().map(|row| row.name.to_owned());
    let arches = match Arch::NATIVE {
        Arch::Aarch64 => &[Arch::Aarch64][..],
        _ => &[Arch::X86_64, Arch::I386],
    };
    let names = arches.iter().flat_map(|arch| names::all(*arch)).map(str::to_owned);
    rows.chain(names).collect()
}

/// Which argument, which bits of it, and which values of those a call is asked about for, if not
/// for all. The handlers look at the whole value again.
fn looked_at(row: &Row) -> Option<(u32, u32, Vec<u32>)> {
    match row.handler {
        Handler::Ioctl => {
            // The type byte is enough: what else is of these types is rare.
            const TYPE: u32 = 0xff00;
            let requests = IOCTLS.iter().map(|(request, _)| request).chain(REFUSED_IOCTLS);
            Some((1, TYPE, requests.map(|request| request & TYPE).collect()))
        }
        Handler::Lease => Some((1, 0xffff, vec![F_SETLEASE])),
        Handler::Unshare => Some((0, CLONE_NEWUSER, vec![CLONE_NEWUSER])),
        _ => None,
    }
}

/// Splits all values of the bits in `mask` into parts (mask, value) that do not overlap: true for
/// those that hold one of `values` alone, false for those that hold none.
fn split(mask: u32, values: &[u32]) -> Vec<(u32, u32, bool)> {
    let bits: Vec<u32> = (0..32).rev().map(|n| 1 << n).filter(|bit| mask & bit != 0).collect();
    let mut parts = Vec::new();
    let mut open = vec![(0u32, 0u32, 0usize)];
    while let Some((fixed, value, at)) = open.pop() {
        if !values.iter().any(|v| v & fixed == value) {
            parts.push((fixed, value, false));
        } else if let Some(bit) = bits.get(at) {
            open.push((fixed | bit, value | bit, at + 1));
            open.push((fixed | bit, value, at + 1));
        } else {
            parts.push((fixed, value, true));
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_meets_one_part() {
        let values = [0x6600, 0x5800, 0x7600, 0xaa00];
        let parts = split(0xff00, &values);
        for value in (0..=0xffff_u32).step_by(0x80) {
            let met: Vec<_> = parts.iter().filter(|(mask, v, _)| value & mask == *v).collect();
            assert_eq!(met.len(), 1, "{value:#x}: {met:?}");
            assert_eq!(met[0].2, values.contains(&(value & 0xff00)), "{value:#x}");
        }
        assert!(parts.len() < 40, "{}", parts.len());
        let lease = split(0xffff, &[F_SETLEASE]);
        assert_eq!(lease.len(), 17);
    }

    #[test]
    fn the_world_is_closed_and_each_name_has_its_place() {
        let profile = profile("/run/a.sock", &["a=1".into(), "b=2".into()], true);
        let json = serde_json::to_value(&profile).expect("it is plain");
        assert_eq!(json["defaultAction"], "SCMP_ACT_ERRNO");
        assert_eq!(json["defaultErrnoRet"], 38);
        assert_eq!(json["listenerMetadata"], "a=1,b=2");
        assert_eq!(json["flags"][0], "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV");
        let mut unconditional = BTreeSet::new();
        let mut conditional = BTreeSet::new();
        for rule in &profile.syscalls {
            for name in &rule.names {
                let fresh = if rule.args.is_empty() {
                    unconditional.insert(name.as_str())
                } else {
                    conditional.insert(name.as_str());
                    true
                };
                assert!(fresh, "{name} has two rules");
            }
        }
        assert_eq!(unconditional.intersection(&conditional).next(), None);
        let action = |name: &str| {
            let rule = profile.syscalls.iter().find(|rule| rule.names.iter().any(|n| n == name));
            rule.map(|rule| rule.action.as_str())
        };
        for name in ["openat", "execve", "mount", "newfstatat"] {
            assert_eq!(action(name), Some(NOTIFY), "{name}");
        }
        for name in ["write", "read", "clone", "futex", "restart_syscall", "kill", "prctl"] {
            assert_eq!(action(name), Some(ALLOW), "{name}");
        }
        assert_eq!(action("io_uring_setup"), None, "the default says ENOSYS");
    }
}
