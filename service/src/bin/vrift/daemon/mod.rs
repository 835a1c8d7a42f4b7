//! `vrift daemon`, and what other commands have the daemon do.

mod install;
mod start;
pub mod through;

use std::io::Write;
use std::time::Duration;

use clap::Subcommand;
use serde_json::json;
use vrift_client::{Client, DaemonError, Reply, Request, Status};
use vrift_service::daemon::{self, Settings};
use vrift_store::Store;

use crate::Outcome;
use crate::output::{Failure, Out, bytes, count};

/// What `vrift daemon --help` says at its end.
pub const HELP: &str = "Nothing needs the daemon that may write to the store by itself; who may only read it runs jobs without one, too. With it, other users ingest, pull, protect and collect if daemon/config.toml in the store allows it:

  version = 1
  ingest = [\"alice\", \"@builders\", 1007]   # also: refs, protect, collect, quarantine, pull; \"*\" is everybody

Examples:
  vrift daemon start
  vrift daemon status --json | jq .hit_rate
  sudo vrift --store /srv/vrift daemon install --system";

/// What to do with the daemon.
#[derive(Debug, Subcommand)]
pub enum What {
    /// Start it, unless it runs
    Start(Idle),
    /// End it; what it is doing is finished, for 30 seconds at most
    Stop,
    /// End it if it runs, and start it
    Restart(Idle),
    /// Show how it is; status 1 when it doesn't run
    Status,
    /// Run it in the foreground, as units do
    Run {
        /// When to end
        #[command(flatten)]
        idle: Idle,
        /// Say on standard output when clients can come, and leave the terminal then
        #[arg(long, hide = true)]
        ready: bool,
    },
    /// Have the system start it: writes a systemd unit (macOS: a launchd property list)
    Install(Where),
    /// Remove what `install` wrote
    Uninstall(Where),
}

/// When the daemon ends by itself.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Idle {
    /// End after so long without a client; 0: never
    #[arg(long = "idle", value_name = "SECONDS", default_value = "600")]
    seconds: u64,
}

/// Whose the unit is.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Where {
    /// For the whole system, from its start on, as the store's owner; takes root
    #[arg(long)]
    system: bool,
}

/// `vrift daemon`
pub fn daemon(store: Store, what: &What, out: &mut Out) -> Result<Outcome, Failure> {
    match what {
        What::Start(idle) => start::start(&store, *idle, out),
        What::Stop => start::stop(&store, out),
        What::Restart(idle) => {
            start::stop(&store, out)?;
            start::start(&store, *idle, out)
        }
        What::Status => status(&store, out),
        What::Run { idle, ready: false } => {
            run(store, *idle, start::tell_the_system)?;
            Ok(Outcome::Fine)
        }
        What::Run { idle, ready: true } => start::run_detached(store, *idle),
        What::Install(at) => install::install(&store, *at, out),
        What::Uninstall(at) => install::uninstall(&store, *at, out),
    }
}

/// Runs it until its end.
fn run(store: Store, idle: Idle, ready: impl FnOnce()) -> Result<(), DaemonError> {
    let idle = (idle.seconds > 0).then(|| Duration::from_secs(idle.seconds));
    daemon::run(store, &Settings { idle }, ready)
}

fn status(store: &Store, out: &mut Out) -> Result<Outcome, Failure> {
    let Some(mut client) = Client::connect(store)? else {
        if out.json {
            out.object(&json!({ "running": false }))?;
        } else {
            out.text(format_args!("not running\n"))?;
        }
        return Ok(Outcome::Found);
    };
    let status = match client.ask(&Request::Status, &mut |_| ())? {
        Reply::Status(status) => status,
        other => return Err(client.odd(&other).into()),
    };
    if out.json {
        let mut object = serde_json::to_value(&status)
            .map_err(|error| Failure::new(format!("can't write the status: {error}")))?;
        object["running"] = true.into();
        out.object(&object)?;
    } else {
        text(&status, out)?;
    }
    Ok(Outcome::Fine)
}

fn text(status: &Status, out: &mut Out) -> Result<(), Failure> {
    out.text(format_args!(
        "running    process {}, uid {}, vrift {} (protocol {})\n",
        status.pid, status.uid, status.version, status.protocol
    ))?;
    let idle = match status.idle_seconds {
        Some(idle) => format!("ends after {idle} s without a client"),
        None => "stays without clients".to_owned(),
    };
    out.text(format_args!("since      {} s; {idle}\n", status.uptime_seconds))?;
    out.text(format_args!(
        "store      {}, {}; {}, {}\n",
        count(status.blobs, "blob"),
        bytes(status.bytes),
        count(status.manifests, "manifest"),
        count(status.refs, "ref"),
    ))?;
    out.text(format_args!(
        "clients    {} now, {} turned away\n",
        status.clients, status.turned_away
    ))?;
    out.text(format_args!(
        "requests   {} running, {} waiting; {} done, {} failed, {} refused\n",
        status.working, status.queue, status.done, status.failed, status.refused
    ))?;
    let rate = match status.hit_rate {
        Some(rate) => format!(", {:.1} % were there", rate * 100.0),
        None => String::new(),
    };
    out.text(format_args!(
        "contents   {} needed, {} came ({}){rate}\n",
        status.needed_blobs,
        status.new_blobs,
        bytes(status.new_bytes),
    ))
}

/// A line for who waits for it; nobody may.
fn say(to: &mut impl Write, line: &str) {
    let _ = writeln!(to, "{line}");
    let _ = to.flush();
}
