//! What `policy check` finds, and that the JSON Schema says what the parser does.

#![expect(clippy::tests_outside_test_module, reason = "an integration test is one test module")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;
use vrift_policy::{Policy, SCHEMA, Severity, Surroundings, check};

/// The findings about a policy, without the file's name.
fn findings(text: &str) -> Vec<String> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("p.toml");
    fs::write(&file, text).expect("a policy");
    let around = Surroundings { home: Some("/home/u".into()), ..Surroundings::default() };
    let prefix = format!("{}:", file.display());
    let all = check(&file, &around);
    let parsed = Policy::load(&file).is_ok();
    let errors = all.iter().filter(|finding| finding.severity == Severity::Error).count();
    // Patterns are read when it is known what `~` and variables are.
    assert!(
        parsed == (errors == 0)
            || text.contains("NOT_SET")
            || text.contains("upper")
            || text.contains("enforce"),
        "{all:?}"
    );
    let lines = all.iter().map(|finding| {
        let line = finding.to_string();
        assert!(!line.contains('\n'), "{line}");
        line.replace(&prefix, "")
    });
    lines.collect()
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let text = r#"version = 1
colour = "red"
[job]
name = ""
on_leftovers = "kill"
[[mount]]
at = "vrift"
manifest = "m"
[[mount]]
at = "/v"
manifset = "m"
[[mount]]
at = "/w"
manifest = "m"
mode = "readonly"
[[mount]]
at = "/x"
manifest = "m"
upper = "u"
[[rule]]
paths = ["/a/[b", "/a/$NOT_SET", "/c"]
access = "deny"
[[rule]]
paths = ["/d"]
[[rule]]
paths = ["/e"]
access = "hide"
acess = "deny"
[trace]
reads = 1
"#;
    assert_eq!(
        findings(text),
        [
            "2: unknown key `colour`; known here: `version`, `job`, `mount`, `rule`, `syscalls`, `trace`, `macos`",
            "4: `name` is empty; give it a value",
            "5: unknown key `on_leftovers`; did you mean `on_leftover`?",
            "7: mount point \"vrift\" is not absolute; begin it with `/`",
            "9: missing field `manifest`",
            "11: unknown key `manifset`; did you mean `manifest`?",
            "15: unknown value `readonly`; did you mean `read-only`?",
            "17: upper \"u\" is for changes, and only a writable mount (mode \"copy-on-write\" or \"overlay\") changes; leave it out, or give a mode",
            "21: pattern \"/a/[b\": unclosed character class; missing ']'",
            "21: pattern \"/a/$NOT_SET\": the variable NOT_SET is not set; set it, or write the path out",
            "23: the rule says nothing; give it `access`, or `exec`",
            "28: unknown key `acess`; did you mean `access`?",
            "30: invalid type: integer `1`, expected a boolean",
        ]
    );
    assert_eq!(findings("version = 2\nx = 1\n").len(), 1);
    assert!(findings("version = 1\n[job\n")[0].starts_with("2: "));
}

#[test]
fn what_has_no_effect_is_told() {
    let text = r#"version = 1
[[mount]]
at = "/vrift"
manifest = "m"
[[mount]]
at = "/vrift/in"
manifest = "n"
[[rule]]
paths = ["/vrift/secret", "/etc/shadow"]
access = "hide"
[[rule]]
paths = ["/etc/shadow", "/src/**"]
access = "deny"
[[rule]]
paths = ["/src/*"]
access = "read-only"
[[rule]]
paths = ["/src/*/k"]
exec = false
[[rule]]
paths = ["/data"]
access = "hide"
[[rule]]
paths = ["/data/**/public"]
access = "read-only"
"#;
    assert_eq!(
        findings(text),
        [
            "6: warning: \"/vrift/in\" lies over the mount at \"/vrift\" (3): what that has there is out of sight",
            "9: warning: \"/vrift/secret\" can never apply: the mount at \"/vrift\" (3) covers it, and rules are for real paths",
            "12: warning: \"/etc/shadow\" can never apply: \"/etc/shadow\" (9) matches all of it and is as specific and earlier",
            "12: warning: \"/src/**\" can never apply: \"/src/*\" (15) matches all of it and is more specific",
            "24: warning: \"/data/**/public\" is out of reach: \"/data\" (21) shuts the directories on the way, and `**` does not tell which of them to leave open; write the way out",
        ]
    );
    assert_eq!(findings("version = 1\n[[rule]]\npaths = [\"~/x\"]\naccess = \"hide\"\n"), [""; 0]);
}

