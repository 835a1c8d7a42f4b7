//! `vrift-trace` on macOS: starts a job with the shim in its processes, with an Endpoint Security client
//! beside them, or with both, as the machine allows and the job asks.
//!
//! A command line and a policy flow in; the command's exit status flows out. What is decided knows no
//! system and is tested on Linux over a machine that is made up ([`machine::Machine`]); what asks macOS
//! is in `mac` and `framework`, and has been compiled, never run. docs/MACOS.md says what is proven.
//!
//! What must never happen here: a job started with less than its policy asks for, or a private
//! directory, through which the shim answers, removed while the command runs.

pub mod cli;
pub mod doctor;
#[cfg(target_os = "macos")]
mod framework;
pub mod job;
#[cfg(target_os = "macos")]
mod mac;
pub mod machine;
pub mod means;
mod private;
mod record;
pub mod run;
mod summary;
#[cfg(target_os = "macos")]
#[allow(unsafe_code, reason = "each block has its invariant")]
mod sys;
mod watch;

/// vrift-trace's own failures end with this.
pub const OURS: u8 = 125;

/// One line for the user: what, on what, why, what to do.
pub type Complaint = String;

/// Runs the program on this Mac.
#[cfg(target_os = "macos")]
#[must_use]
pub fn main() -> std::process::ExitCode {
    cli::main(&mac::Mac)
}
