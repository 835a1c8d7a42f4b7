//! `vrift-trace`: see the crate's documentation and `vrift-trace --help`.

#![forbid(unsafe_code)]

use std::process::ExitCode;
#[cfg(target_os = "macos")]
use vrift_macos_trace::main as run;
#[cfg(target_os = "linux")]
use vrift_supervisor::cli::main as run;

fn main() -> ExitCode {
    run()
}
