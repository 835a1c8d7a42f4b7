//! What a profile says and its readers don't heed, or take another way than it looks.

use super::libseccomp::{self, Version};
use super::{ALLOW, NOTIFY, Profile};
use std::collections::BTreeSet;

/// Calls that every program needs, and that no trace of it shows: the kernel or libc makes them.
pub const ALWAYS: [&str; 4] = ["exit", "exit_group", "restart_syscall", "rt_sigreturn"];
/// ENOSYS: from everything else libc does not fall back.
const ENOSYS: u32 = 38;

/// What is to be said of a profile, each in one line; empty: nothing. With `libseccomp`, of the names
/// that this release does not know too; without, of those that none does.
pub fn lint(profile: &Profile, libseccomp: Option<Version>) -> Vec<String> {
    let mut said = Vec::new();
    frame(profile, &mut said);
    rules(profile, &mut said);
    names(profile, &mut said);
    unknown(profile, libseccomp, &mut said);
    said
}

fn frame(profile: &Profile, said: &mut Vec<String>) {
    if profile.arch_map.is_some() {
        said.push("archMap: OCI runtimes don't read it; list the architectures".into());
        if !profile.architectures.is_empty() {
            said.push("archMap and architectures: docker takes one or the other".into());
        }
    }
    if profile.default_errno.is_some() && profile.default_errno_ret.is_none() {
        said.push("defaultErrno: only podman and CRI-O read it; give defaultErrnoRet".into());
    }
    match profile.default_action.as_str() {
        "SCMP_ACT_ERRNO" if profile.default_errno_ret != Some(ENOSYS) => said.push(format!(
            "defaultErrnoRet: libc falls back from ENOSYS ({ENOSYS}) only, when a call is newer than \
             the profile"
        )),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => said.push(format!(
            "defaultAction {}: one thread ends and the others wait for it; runc can hang. Use \
             SCMP_ACT_ERRNO or SCMP_ACT_KILL_PROCESS",
            profile.default_action
        )),
        NOTIFY => said.push("defaultAction SCMP_ACT_NOTIFY: runc refuses it".into()),
        ALLOW => said.push(
            "defaultAction SCMP_ACT_ALLOW: what the runtime's libseccomp has no name for runs unseen"
                .into(),
        ),
        _ => {}
    }
    if let Some(flags) = &profile.flags
        && !flags.iter().any(|flag| flag == "SECCOMP_FILTER_FLAG_SPEC_ALLOW")
    {
        said.push(
            "flags without SECCOMP_FILTER_FLAG_SPEC_ALLOW: without a list runtimes set it, with one \
             they don't, and the job may become slower"
                .into(),
        );
    }
    if profile.listener_metadata.is_some() && profile.listener_path.is_none() {
        said.push("listenerMetadata without listenerPath: the specification forbids it".into());
    }
}

fn rules(profile: &Profile, said: &mut Vec<String>) {
    for (at, rule) in profile.syscalls.iter().enumerate() {
        let which = format!("syscalls[{at}] ({})", rule.names.first().map_or("", String::as_str));
        if rule.includes.is_some() || rule.excludes.is_some() {
            said.push(format!(
                "{which}: includes and excludes are nothing to OCI runtimes, where the rule always \
                 applies"
            ));
        }
        if rule.action == ALLOW && rule.errno_ret.is_some() {
            said.push(format!(
                "{which}: errnoRet with {ALLOW}: it goes with an action that has an errno"
            ));
        }
        if rule.action == NOTIFY && rule.names.iter().any(|name| name == "write") {
            said.push(format!(
                "{which}: {NOTIFY} on write: runc refuses it, which hands the listener over by a write"
            ));
        }
        if rule.action == NOTIFY && profile.listener_path.is_none() {
            said.push(format!(
                "{which}: {NOTIFY} without listenerPath: runc does not start, and with crun these \
                 calls get ENOSYS"
            ));
        }
        let twice = rule.args.iter().map(|arg| arg.index).collect::<BTreeSet<_>>();
        if twice.len() < rule.args.len() {
            said.push(format!(
                "{which}: conditions on one argument in one rule: either is enough, not both"
            ));
        }
    }
}

