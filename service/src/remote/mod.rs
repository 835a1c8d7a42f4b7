//! Remotes: a place on another machine, or in another directory, that keeps trees of a store.
//!
//! `place` knows what a URL means and how a service is asked, `blob` moves one blob, `pack` many
//! small ones, `refs` reads and sets refs there, `push` and `pull` move trees, `repair` fetches what
//! is damaged here, `lazy` what a tree that was pulled without its blobs turns out to need, which a
//! job asks of `serve`; `profile` is what an earlier job needed. The layout is docs/STORE.md's.

mod blob;
mod error;
mod lazy;
mod pack;
mod place;
mod profile;
mod pull;
mod push;
mod refs;
mod repair;
mod serve;
mod transfer;

pub use error::RemoteError;
pub use lazy::OnDemand;
pub use place::{Options, Remote};
pub use profile::Profile;
pub use pull::{Ahead, prefetch, pull, pull_lazily};
pub(crate) use pull::{LONGEST_MANIFEST, absent};
pub use push::{Pushed, push};
pub use repair::{Repaired, repair};
pub use serve::serve;
pub(crate) use transfer::blobs_of;
pub use transfer::{RefSpec, Transfer};
