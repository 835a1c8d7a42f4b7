//! The programs that start jobs (`macos-trace`) as they were linked. `scripts/macos` builds them and runs
//! this; it takes no part in other runs, for there is nothing to read.

#![expect(clippy::tests_outside_test_module, reason = "an integration test is one test module")]

use goblin::mach::{Mach, MachO};
use std::collections::BTreeSet;

/// A program for both processors, read.
fn each(program: &str, test: impl Fn(&MachO<'_>)) {
    for arch in ["ARM64", "X86_64"] {
        let variable = format!("VRIFT_{program}_{arch}");
        let path = std::env::var_os(&variable);
        let path = path.unwrap_or_else(|| panic!("{variable} names no program: run scripts/macos"));
        let bytes = std::fs::read(&path).expect("the program");
        match Mach::parse(&bytes).expect("a Mach-O program") {
            Mach::Binary(program) => test(&program),
            Mach::Fat(_) => panic!("{variable}: one processor's"),
        }
    }
}

fn libraries<'p>(program: &MachO<'p>) -> BTreeSet<&'p str> {
    program.libs.iter().copied().filter(|name| *name != "self").collect()
}

/// The functions of a library that no stub but ours names.
fn listed(library: &str) -> BTreeSet<String> {
    let mut lines = include_str!("../../macos-trace/tests/names.txt")
        .lines()
        .skip_while(|line| !line.starts_with(library));
    lines.next().expect("the library");
    lines
        .take_while(|line| !line.contains('/') && !line.starts_with('#'))
        .filter(|line| !line.is_empty())
        .map(|name| format!("_{name}"))
        .collect()
}

const SYSTEM: &str = "/usr/lib/libSystem.B.dylib";
const ENDPOINT: &str = "/usr/lib/libEndpointSecurity.dylib";
const AUDIT: &str = "/usr/lib/libbsm.0.dylib";

/// It needs no entitlement, and nothing that a hardened program has.
#[test]
fn the_starter_is_linked_with_libsystem_alone() {
    each("START", |program| assert_eq!(libraries(program), BTreeSet::from([SYSTEM])));
}

#[test]
fn vrift_trace_is_linked_with_endpoint_security_and_calls_all_that_is_listed() {
    each("TRACE", |program| {
        assert_eq!(libraries(program), BTreeSet::from([SYSTEM, ENDPOINT, AUDIT]));
        let imports = program.imports().expect("the imports");
        for library in [ENDPOINT, AUDIT] {
            let named = imports.iter().filter(|import| import.dylib == library);
            let named: BTreeSet<String> = named.map(|import| import.name.to_owned()).collect();
            assert_eq!(named, listed(library), "{library}");
        }
    });
}
