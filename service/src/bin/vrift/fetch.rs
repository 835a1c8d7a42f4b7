//! `vrift fetch --serve`: fetches blobs for a job that `vrift-trace` runs over a tree that was pulled
//! without them. Started by it, and ends with it.

use std::io::{self, IsTerminal};
use std::num::NonZeroU32;
use std::time::Duration;

use clap::Args;
use rustix::process::{
    DumpableBehavior, Signal, set_dumpable_behavior, set_parent_process_death_signal,
};
use vrift_service::remote::{Options, serve};
use vrift_store::Store;

use crate::Outcome;
use crate::output::Failure;
use crate::remote::runtime;

pub const HELP: &str = "Example:
  vrift-trace -m /opt/gcc=toolchain/gcc-12 -- make    starts it by itself where blobs are left at a remote";

/// `vrift fetch`
#[derive(Debug, Args)]
pub struct Fetch {
    /// Take requests from standard input and answer on standard output
    #[arg(long, required = true)]
    pub serve: bool,

    /// Give up on a fetch after so long, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "120")]
    pub limit: NonZeroU32,
}

/// Serves until standard input ends.
pub fn fetch(store: Store, args: &Fetch) -> Result<Outcome, Failure> {
    if io::stdin().is_terminal() {
        return Err(Failure::new("fetch --serve is for `vrift-trace`, which starts it".to_owned()));
    }
    // Its end is also that of standard input, unless somebody else has the other side of that.
    let failed = |error: rustix::io::Errno| Failure::new(format!("prctl: {error}"));
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(failed)?;
    // The job's processes, whose user may be ours, may not look into this one.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(failed)?;
    let limit = Duration::from_secs(args.limit.get().into());
    let usual = Options::default();
    let options = Options { timeout: usual.timeout.min(limit), ..usual };
    let runtime = runtime()?;
    let served = serve(runtime.handle(), store, options, limit, io::stdin(), io::stdout());
    // What is under way is wanted by nobody any more.
    runtime.shutdown_background();
    served.map_err(|error| Failure::new(format!("the supervisor is out of reach: {error}")))?;
    Ok(Outcome::Fine)
}
