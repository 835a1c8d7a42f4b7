//! The policy file's form as a JSON Schema, for editors.

/// A JSON Schema (draft 2020-12) of the policy file. What it can't say, such as which mount points
/// are good ones, [`check`](crate::check()) does.
pub const SCHEMA: &str = include_str!("policy.schema.json");