fn names(profile: &Profile, said: &mut Vec<String>) {
    let by_name = profile.by_name();
    for (name, verdicts) in &by_name {
        if verdicts.len() > 1 && verdicts.iter().any(|verdict| verdict.args.is_empty()) {
            said.push(format!(
                "{name}: a rule with conditions beside one without, which swallows it"
            ));
        }
    }
    if profile.default_action != ALLOW {
        for name in ALWAYS.iter().filter(|name| !by_name.contains_key(*name)) {
            said.push(format!("{name} is missing: every program needs it, and no trace shows it"));
        }
    }
}

fn unknown(profile: &Profile, libseccomp: Option<Version>, said: &mut Vec<String>) {
    let release = libseccomp.unwrap_or(Version::NEWEST);
    let instead = format!("so that calls of it get {}", profile.default_action);
    for name in profile.by_name().keys() {
        match libseccomp::since(name) {
            Some(since) if since <= release => {}
            Some(since) => said.push(format!(
                "{name}: libseccomp {since} knows it, not {release} or perhaps not: then a runtime \
                 passes over it, {instead}"
            )),
            // A release that is newer than those measured may know any name.
            None if release > Version::NEWEST => {}
            None => said.push(format!(
                "{name}: no libseccomp up to {} knows it: a runtime passes over it, {instead}",
                Version::NEWEST
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> String {
        lint(&Profile::parse(text.as_bytes()).expect(text), None).join("\n")
    }

    #[test]
    fn names_that_a_release_does_not_know_are_told() {
        let text = r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"syscalls":[{"names":
            ["exit","exit_group","restart_syscall","rt_sigreturn","mseal","raed"],
            "action":"SCMP_ACT_ALLOW"}]}"#;
        let profile = Profile::parse(text.as_bytes()).expect(text);
        let of = |version: &str| lint(&profile, Some(version.parse().expect(version))).join("\n");
        assert!(said(text).starts_with("raed: no libseccomp up to 2.6.1"), "{}", said(text));
        assert!(
            of("2.5.4").contains("mseal: libseccomp 2.6.0 knows it, not 2.5.4"),
            "{}",
            of("2.5.4")
        );
        assert!(of("2.5.4").contains("raed: ") && !of("2.6.0").contains("mseal"));
        assert_eq!(of("2.7.0"), "");
    }

    #[test]
    fn a_sound_profile_gets_no_word() {
        let sound = r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"syscalls":[{"names":
            ["exit","exit_group","restart_syscall","rt_sigreturn"],"action":"SCMP_ACT_ALLOW"}]}"#;
        assert_eq!(said(sound), "");
    }

    #[test]
    fn each_fault_is_told() {
        let bad = said(
            r#"{"defaultAction":"SCMP_ACT_KILL_THREAD","archMap":[],"architectures":["SCMP_ARCH_X86"],
            "flags":["SECCOMP_FILTER_FLAG_LOG"],"listenerMetadata":"m","syscalls":[
            {"names":["write"],"action":"SCMP_ACT_NOTIFY","includes":{"caps":["CAP_BPF"]}},
            {"names":["read"],"action":"SCMP_ACT_ALLOW","errnoRet":1},
            {"names":["read"],"action":"SCMP_ACT_ALLOW","args":[
              {"index":0,"value":1,"op":"SCMP_CMP_EQ"},{"index":0,"value":2,"op":"SCMP_CMP_EQ"}]}]}"#,
        );
        for word in [
            "OCI runtimes don't read it",
            "one or the other",
            "runc can hang",
            "SPEC_ALLOW",
            "listenerMetadata without",
            "includes and excludes",
            "errnoRet with",
            "on write",
            "without listenerPath: runc",
            "either is enough",
            "read: a rule with conditions",
            "restart_syscall is missing",
        ] {
            assert!(bad.contains(word), "{word}: {bad}");
        }
    }
}
