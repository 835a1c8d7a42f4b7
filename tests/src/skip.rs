//! Skipped tests are counted by name, never hidden: each goes to stderr past the test
//! runner's capture, and to the file named by `VRIFT_SKIPPED`, which the test command shows
//! at the end of the run.

use std::fs::OpenOptions;
use std::io::Write;

/// Records a skipped test. Use [`skip!`](crate::skip!), which also leaves the test.
///
/// # Panics
/// When the skip list can't be written: an uncounted skip would look like a pass.
pub fn record(name: &str, reason: &str) {
    // Not eprintln!, which the test runner captures and drops when a test passes.
    let _ = std::io::stderr().write_all(format!("skipped {name}: {reason}\n").as_bytes());
    // First the test as the runner knows it, so that one that skips two parts counts once.
    let program = std::env::current_exe().unwrap_or_default();
    let thread = std::thread::current();
    let test = thread.name().unwrap_or(name);
    let line = format!("{}::{test}\t{name}: {reason}\n", program.display());
    if let Some(list) = std::env::var_os("VRIFT_SKIPPED") {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&list)
            .and_then(|mut file| file.write_all(line.as_bytes()))
            .unwrap_or_else(|e| panic!("cannot write the skip list {}: {e}", list.display()));
    }
}

/// Leaves the test and counts it as skipped: `skip!("name", "what the machine lacks")`.
#[macro_export]
macro_rules! skip {
    ($name:expr, $($reason:tt)+) => {{
        $crate::skip::record($name, &format!($($reason)+));
        return;
    }};
}

/// Takes the value of a `Result<T, String>`, or skips the test with its reason.
#[macro_export]
macro_rules! need {
    ($name:expr, $what:expr) => {
        match $what {
            Ok(value) => value,
            Err(reason) => $crate::skip!($name, "{reason}"),
        }
    };
}

/// The program named `name` on the tests' `PATH`, or why it can't be used.
///
/// # Errors
/// A sentence for [`skip!`](crate::skip!) when there is none.
pub fn program(name: &str) -> Result<std::path::PathBuf, String> {
    std::env::split_paths(crate::job::PATH)
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| format!("{name} is not installed"))
}
