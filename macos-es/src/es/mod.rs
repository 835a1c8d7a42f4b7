//! The Endpoint Security client, as far as it knows no system: what an event means, whether it may
//! happen, by when that has to be said, what need not be told at all, and what of it goes into the
//! trace.
//!
//! Events flow in, from Apple's framework through an [`adapter::Endpoint`] or from `eslogger`'s JSON
//! ([`json`]); replies and trace events flow out. ES can only allow or deny, so the guard keeps the
//! store and the mounts from being changed and holds the job to the policy's rules; projecting is the
//! shim's.
//!
//! What must never happen here: an event that asks left without an answer, or answered twice; an
//! event lost without the trace saying so.

pub mod adapter;
pub mod client;
pub mod deadline;
pub mod decide;
pub mod event;
pub mod gaps;
pub mod json;
pub mod mute;
pub mod record;
pub mod tree;
