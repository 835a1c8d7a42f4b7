//! What a trace says, in many forms: pure functions from a [`Model`] to bytes.

mod compare;
mod depfile;
mod dot;
mod explain;
mod fsatrace;
mod json;
mod model;
mod page;
mod perfetto;
mod sets;
mod text;

pub use compare::compare;
pub use depfile::depfile;
pub use dot::dot;
pub use explain::explain;
pub use fsatrace::fsatrace;
pub use json::json;
pub use model::Model;
pub use page::page;
pub use perfetto::perfetto;
pub use text::text;
