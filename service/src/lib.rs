//! What a store does for others: for other machines, with which trees are exchanged (`remote`), and
//! for other users of this one, who ask its daemon (`daemon`).
//!
//! Async functions over `vrift-store`; the binary `vrift` beside it is their command line. What must
//! never happen here: something from a remote or a client gets into a store without having been
//! checked, or a name (a manifest, a ref) appears anywhere before everything that it names.

pub mod daemon;
pub mod remote;
