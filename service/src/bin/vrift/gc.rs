//! `vrift gc`: removes what nothing names.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use vrift_store::Store;
use vrift_store::collect::{CollectOptions, Collected};

use crate::Outcome;
use crate::daemon::through;
use crate::output::{Failure, Out, bytes, count, with_progress};

/// What `vrift gc --help` says at its end.
pub const HELP: &str = "What refs name stays, what running jobs and other readers have open, what changes are kept to (vrift-trace --upper, on_exit = \"keep\"), what is protected, and what is younger than the time of grace. Jobs and ingests may run meanwhile.

Examples:
  vrift gc --dry-run         what would go?
  vrift gc                   what nobody wanted for a day
  vrift gc --grace 0         everything that nothing names";

/// `vrift gc`
#[derive(Debug, Args)]
pub struct Gc {
    /// Only say what would go
    #[arg(long)]
    pub dry_run: bool,

    /// Leave what was written or wanted within this time: a number and s, m, h, d or w
    #[arg(long, value_name = "DURATION", default_value = "1d", value_parser = duration)]
    pub grace: Duration,
}

/// `90s`, `15m`, `2h`, `1d`, `2w`, or 0.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "write a number and s, m, h, d or w, as in 90s or 2h; or 0".to_owned();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let units = [('s', 1), ('m', 60), ('h', 3600), ('d', 86400), ('w', 604_800)];
    let unit = text.chars().next_back().and_then(|last| units.iter().find(|unit| unit.0 == last));
    let seconds = unit.ok_or_else(wrong)?.1;
    let number = &text[..text.len() - 1];
    if number.is_empty() || !number.bytes().all(|c| c.is_ascii_digit()) {
        return Err(wrong());
    }
    let number = number.parse::<u64>().ok().and_then(|number| number.checked_mul(seconds));
    number.map(Duration::from_secs).ok_or_else(|| "it is too long".to_owned())
}

/// Does it.
pub fn gc(store: &Store, args: &Gc, out: &mut Out) -> Result<Outcome, Failure> {
    let options = CollectOptions { grace: args.grace, dry_run: args.dry_run };
    let start = Instant::now();
    let done = with_progress("gc", |progress| {
        if args.dry_run || store.is_writable() {
            Ok(store.collect(&options, progress)?)
        } else {
            through::collect(store, args.grace, progress)
        }
    })?;
    let seconds = start.elapsed().as_secs_f64();
    if out.json {
        out.object(&json!({
            "dry_run": args.dry_run,
            "removed_manifests": done.manifests,
            "removed_blobs": done.blobs,
            "removed_bytes": done.bytes,
            "removed_leftovers": done.leftovers,
            "refs": done.refs,
            "uppers": done.uppers,
            "manifests": done.kept_manifests,
            "in_use_manifests": done.in_use,
            "young_manifests": done.young_manifests,
            "blobs": done.kept_blobs,
            "young_blobs": done.young_blobs,
            "protected_blobs": done.protected_blobs,
            "seconds": seconds,
        }))?;
    } else {
        text(&done, args.dry_run, seconds, out)?;
    }
    Ok(Outcome::Fine)
}

fn text(done: &Collected, dry_run: bool, seconds: f64, out: &mut Out) -> Result<(), Failure> {
    out.text(format_args!(
        "{}: {}, {} ({}); {seconds:.2} s\n",
        if dry_run { "would remove" } else { "removed" },
        count(done.manifests, "manifest"),
        count(done.blobs, "blob"),
        bytes(done.bytes),
    ))?;
    out.text(format_args!(
        "{}: {} ({} only in use, {} only young), {}\n",
        if dry_run { "would keep" } else { "kept" },
        count(done.kept_manifests, "manifest"),
        done.in_use,
        done.young_manifests,
        count(done.kept_blobs, "blob"),
    ))?;
    if done.young_blobs + done.protected_blobs > 0 {
        out.text(format_args!(
            "left: {} that nothing names and that the time of grace spares, and {} that {} protected\n",
            count(done.young_blobs, "blob"),
            done.protected_blobs,
            if done.protected_blobs == 1 { "is" } else { "are" },
        ))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, seconds) in
            [("0", 0), ("0s", 0), ("90s", 90), ("15m", 900), ("2h", 7200), ("1d", 86400)]
        {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in ["", "s", "1", "-1s", "+1s", "1.5h", "1 h", "1y", "1é", "99999999999999999w"]
        {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
