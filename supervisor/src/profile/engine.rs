//! What a container engine makes of a profile before a runtime gets it: docker and podman leave out
//! the rules that are for other capabilities, machines and kernels, and put the architectures in.
//!
//! After `setupSeccomp` in profiles/seccomp/seccomp_linux.go of moby and in
//! pkg/seccomp/seccomp_linux.go of containers/common.

use super::Profile;
use serde::Deserialize;
use serde_json::Value;

/// An engine, for its default profile and capabilities.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Engine {
    /// Docker 20.10.24.
    Docker,
    /// Podman, with containers/common 0.50.1.
    Podman,
}

/// Where a container runs, as the conditions of rules see it.
#[derive(Clone, Copy, Debug)]
pub struct Machine<'a> {
    /// As Go names it: `amd64`.
    pub arch: &'a str,
    /// As seccomp names it: `SCMP_ARCH_X86_64`.
    pub seccomp_arch: &'a str,
    /// The kernel's version and patch level.
    pub kernel: (u32, u32),
}

/// `includes` or `excludes` of a rule.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Conditions {
    #[serde(default)]
    caps: Vec<String>,
    #[serde(default)]
    arches: Vec<String>,
    min_kernel: Option<String>,
}

/// A line of `archMap`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Family {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

/// Docker's, of oci/caps/defaults.go.
const DOCKER: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// Podman's, of containers.conf(5).
const PODMAN: [&str; 11] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

impl Engine {
    /// The engine of this name.
    pub fn named(name: &[u8]) -> Option<Engine> {
        match name {
            b"docker" => Some(Engine::Docker),
            b"podman" => Some(Engine::Podman),
            _ => None,
        }
    }

    /// The text of its default profile.
    pub fn default_profile(self) -> &'static [u8] {
        match self {
            Engine::Docker => include_bytes!("defaults/docker.json"),
            Engine::Podman => include_bytes!("defaults/podman.json"),
        }
    }

    fn capabilities(self) -> &'static [&'static str] {
        match self {
            Engine::Docker => &DOCKER,
            Engine::Podman => &PODMAN,
        }
    }

    /// What the engine gives a runtime of `profile`, for a container with the engine's default
    /// capabilities.
    ///
    /// # Errors
    /// What is wrong with an `includes`, an `excludes` or the `archMap`.
    pub fn resolve(self, mut profile: Profile, machine: &Machine<'_>) -> Result<Profile, String> {
        if let Some(map) = profile.arch_map.take() {
            let families: Vec<Family> =
                serde_json::from_value(map).map_err(|e| format!("archMap: {e}"))?;
            if let Some(family) =
                families.into_iter().find(|f| f.architecture == machine.seccomp_arch)
            {
                profile.architectures.push(family.architecture);
                profile.architectures.extend(family.sub_architectures.unwrap_or_default());
            }
        }
        let mut rules = Vec::with_capacity(profile.syscalls.len());
        for mut rule in std::mem::take(&mut profile.syscalls) {
            let at = |what, e| format!("{what} of {}: {e}", rule.names.join(", "));
            let includes = conditions(rule.includes.as_ref()).map_err(|e| at("includes", e))?;
            let excludes = conditions(rule.excludes.as_ref()).map_err(|e| at("excludes", e))?;
            let has = |cap: &String| self.capabilities().contains(&cap.as_str());
            let here = |arch: &String| arch == machine.arch;
            let old = |least: (u32, u32)| machine.kernel < least;
            let (least, most) = (includes.least_kernel(), excludes.least_kernel());
            let least = least.map_err(|e| at("includes", e))?;
            let most = most.map_err(|e| at("excludes", e))?;
            let holds = includes.caps.iter().all(has)
                && (includes.arches.is_empty() || includes.arches.iter().any(here))
                && !least.is_some_and(old)
                && !excludes.caps.iter().any(has)
                && !excludes.arches.iter().any(here)
                && most.is_none_or(old);
            if holds {
                (rule.includes, rule.excludes) = (None, None);
                rules.push(rule);
            }
        }
        profile.syscalls = rules;
        Ok(profile)
    }
}