#[test]
fn what_landlock_cannot_enforce_is_told() {
    let text = r#"version = 1
[[rule]]
paths = ["/a", "/b/**", "/c/*.k"]
access = "deny"
enforce = "landlock"
[[rule]]
paths = ["/a/open", "/a/*.h"]
access = "read-only"
"#;
    assert_eq!(
        findings(text),
        [
            "3: Landlock can't enforce \"/c/*.k\": it takes a path, or a path with `/**` after it; write the paths out, or leave `enforce` out",
            "7: \"/a/*.h\" opens a part of \"/a\" (3), which Landlock enforces: that takes a path, or a path with `/**` after it; write the paths out",
        ]
    );
}

#[test]
fn a_file_that_cannot_be_read_is_one_finding() {
    let all = check(Path::new("/nothing/here.toml"), &Surroundings::default());
    let [finding] = all.as_slice() else { panic!("{all:?}") };
    assert!(finding.to_string().contains("cannot read the policy file"), "{finding}");
}

/// Whether a value fits the schema; the keywords that the schema uses, and no others.
fn fits(schema: &Value, value: &Value, root: &Value) -> bool {
    let Value::Object(keywords) = schema else { panic!("{schema}") };
    keywords.iter().all(|(keyword, wanted)| match keyword.as_str() {
        "$schema" | "$defs" | "title" | "description" | "default" => true,
        "$ref" => {
            let path = wanted.as_str().and_then(|text| text.strip_prefix('#')).expect("a pointer");
            fits(root.pointer(path).expect(path), value, root)
        }
        "type" => match wanted.as_str().expect("a type") {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            other => panic!("type {other}"),
        },
        "const" => value == wanted,
        "enum" => wanted.as_array().expect("a list").contains(value),
        "required" => {
            let names = wanted.as_array().expect("a list").iter().filter_map(Value::as_str);
            names.into_iter().all(|name| value.get(name).is_some())
        }
        "anyOf" => wanted.as_array().expect("a list").iter().any(|one| fits(one, value, root)),
        "properties" => value.as_object().is_none_or(|all| {
            all.iter().all(|(k, v)| wanted.get(k).is_none_or(|schema| fits(schema, v, root)))
        }),
        "additionalProperties" => {
            assert_eq!(wanted, false);
            let known = keywords["properties"].as_object().expect("properties");
            value.as_object().is_none_or(|all| all.keys().all(|key| known.contains_key(key)))
        }
        "items" => value.as_array().is_none_or(|all| all.iter().all(|v| fits(wanted, v, root))),
        // No bound is beyond i64: a number that is has no i64, and is over every one.
        "minimum" => value.as_i64().is_none_or(|number| Some(number) >= wanted.as_i64()),
        "maximum" => {
            let within = |number| Some(number) <= wanted.as_i64();
            !value.is_number() || value.as_i64().is_some_and(within)
        }
        "minItems" => {
            value.as_array().is_none_or(|all| all.len() as u64 >= wanted.as_u64().expect("n"))
        }
        "minLength" => value.as_str().is_none_or(|s| s.len() as u64 >= wanted.as_u64().expect("n")),
        "pattern" => value.as_str().is_none_or(|text| match wanted.as_str().expect("a pattern") {
            "^/." => text.starts_with('/') && text.len() > 1,
            "^[/~$]" => text.starts_with(['/', '~', '$']),
            "^(discard|keep|commit:.+)$" => {
                matches!(text, "discard" | "keep") || text.starts_with("commit:") && text.len() > 7
            }
            other => panic!("pattern {other}"),
        }),
        other => panic!("keyword {other}"),
    })
}

