//! `vrift-start`: see [`vrift_macos_trace::starter`].

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    vrift_macos_trace::starter::main(std::env::args_os().skip(1))
}
