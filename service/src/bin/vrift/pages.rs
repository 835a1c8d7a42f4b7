//! Completions and man pages, made from the same definitions as the help.

use std::path::Path;

use clap::CommandFactory;

use crate::Outcome;
use crate::args::Cli;
use crate::output::{Failure, Out};

/// `vrift completions`
pub fn completions(shell: clap_complete::Shell, out: &mut Out) -> Result<Outcome, Failure> {
    // Into memory first: the generator panics when it can't write.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "vrift", &mut script);
    out.raw(&script)?;
    Ok(Outcome::Fine)
}

/// `vrift man`
pub fn man(dir: Option<&Path>, out: &mut Out) -> Result<Outcome, Failure> {
    if let Some(dir) = dir {
        let failed = |error: std::io::Error| {
            let dir = vrift_store::text::shown(dir);
            Failure::new(format!("can't write the man pages to {dir}: {error}"))
        };
        std::fs::create_dir_all(dir).map_err(failed)?;
        clap_mangen::generate_to(Cli::command(), dir).map_err(failed)?;
        return Ok(Outcome::Fine);
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page)?;
    out.raw(&page)?;
    Ok(Outcome::Fine)
}
