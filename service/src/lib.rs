//! What a store does with other machines: trees are pushed to a remote and pulled from one.
//!
//! Async functions over `vrift-store`; the binary `vrift` beside it is their command line. What must
//! never happen here: something from a remote gets into a store without having been checked, or a
//! name (a manifest, a ref) appears anywhere before everything that it names.

pub mod remote;
