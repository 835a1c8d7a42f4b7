//! The benchmark: the same work done natively, under a *floor* and under `vrift-trace`.
//!
//! A figure in microseconds says more about a machine than about a program, so nothing here is
//! measured alone. The floor is the least supervisor that could do the job: it is notified of the
//! same system calls, reads the path, and answers. What `vrift-trace` costs beyond it is what its
//! own code costs.
//!
//! - [`floor`] is that supervisor, the binary `floor`;
//! - [`guest`] is what runs under it and times single system calls, the binary `calls`;
//! - [`run`] puts the two and `vrift-trace` side by side, the binary `vrift-bench`.
//!
//! A benchmark judges nothing: a missed aim is printed, never an exit status. Only a figure that
//! could not be taken at all is a failure.

pub mod error;
pub mod floor;
pub mod guest;
pub mod run;
pub mod sys;

pub use error::Failure;
