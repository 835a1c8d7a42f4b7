//! `vrift-trace doctor`.

use super::args::Json;

/// Runs the checks.
pub fn run(_options: &Json) -> Result<u8, String> {
    Err("placeholder".into())
}
