//! What a profile would have refused of a recorded job.

use super::lint::ALWAYS;
use super::{ALLOW, Arg, Profile, Verdict};
use crate::report::Model;
use crate::trace::event::Syscall;
use std::collections::BTreeMap;

/// Actions with which a call goes on.
const PASSES: [&str; 4] = [ALLOW, super::NOTIFY, "SCMP_ACT_LOG", "SCMP_ACT_TRACE"];

/// One line for each call that the profile refuses: who made it first, what it would get, and the
/// rule that allows it.
pub fn verify(profile: &Profile, trace: &Model) -> Vec<String> {
    let verdicts = profile.by_name();
    let default = (profile.default_action.as_str(), profile.default_errno_ret);
    let mut refused: BTreeMap<(&str, &str, Option<u32>), (&Syscall, usize)> = BTreeMap::new();
    for call in &trace.syscalls {
        let foreign = call.arch.is_some()
            && !profile.architectures.is_empty()
            && !profile.architectures.iter().any(|arch| arch == "SCMP_ARCH_X86");
        let (action, errno) = match verdicts.get(&*call.call) {
            _ if foreign => ("no SCMP_ARCH_X86 among the architectures", None),
            Some(all) => answer(all.iter(), call).unwrap_or(default),
            None => default,
        };
        if !PASSES.contains(&action) {
            refused.entry((&call.call, action, errno)).or_insert((call, 0)).1 += 1;
        }
    }
    let told = refused.iter().map(|((name, action, errno), (first, times))| {
        let mut line = format!("{name}: {action}");
        if let Some(errno) = errno {
            line += &format!(" {errno}");
        }
        line += &format!(", {}", trace.caller(first));
        if let (Some(index), Some(value)) = (first.index, first.value) {
            line += &format!(", with argument {index} = {value:#x}");
        }
        if *times > 1 {
            line += &format!(", and {} more", times - 1);
        }
        line + &format!("; add {{\"names\":[\"{name}\"],\"action\":\"{ALLOW}\"}}")
    });
    let mut lines: Vec<String> = told.collect();
    // These are not recorded: every process ends, and may be interrupted.
    let passes = |name: &str| match verdicts.get(name) {
        Some(all) => all.iter().any(|verdict| PASSES.contains(&verdict.action.as_str())),
        None => PASSES.contains(&default.0),
    };
    for name in ALWAYS {
        if !passes(name) {
            lines.push(format!("{name}: every process may need it"));
        }
    }
    if trace.processes.len() > 1 && !["clone", "fork", "vfork", "clone3"].into_iter().any(passes) {
        lines.push("clone: the job makes processes".into());
    }
    lines
}

/// What the rules say; None: none of them holds. A condition on an argument that is not recorded is
/// taken to hold where it allows, and not to hold where it refuses.
fn answer<'a>(
    rules: impl Iterator<Item = &'a Verdict>,
    call: &Syscall,
) -> Option<(&'a str, Option<u32>)> {
    let mut allowed = None;
    for rule in rules {
        let passes = PASSES.contains(&rule.action.as_str());
        let holds = |arg: &Arg| known(arg, call).unwrap_or(passes);
        if rule.args.iter().all(holds) {
            let action = (rule.action.as_str(), rule.errno);
            if !passes {
                return Some(action);
            }
            allowed = Some(action);
        }
    }
    allowed
}

/// Does the condition hold for the recorded argument?
fn known(arg: &Arg, call: &Syscall) -> Option<bool> {
    let value = u64::from(call.value.filter(|_| call.index.map(u32::from) == Some(arg.index))?);
    Some(match arg.op.as_str() {
        "SCMP_CMP_EQ" => value == arg.value,
        "SCMP_CMP_NE" => value != arg.value,
        "SCMP_CMP_LT" => value < arg.value,
        "SCMP_CMP_LE" => value <= arg.value,
        "SCMP_CMP_GE" => value >= arg.value,
        "SCMP_CMP_GT" => value > arg.value,
        "SCMP_CMP_MASKED_EQ" => value & arg.value == arg.value_two,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &'static str, value: Option<u32>) -> Syscall {
        let index = value.map(|_| 0);
        Syscall { t: 1, process: 1, call: name.into(), arch: None, index, value }
    }

    #[test]
    fn conditions_are_asked_about_what_was_recorded() {
        let text = r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
            {"names":["personality"],"action":"SCMP_ACT_ALLOW","args":[
                {"index":0,"value":8,"op":"SCMP_CMP_EQ"}]},
            {"names":["socket"],"action":"SCMP_ACT_ERRNO","errnoRet":22,"args":[
                {"index":0,"value":16,"op":"SCMP_CMP_EQ"},{"index":2,"value":9,"op":"SCMP_CMP_EQ"}]},
            {"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[
                {"index":2,"value":9,"op":"SCMP_CMP_NE"}]},
            {"names":["unshare"],"action":"SCMP_ACT_ALLOW","args":[
                {"index":0,"value":2114060288,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}]}]}"#;
        let profile = Profile::parse(text.as_bytes()).expect("a profile");
        let verdicts = profile.by_name();
        let passes = |name, value| {
            let call = call(name, Some(value));
            let answer = answer(verdicts[name].iter(), &call);
            answer.is_some_and(|(action, _)| PASSES.contains(&action))
        };
        assert!(passes("personality", 8) && !passes("personality", 9));
        assert!(passes("socket", 1) && passes("socket", 16), "argument 2 is not recorded");
        assert!(passes("unshare", 0x400) && !passes("unshare", 0x1000_0000));
    }
}