fn conditions(value: Option<&Value>) -> Result<Conditions, String> {
    value.map_or_else(
        || Ok(Conditions::default()),
        |value| Conditions::deserialize(value).map_err(|e| e.to_string()),
    )
}

impl Conditions {
    fn least_kernel(&self) -> Result<Option<(u32, u32)>, String> {
        let Some(text) = &self.min_kernel else { return Ok(None) };
        match version(text) {
            Some(version) => Ok(Some(version)),
            None => Err(format!("minKernel {text:?}: give it as \"4.8\"")),
        }
    }
}

/// The first two numbers of a kernel's release.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// What this machine is.
///
/// # Errors
/// What can't be told of it.
pub fn this_machine() -> Result<Machine<'static>, String> {
    let system = nix::sys::utsname::uname().map_err(|e| format!("uname: {e}"))?;
    let release = system.release().to_string_lossy();
    let kernel = version(&release).ok_or_else(|| format!("uname: no release: {release}"))?;
    match crate::table::Arch::NATIVE {
        crate::table::Arch::Aarch64 => {
            Ok(Machine { arch: "arm64", seccomp_arch: "SCMP_ARCH_AARCH64", kernel })
        }
        _ => Ok(Machine { arch: "amd64", seccomp_arch: "SCMP_ARCH_X86_64", kernel }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{ALLOW, is_plain};

    const NEW: Machine<'_> =
        Machine { arch: "amd64", seccomp_arch: "SCMP_ARCH_X86_64", kernel: (6, 1) };

    fn default(engine: Engine, machine: &Machine<'_>) -> Profile {
        let profile = Profile::parse(engine.default_profile()).expect("the engine's own");
        assert!(!is_plain(&profile));
        engine.resolve(profile, machine).expect("what the engine reads")
    }

    fn allows(profile: &Profile, name: &str) -> bool {
        let verdicts = profile.by_name();
        verdicts.get(name).is_some_and(|all| all.iter().any(|v| v.action == ALLOW))
    }

    #[test]
    fn rules_hold_for_the_default_capabilities() {
        for engine in [Engine::Docker, Engine::Podman] {
            let profile = default(engine, &NEW);
            assert!(is_plain(&profile), "{engine:?}");
            for name in ["read", "openat", "clone", "chroot", "arch_prctl"] {
                assert!(allows(&profile, name), "{engine:?}: {name}");
            }
            for name in ["bpf", "init_module", "acct", "s390_pci_mmio_read", "settimeofday"] {
                assert!(!allows(&profile, name), "{engine:?}: {name}");
            }
            let all = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"];
            assert_eq!(profile.architectures, all, "{engine:?}");
        }
        // CAP_AUDIT_WRITE is docker's only: podman's rules for socket(2) look at arguments.
        let sockets = |engine| default(engine, &NEW).by_name()["socket"].len();
        assert_eq!((sockets(Engine::Docker), sockets(Engine::Podman)), (1, 3));
    }

    #[test]
    fn machines_and_kernels_are_told_apart() {
        let arm = Machine { arch: "arm64", seccomp_arch: "SCMP_ARCH_AARCH64", ..NEW };
        let profile = default(Engine::Docker, &arm);
        assert!(!allows(&profile, "arch_prctl") && allows(&profile, "arm_fadvise64_64"));
        assert_eq!(profile.architectures, ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]);
        assert!(allows(&default(Engine::Docker, &NEW), "ptrace"), "since 4.8");
        let old = Machine { kernel: (4, 7), ..NEW };
        assert!(!allows(&default(Engine::Docker, &old), "ptrace"));
    }

    #[test]
    fn conditions_that_are_none_are_named() {
        for (rule, want) in [
            (r#""includes":{"minKernel":"new"}"#, "includes of read: minKernel \"new\""),
            (r#""excludes":{"caps":7}"#, "excludes of read: invalid type"),
        ] {
            let text = format!(
                r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
                {{"names":["read"],"action":"SCMP_ACT_ALLOW",{rule}}}]}}"#
            );
            let profile = Profile::parse(text.as_bytes()).expect("a profile");
            let e = Engine::Docker.resolve(profile, &NEW).expect_err("no condition");
            assert!(e.starts_with(want), "{e}");
        }
    }
}
