//! Many processes at once that make the same call: natively, under the floor and under vrift-trace.
//!
//! A supervisor is one queue for all of them. Three things show how it serves a crowd: how many calls
//! all get done in a second, how long a call takes for the one that fares worst, and what share of
//! the calls the slowest process got.

use std::borrow::Cow;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::guest::crowd::Task;
use crate::guest::fixture;

use super::fixture::{make_calls, mount_point};
use super::process::Job;
use super::stats::Samples;
use super::tools::Tools;

/// How many processes.
pub const CROWDS: [usize; 5] = [1, 2, 4, 16, 64];

/// More rounds of a second for each figure say nothing new.
const MOST_ROUNDS: usize = 3;

/// One crowd under one supervisor, or none; each figure over the rounds.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Served {
    /// Calls of all processes in a second.
    pub calls: Samples,
    /// Microseconds that 99 of 100 calls took at most: the median over the processes.
    pub p99: Samples,
    /// The same of the process for which that is longest.
    pub worst_p99: Samples,
    /// Microseconds of the longest call of all.
    pub longest: Samples,
    /// The calls of the process that got the fewest done, by the mean: 1 when all got the same.
    pub share: Samples,
}

/// One call, made by one number of processes.
#[derive(Debug, Deserialize, Serialize)]
pub struct Row {
    /// The guest's name for the call.
    pub name: Cow<'static, str>,
    /// What it is, for people.
    pub label: Cow<'static, str>,
    /// How many processes made it.
    pub tasks: usize,
    /// Without a supervisor.
    pub native: Served,
    /// Under the floor: that which answers for a projected path, else that which says CONTINUE.
    pub floor: Served,
    /// Under vrift-trace.
    pub trace: Served,
}

const CALLS: [(&str, &str); 2] = [("stat", "stat"), ("other_stat", "not ours: stat")];

/// Measures in turn, each crowd for `milliseconds`. What keeps vrift-trace from being measured goes to
/// `problems`.
///
/// # Errors
/// When the fixture cannot be made, or a command other than vrift-trace's fails.
pub fn measure(
    tools: &Tools,
    work: &Path,
    rounds: usize,
    milliseconds: u64,
    problems: &mut Vec<String>,
) -> Result<Vec<Row>, Failure> {
    let base = work.join("crowd");
    let other = make_calls(&base, &[])?;
    if let Err(error) = tools.ingest(&base, "bench/crowd") {
        problems.push(error.to_string());
    }
    let at = mount_point(&base);
    let mut mount = at.clone().into_os_string();
    mount.push("=bench/crowd");
    let guest = |base: &Path, name: &str, tasks: usize| {
        let job = Job::new(&tools.calls).arg(base).arg(&other).cwd(work).args(["--only", name]);
        job.args(["--tasks", &tasks.to_string(), "--task-ms", &milliseconds.to_string()])
    };
    let mut rows: Vec<Row> = CALLS
        .iter()
        .flat_map(|&(name, label)| CROWDS.iter().map(move |&tasks| (name, label, tasks)))
        .map(|(name, label, tasks)| Row {
            name: name.into(),
            label: label.into(),
            tasks,
            native: Served::default(),
            floor: Served::default(),
            trace: Served::default(),
        })
        .collect();
    let mut trace = tools.trace().map(|trace| trace.arg("-m").arg(mount));
    let rounds = rounds.min(MOST_ROUNDS);
    for round in 1..=rounds {
        eprintln!("contention: round {round} of {rounds}");
        for row in &mut rows {
            let native = guest(&base, &row.name, row.tasks);
            let floor = if row.name == "stat" {
                tools.floor().arg("--answer").arg(base.join(fixture::FILE))
            } else {
                tools.floor()
            };
            row.native.add(&native, milliseconds)?;
            row.floor.add(&native.under(floor), milliseconds)?;
            if let Some(supervisor) = &trace {
                let job = guest(&at, &row.name, row.tasks).under(supervisor.clone());
                if let Err(error) = row.trace.add(&job, milliseconds) {
                    problems.push(error.to_string());
                    trace = None;
                }
            }
        }
    }
    Ok(rows)
}

impl Served {
    fn add(&mut self, job: &Job, milliseconds: u64) -> Result<(), Failure> {
        let done = job.run()?;
        let tasks: Vec<Task> = serde_json::from_slice(&done.stdout)
            .map_err(|source| Failure::Output { command: job.line(), source })?;
        self.count(&tasks, milliseconds);
        Ok(())
    }

    fn count(&mut self, tasks: &[Task], milliseconds: u64) {
        let all: u64 = tasks.iter().map(|task| task.calls).sum();
        self.calls.push(number(all) * 1e3 / number(milliseconds));
        let mut p99 = Samples::default();
        // One that didn't get to make a call at all has no time of one; its share tells of it.
        for task in tasks.iter().filter(|task| task.p99 > 0) {
            p99.push(number(task.p99) / 1e3);
        }
        self.p99.all.extend(p99.median());
        self.worst_p99.all.extend(p99.most());
        self.longest
            .all
            .extend(tasks.iter().map(|task| task.longest).max().map(|ns| number(ns) / 1e3));
        if let Some(fewest) = tasks.iter().map(|task| task.calls).min()
            && all > 0
        {
            let tasks = u64::try_from(tasks.len()).unwrap_or(u64::MAX);
            self.share.push(number(fewest) * number(tasks) / number(all));
        }
    }
}

/// Exact up to 2⁵³, which no count of a run comes near.
fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_is_told_by_its_sum_and_by_who_fares_worst() {
        let task = |calls, p99, longest| Task { calls, p99, longest };
        let mut served = Served::default();
        served.count(&[task(300, 2000, 9000), task(100, 7000, 8000), task(200, 3000, 4000)], 500);
        assert_eq!(served.calls.all, [1200.0]);
        assert_eq!((served.p99.all[0], served.worst_p99.all[0]), (3.0, 7.0));
        assert_eq!(served.longest.all, [9.0]);
        assert_eq!(served.share.all, [0.5]);
    }

    #[test]
    fn a_crowd_that_got_nothing_done_has_no_share() {
        let mut served = Served::default();
        served.count(&[Task { calls: 0, p99: 0, longest: 0 }], 1000);
        assert_eq!(served.calls.all, [0.0]);
        assert!(served.share.all.is_empty() && served.p99.all.is_empty());
    }
}
