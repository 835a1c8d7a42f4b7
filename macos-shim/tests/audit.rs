//! The library as it was linked: what it takes the place of, what it needs, what it shows. `scripts/macos`
//! builds it and runs this (`cargo test -p vrift-macos-shim --test audit`); it takes no part in other runs,
//! for there is nothing to read.

#![expect(clippy::tests_outside_test_module, reason = "an integration test is one test module")]

use goblin::mach::MachO;
use goblin::mach::constants::{S_INTERPOSING, S_MOD_INIT_FUNC_POINTERS, SECTION_TYPE};
use std::collections::{BTreeMap, BTreeSet};
use vrift_macos_es::shim::symbols::{Arch, ROWS};

/// The two libraries, read.
fn each(test: impl Fn(Arch, &MachO<'_>)) {
    for (arch, variable) in [(Arch::Arm64, "VRIFT_SHIM_ARM64"), (Arch::X86_64, "VRIFT_SHIM_X86_64")]
    {
        let path = std::env::var_os(variable);
        let path = path.unwrap_or_else(|| panic!("{variable} names no library: run scripts/macos"));
        let bytes = std::fs::read(&path).expect("the library");
        test(arch, &MachO::parse(&bytes, 0).expect("a Mach-O library"));
    }
}

fn functions(arch: Arch) -> BTreeSet<String> {
    let all = ROWS.iter().flat_map(|row| row.suffixes(arch).map(move |end| (row.name, end)));
    all.map(|(name, end)| format!("{name}{end}")).collect()
}

/// What is imported, by where its address goes: without the underscore.
fn imports(library: &MachO<'_>) -> BTreeMap<u64, String> {
    let imports = library.imports().expect("the imports");
    let name = |name: &str| name.strip_prefix('_').unwrap_or(name).to_owned();
    imports.iter().map(|import| (import.address, name(import.name))).collect()
}

/// Address and size of the section of a kind.
fn section(library: &MachO<'_>, kind: u32) -> (u64, u64) {
    let all = library.segments.sections().flatten().map(|one| one.expect("a section").0);
    let mut found = all.filter(|section| section.flags & SECTION_TYPE == kind);
    let section = found.next().expect("the section");
    assert!(found.next().is_none(), "one section of its kind");
    (section.addr, section.size)
}

#[test]
fn it_takes_the_place_of_every_function_of_the_table_and_of_no_other() {
    each(|arch, library| {
        let (start, size) = section(library, S_INTERPOSING);
        let imports = imports(library);
        // The second word of each pair is the original.
        let originals: Vec<String> = (start..start + size)
            .step_by(16)
            .map(|pair| imports.get(&(pair + 8)).cloned().expect("an import in each pair"))
            .collect();
        let different: BTreeSet<String> = originals.iter().cloned().collect();
        assert_eq!(originals.len(), different.len(), "{}: a function twice", arch.name());
        assert_eq!(different, functions(arch), "{}", arch.name());
    });
}

/// What it imports besides, by name; those of one processor alone after its name. All of them are
/// libSystem's, which the linker has checked against the stubs of Apple's SDK.
const IMPORTS: &str = include_str!("imports.txt");

#[test]
fn it_needs_nothing_but_what_is_listed() {
    each(|arch, library| {
        let listed = IMPORTS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let words = listed.map(|line| line.split_whitespace().collect::<Vec<&str>>());
        let listed: BTreeSet<String> = words
            .filter(|words| words.len() == 1 || words[0] == arch.name())
            .filter_map(|words| words.last().map(ToString::to_string))
            .collect();
        let functions = functions(arch);
        let needed: BTreeSet<String> = imports(library).into_values().collect();
        let needed: BTreeSet<String> = needed.difference(&functions).cloned().collect();
        let more: Vec<&String> = needed.difference(&listed).collect();
        assert!(more.is_empty(), "{} needs {more:?} besides", arch.name());
    });
}

#[test]
fn it_is_linked_with_libsystem_alone() {
    each(|_, library| {
        let own = ["self", library.name.unwrap_or_default()];
        let others: Vec<&&str> = library.libs.iter().filter(|name| !own.contains(name)).collect();
        assert_eq!(others, [&"/usr/lib/libSystem.B.dylib"]);
    });
}

#[test]
fn it_has_one_constructor() {
    each(|_, library| assert_eq!(section(library, S_MOD_INIT_FUNC_POINTERS).1, 8));
}

/// A name that it shows could be another image's by chance. One crate's C has one.
#[test]
fn it_shows_no_name_of_its_own() {
    each(|arch, library| {
        let shown = library.exports().expect("the exports");
        let shown = shown.iter().map(|export| export.name.as_str());
        let others: Vec<&str> = shown.filter(|name| !name.starts_with("_blake3_")).collect();
        assert!(others.is_empty(), "{}: {others:?}", arch.name());
    });
}