fn schema() -> Value {
    serde_json::from_str(SCHEMA).expect("JSON")
}

fn fits_schema(policy: &str) -> bool {
    let value: toml::Value = toml::from_str(policy).expect(policy);
    let schema = schema();
    fits(&schema, &serde_json::to_value(value).expect("JSON"), &schema)
}

#[test]
fn the_schema_takes_what_the_parser_takes() {
    let mut seen = 0;
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/policies");
    for entry in fs::read_dir(fixtures).expect("fixtures/policies") {
        let path = entry.expect("an entry").path();
        let text = fs::read_to_string(&path).expect("a policy");
        assert!(Policy::parse(&text, &path).is_ok() && fits_schema(&text), "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 2, "{seen} policies in the fixtures");
}

#[test]
fn the_schema_refuses_what_the_parser_refuses() {
    for text in [
        "job = { name = 'x' }",
        "version = 2",
        "version = 1\ncolour = 1",
        "version = 1\nmount = [{ at = '/v' }]",
        "version = 1\nmount = [{ at = 'v', manifest = 'm' }]",
        "version = 1\nmount = [{ at = '/v', manifest = '' }]",
        "version = 1\nmount = [{ at = '/v', manifest = 'm', mode = 'rw' }]",
        "version = 1\nmount = [{ at = '/v', manifest = 'm', on_exit = 'commit:' }]",
        "version = 1\nrule = [{ paths = ['/a'] }]",
        "version = 1\nrule = [{ paths = [], access = 'hide' }]",
        "version = 1\nrule = [{ paths = ['/a'], exec = 1 }]",
        "version = 1\nrule = [{ paths = ['/a'], access = 'deny', enforce = 'wall' }]",
        "version = 1\n[syscalls]\nio_uring = 'maybe'",
        "version = 1\n[trace]\nreads = 'yes'",
        "version = 1\n[job]\nfetch_timeout = 0",
        "version = 1\n[job]\nfetch_timeout = 4294967296",
        "version = 1\n[job]\nfetch_timeout = '60'",
        "version = 1\n[job]\nview = 'fuse'",
        "version = 1\n[macos]\nrestricted = 'maybe'",
    ] {
        assert!(Policy::parse(text, Path::new("p")).is_err(), "{text}");
        assert!(!fits_schema(text), "{text}");
    }
}

/// The keys that the parser names when it meets one that it doesn't know.
fn known_to_the_parser(text: &str) -> BTreeSet<String> {
    let message = Policy::parse(text, Path::new("p")).expect_err(text).to_string();
    let list = message.split_once("known here: ").unwrap_or_else(|| panic!("{message}")).1;
    list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_schema_has_every_key_that_the_parser_knows() {
    let schema = schema();
    for (text, at) in [
        ("version = 1\nzzzzzzzz = 1", ""),
        ("version = 1\n[job]\nzzzzzzzz = 1", "/properties/job"),
        ("version = 1\n[[mount]]\nzzzzzzzz = 1", "/properties/mount/items"),
        ("version = 1\n[[rule]]\nzzzzzzzz = 1", "/properties/rule/items"),
        ("version = 1\n[syscalls]\nzzzzzzzz = 1", "/properties/syscalls"),
        ("version = 1\n[trace]\nzzzzzzzz = 1", "/properties/trace"),
        ("version = 1\n[macos]\nzzzzzzzz = 1", "/properties/macos"),
    ] {
        let properties = schema.pointer(&format!("{at}/properties")).expect(at);
        let ours: BTreeSet<String> = properties.as_object().expect(at).keys().cloned().collect();
        assert_eq!(ours, known_to_the_parser(text), "{at}");
    }
}
