//! `vrift-trace demo`.

use super::args::DemoOptions;

/// Runs the tour.
pub fn run(_options: &DemoOptions) -> Result<u8, String> {
    Err("placeholder".into())
}
