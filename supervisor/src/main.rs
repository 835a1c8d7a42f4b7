//! `vrift-trace`: see the crate's documentation and `vrift-trace --help`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    vrift_supervisor::cli::main()
}
