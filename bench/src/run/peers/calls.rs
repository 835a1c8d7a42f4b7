//! Single calls beside the peers: the guest `calls` on a tree of its own, under each.

use std::path::{Path, PathBuf};

use crate::Failure;
use crate::guest::fixture;
use crate::run::calls::guest;
use crate::run::fixture::{make_calls, make_static};
use crate::run::process::Job;
use crate::run::tools::Tools;

/// The trees, and what isn't measured on them.
pub(super) struct Ground {
    /// What the tools show.
    pub base: PathBuf,
    other: PathBuf,
    without: Vec<&'static str>,
}

impl Ground {
    /// Makes the trees below `scratch`. The directory of 100,000 is left out: a tool that copies would be
    /// measured by nothing else.
    ///
    /// # Errors
    /// Those of making files.
    pub fn prepare(scratch: &Path, problems: &mut Vec<String>) -> Result<Ground, Failure> {
        let base = scratch.join("peers-calls/base");
        let [directories @ .., _] = &fixture::DIRECTORIES;
        let other = make_calls(&base, directories)?;
        let mut without = vec![fixture::OF_THE_LAST];
        if let Err(error) = make_static(&base) {
            problems.push(error.to_string());
            without.push(fixture::OF_STATIC);
        }
        Ok(Ground { base, other, without })
    }

    /// The guest where the tree is shown at `at`.
    pub fn job(&self, tools: &Tools, at: &Path) -> Job {
        guest(tools, at, &self.other, &self.without)
    }
}
