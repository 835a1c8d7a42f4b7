//! What would let a refused call through: the same words in the summary and in `explain`.

use super::Text;
use super::event::{Access, Op, Rule};

/// A refusal, as far as a hint needs it.
pub struct Refusal<'a> {
    /// The errno's name.
    pub err: &'a str,
    /// The path.
    pub path: &'a Text,
    /// It was to be run.
    pub runs: bool,
    /// It lies in a mount.
    pub projected: bool,
    /// What refused it; empty where nobody asked for it, but a job's nature.
    pub rule: &'a Rule,
}

/// What would allow a refused call of a trace; empty where it was not refused.
pub fn of(op: &Op) -> String {
    let Some(refused) = &op.refused else { return String::new() };
    let path = Text::from(op.place());
    let err = op.err.as_deref().unwrap_or_default();
    allow(&Refusal {
        err,
        path: &path,
        projected: op.mount.is_some(),
        runs: op.access == Access::Exec,
        rule: &refused.rule,
    })
}

/// What to change, in one line.
pub fn allow(refusal: &Refusal<'_>) -> String {
    let Refusal { err, path, runs, projected, rule } = refusal;
    match (*err, &rule.file, &rule.argument) {
        ("EXDEV", ..) => "copy instead: no rule makes two file systems one".into(),
        ("EIO", ..) => {
            "get the tree with all its contents beforehand: `vrift pull` without --lazy".into()
        }
        ("EBUSY", ..) => "work inside the mount: its mount point stays where it is".into(),
        (_, Some(_), _) if !projected => {
            let path = serde_json::Value::from(path.shown());
            let grant = match *err {
                _ if *runs => "access = \"read-only\", exec = true",
                "EROFS" => "access = \"read-write\"",
                _ => "access = \"read-only\"",
            };
            format!("add to the policy: [[rule]] paths = [{path}], {grant}")
        }
        (_, Some(_), _) => format!("add at {rule}: mode = \"overlay\""),
        (_, None, Some(argument)) => format!("run it with -m {}", with_overlay(&argument.shown())),
        _ => "run it in a job without mounts".into(),
    }
}

/// The argument of `-m` with the mode overlay instead of any other. Commas in names are escaped.
fn with_overlay(argument: &str) -> String {
    let mut options = vec![String::new()];
    let mut escaped = false;
    for c in argument.chars() {
        if c == ',' && !escaped {
            options.push(String::new());
        } else if let Some(option) = options.last_mut() {
            option.push(c);
        }
        escaped = c == '\\' && !escaped;
    }
    options.retain(|option| !option.starts_with("mode="));
    options.push("mode=overlay".into());
    options.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_its_way_out() {
        let path = Text::from("/a\"b");
        let file = Rule { file: Some("v.toml".into()), line: Some(7), argument: None };
        let argument = Rule { argument: Some("/v=deps".into()), ..Rule::default() };
        let said = |err, projected, rule| {
            allow(&Refusal { err, path: &path, runs: false, projected, rule })
        };
        assert_eq!(said("EROFS", true, &file), "add at v.toml:7: mode = \"overlay\"");
        assert_eq!(said("EROFS", true, &argument), "run it with -m /v=deps,mode=overlay");
        assert!(said("EACCES", false, &file).contains(r#"["/a\"b"], access = "read-only""#));
        assert!(said("EROFS", false, &file).ends_with("access = \"read-write\""));
        assert_eq!(
            with_overlay("/a\\,mode=b=deps,mode=copy-on-write,upper=/u"),
            "/a\\,mode=b=deps,upper=/u,mode=overlay"
        );
        assert!(said("EXDEV", true, &file).starts_with("copy"));
        assert!(said("EIO", true, &argument).contains("without --lazy"));
        assert!(said("EPERM", false, &Rule::default()).contains("without mounts"));
    }
}
