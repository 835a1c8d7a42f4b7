//! The table of functions: whole, without doubles, as the documentation counts it, and of functions
//! that libSystem has.

#![expect(clippy::tests_outside_test_module, reason = "an integration test is one test module")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use vrift_macos_es::shim::symbols::{Arch, Ask, Decided, Family, ROWS, count, find};
use vrift_policy::{Mode, Outcome, Target, decide};

fn names(arch: Arch) -> Vec<String> {
    let each = ROWS.iter().flat_map(|row| row.suffixes(arch).map(move |end| (row, end)));
    each.map(|(row, end)| format!("{}{end}", row.name)).collect()
}

#[test]
fn each_function_has_one_row() {
    for arch in Arch::ALL {
        let all = names(arch);
        let different: BTreeSet<&String> = all.iter().collect();
        assert_eq!(all.len(), different.len(), "{}", arch.name());
        assert_eq!(all.len(), count(arch));
        for name in &all {
            assert!(find(name, arch).is_some(), "{name}");
        }
    }
    assert!(find("stat$INODE64", Arch::X86_64).is_some());
    assert!(find("stat$INODE64", Arch::Arm64).is_none(), "arm64 has no $INODE64");
    assert!(find("open$NOCANCEL", Arch::Arm64).is_some_and(|row| row.variadic));
    assert!(find("opens", Arch::Arm64).is_none());
}

/// What a row says is done fits what the core answers to what it is asked.
#[test]
fn what_is_decided_is_what_the_table_answers() {
    for row in ROWS {
        let operation = match row.ask {
            Ask::Path(operation) | Ask::Descriptor(operation) | Ask::Address(operation) => {
                operation
            }
            Ask::Materialise(operation) => operation,
            _ => continue,
        };
        let changed = [Target::Missing, Target::File, Target::Directory].iter().any(|target| {
            decide(operation, Mode::ReadOnly, *target)
                == Outcome::Refuse(vrift_policy::Errno::EROFS)
        });
        assert_eq!(changed, row.decided == Decided::Erofs, "{}", row.name);
    }
    for row in ROWS.iter().filter(|row| row.decided == Decided::Exdev) {
        assert!(matches!(row.ask, Ask::Rename | Ask::Link | Ask::LinkDescriptor), "{}", row.name);
    }
}

#[test]
fn rows_stand_by_family_and_each_has_some() {
    let families: Vec<Family> = ROWS.iter().map(|row| row.family).collect();
    assert!(families.is_sorted());
    for family in Family::ALL {
        assert!(families.contains(&family), "{family:?}");
    }
}

fn docs() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/MACOS.md");
    std::fs::read_to_string(&page).expect("docs/MACOS.md")
}

/// The counts that docs/MACOS.md gives, made anew.
fn counts() -> String {
    let mut text =
        String::from("| family | rows | x86_64 | arm64 | what is done |\n|---|--:|--:|--:|---|\n");
    for family in Family::ALL {
        let rows = || ROWS.iter().filter(|row| row.family == family);
        let of = |arch| rows().map(|row| row.suffixes(arch).count()).sum::<usize>();
        let done: Vec<&str> = Decided::ALL
            .into_iter()
            .filter(|decided| rows().any(|row| row.decided == *decided))
            .map(Decided::name)
            .collect();
        text += &format!(
            "| {} | {} | {} | {} | {} |\n",
            family.name(),
            rows().count(),
            of(Arch::X86_64),
            of(Arch::Arm64),
            done.join(", ")
        );
    }
    let (x86_64, arm64) = (count(Arch::X86_64), count(Arch::Arm64));
    text + &format!("| **all** | {} | {x86_64} | {arm64} | |\n", ROWS.len())
}

#[test]
fn the_documentation_counts_right() {
    let counts = counts();
    assert!(docs().contains(&counts), "docs/MACOS.md should have:\n{counts}");
}

/// Where the stubs of Apple's SDK are: scripts/setup takes them from PyPI's `ziglang`.
fn stubs() -> Result<PathBuf, String> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| {
        let home = std::env::var_os("HOME")?;
        Some(Path::new(&home).join(".cache"))
    });
    let cache = cache.ok_or("neither XDG_CACHE_HOME nor HOME is set")?;
    let stubs = cache.join("vrift-sdk/libSystem.tbd");
    if stubs.is_file() {
        Ok(stubs)
    } else {
        Err(format!("there is no {}: scripts/setup makes it", stubs.display()))
    }
}

/// The symbols of a `.tbd` file (version 4), by architecture.
fn exported(text: &str) -> BTreeMap<&'static str, BTreeSet<&str>> {
    let mut all: BTreeMap<&'static str, BTreeSet<&str>> = BTreeMap::new();
    let mut of: Vec<&'static str> = Vec::new();
    let mut rest = text;
    // Lists follow their key: `targets: [ ... ]`, then `symbols: [ ... ]`.
    while let Some(at) = rest.find(": ") {
        let key = rest[..at].rsplit(['\n', ' ']).next().unwrap_or_default();
        rest = rest[at + 1..].trim_start();
        let Some(list) = rest.strip_prefix('[') else { continue };
        let Some(end) = list.find(']') else { break };
        let words = list[..end].split(',').map(|word| word.trim().trim_matches(['\'', '"']));
        match key {
            "targets" => {
                let words: Vec<&str> = words.collect();
                of = [
                    ("x86_64", "x86_64-macos"),
                    ("arm64", "arm64-macos"),
                    ("arm64", "arm64e-macos"),
                ]
                .into_iter()
                .filter(|(_, target)| words.contains(target))
                .map(|(arch, _)| arch)
                .collect();
            }
            "symbols" | "weak-symbols" => {
                for word in words.filter_map(|word| word.strip_prefix('_')) {
                    for arch in &of {
                        all.entry(arch).or_default().insert(word);
                    }
                }
            }
            _ => {}
        }
        rest = &list[end..];
    }
    all
}

#[test]
fn libsystem_has_every_function_and_no_other_form_of_it() {
    let name = "libsystem_has_every_function_and_no_other_form_of_it";
    let stubs = vrift_tests::need!(name, stubs());
    let text = std::fs::read_to_string(stubs).expect("the stubs");
    let exported = exported(&text);
    for arch in Arch::ALL {
        let there = &exported[arch.name()];
        assert!(there.len() > 5000, "{}: {} symbols", arch.name(), there.len());
        let ours: BTreeSet<String> = names(arch).into_iter().collect();
        let missing: Vec<&String> =
            ours.iter().filter(|name| !there.contains(name.as_str())).collect();
        assert!(missing.is_empty(), "{}: {missing:?}", arch.name());
        let forgotten: Vec<&&str> = there
            .iter()
            .filter(|name| {
                let base = name.split('$').next().unwrap_or(name);
                ROWS.iter().any(|row| row.name == base) && !ours.contains(**name)
            })
            .collect();
        assert!(forgotten.is_empty(), "{}: {forgotten:?}", arch.name());
    }
}
