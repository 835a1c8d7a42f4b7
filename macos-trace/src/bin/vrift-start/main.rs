//! `vrift-start`: becomes the job's command, from inside of the job.
//!
//! `vrift-trace` can't start the command itself: it has no shim, so a program that is projected isn't
//! there for it, and the entitlement that lets it be a client of Endpoint Security has the loader keep
//! the shim out. This one is started with the shim, waits until whoever watches is ready, and becomes
//! the command by an exec that goes through the shim as any other of the job's does.
//!
//! `vrift-start GO COMMAND…`: `GO` is the number of a descriptor, from which one byte is read.
//!
//! It uses nothing of `vrift-trace`'s own, so that it is linked with libSystem alone.

#[allow(unsafe_code, reason = "each block has its invariant")]
mod sys;

use std::ffi::OsString;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// vrift-trace's own failures end with this.
const OURS: u8 = 125;
/// The command is there and can't be run.
const NOT_EXECUTABLE: u8 = 126;
/// There is no such command.
const NOT_FOUND: u8 = 127;

/// It comes back when it failed.
fn main() -> ExitCode {
    let (status, complaint) = become_it(std::env::args_os().skip(1));
    eprintln!("vrift-trace: {complaint}");
    ExitCode::from(status)
}

fn become_it(mut arguments: impl Iterator<Item = OsString>) -> (u8, String) {
    let go = arguments.next().and_then(|number| number.to_str()?.parse().ok());
    let go = go.and_then(sys::inherited);
    let (Some(go), Some(command)) = (go, arguments.next()) else {
        return (OURS, "vrift-start is started by vrift-trace, and of no use without it".into());
    };
    let mut byte = [0];
    match File::from(go).read_exact(&mut byte) {
        Ok(()) => {}
        // It has said why.
        Err(_) => std::process::exit(OURS.into()),
    }
    let error = Command::new(&command).args(arguments).exec();
    let status = match error.kind() {
        ErrorKind::NotFound => NOT_FOUND,
        _ => NOT_EXECUTABLE,
    };
    let name = vrift_events::printable(command.as_encoded_bytes());
    match status {
        NOT_FOUND => (status, format!("{name}: there is no such program; is it in PATH?")),
        _ => (status, format!("{name}: {error}")),
    }
}
