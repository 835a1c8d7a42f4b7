//! Fills the cache (`VRIFT_TEST_CACHE`) with the guests that `VRIFT_TEST_CC` makes, for tests on a
//! machine without a compiler: `prebuild NAME...` builds each guest of that name in all ways.
//!
//! What can't be built is named, and is no failure: the tests that want it are skipped there.

use std::process::ExitCode;
use vrift_tests::guests::{Guest, guest, origin};
use vrift_tests::oracle;

fn main() -> ExitCode {
    let mut built = 0;
    let mut note = |what: String, result: Result<(), String>| match result {
        Ok(()) => built += 1,
        Err(reason) => println!("no {what}: {reason}"),
    };
    for name in std::env::args().skip(1) {
        for how in Guest::PLAIN.into_iter().chain([Guest::Musl, Guest::Bits32]) {
            note(format!("{name} ({how:?})"), guest(&name, how).map(drop));
        }
    }
    note("origin_main".into(), origin().map(drop));
    for linked_statically in [false, true] {
        note("oracle".into(), oracle::guest(linked_statically).map(drop));
    }
    println!("{built} guests");
    if built == 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
