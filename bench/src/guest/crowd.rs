//! Many processes that make the same call at once: how many calls each of them gets done, and how
//! long a call takes meanwhile.
//!
//! All begin and end at the same moments of a clock that they share. A process that gets to run late
//! has done fewer calls by the end: that is what is to be seen.

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::sys::clock;

use super::{Bench, OPERATIONS, Operation};

/// What one process of the crowd got done.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Task {
    /// Calls that had come back by the end.
    pub calls: u64,
    /// Nanoseconds that 99 of 100 calls took at most, a sixteenth more at the most.
    pub p99: u64,
    /// Nanoseconds of the longest call.
    pub longest: u64,
}

/// From when until when calls are made, in nanoseconds of the common clock.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct Window {
    begin: u64,
    end: u64,
}

/// Between the last word to a process and the beginning: each has read it by then, and sleeps.
const LEAD: Duration = Duration::from_millis(50);

/// The operation called `name`.
///
/// # Errors
/// There is none.
pub(super) fn operation(name: &str) -> Result<Operation, Failure> {
    let found = OPERATIONS.iter().find(|(this, _)| *this == name);
    found.map(|(_, operation)| *operation).ok_or_else(|| {
        Failure::io(format!("no operation is called {name}"))(io::ErrorKind::InvalidInput.into())
    })
}

/// Starts `tasks` processes of this program that make the call `name` for `length`, all at once, and
/// says what each of them got done.
///
/// # Errors
/// When one can't be started, fails, or gets a wrong answer.
pub fn measure(
    base: &Path,
    other: &Path,
    name: &str,
    tasks: usize,
    length: Duration,
) -> Result<Vec<Task>, Failure> {
    operation(name)?;
    let program = env::current_exe().map_err(Failure::io("cannot find this program"))?;
    let mut crowd = Crowd(Vec::with_capacity(tasks));
    for _ in 0..tasks {
        let member = Command::new(&program)
            .arg(base)
            .arg(other)
            .args(["--only", name, "--member"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(Failure::io("cannot start a process of the crowd"))?;
        crowd.0.push(member);
    }
    crowd.run(length)
}

/// The processes that were started; they are ended with this.
struct Crowd(Vec<Child>);

impl Drop for Crowd {
    fn drop(&mut self) {
        for member in &mut self.0 {
            // One that has ended needs neither.
            let _ = member.kill();
            let _ = member.wait();
        }
    }
}

impl Crowd {
    fn run(&mut self, length: Duration) -> Result<Vec<Task>, Failure> {
        let talk = || Failure::io("cannot talk to a process of the crowd");
        let broken =
            || Failure::io("a process of the crowd ended early")(io::ErrorKind::BrokenPipe.into());
        let mut answers = Vec::with_capacity(self.0.len());
        for member in &mut self.0 {
            let mut answer = BufReader::new(member.stdout.take().ok_or_else(broken)?);
            let mut ready = String::new();
            if answer.read_line(&mut ready).map_err(talk())? == 0 {
                return Err(broken());
            }
            answers.push(answer);
        }
        let begin = clock::monotonic().map_err(Failure::io("cannot read the clock"))? + LEAD;
        let window = Window { begin: nanoseconds(begin), end: nanoseconds(begin + length) };
        let word = serde_json::to_vec(&window).map_err(|error| talk()(error.into()))?;
        for member in &mut self.0 {
            let mut to = member.stdin.take().ok_or_else(broken)?;
            to.write_all(&word).map_err(talk())?;
        }
        let mut tasks = Vec::with_capacity(answers.len());
        for mut answer in answers {
            let mut said = Vec::new();
            answer.read_to_end(&mut said).map_err(talk())?;
            tasks.push(serde_json::from_slice(&said).map_err(|_| broken())?);
        }
        Ok(tasks)
    }
}

/// What a process of the crowd does: says that it is ready, is told the window, makes calls in it, and
/// says what came of it.
///
/// # Errors
/// A call that fails or gets a wrong answer.
pub fn member(base: &Path, other: &Path, name: &str) -> Result<(), Failure> {
    let bench = Bench::new(base, other)?;
    let operation = operation(name)?;
    // What is slow the first time only isn't what is looked for.
    operation(&bench)?;
    let talk = || Failure::io("cannot talk to who started this");
    let mut out = io::stdout();
    out.write_all(b"ready\n").and_then(|()| out.flush()).map_err(talk())?;
    let mut word = Vec::new();
    io::stdin().read_to_end(&mut word).map_err(talk())?;
    let window: Window = serde_json::from_slice(&word).map_err(|error| talk()(error.into()))?;
    let task = calls(&bench, operation, window)?;
    let said = serde_json::to_vec(&task).map_err(|error| talk()(error.into()))?;
    out.write_all(&said).map_err(talk())
}

fn calls(bench: &Bench, operation: Operation, window: Window) -> Result<Task, Failure> {
    let now = || clock::monotonic().map(nanoseconds).map_err(Failure::io("cannot read the clock"));
    let mut before = now()?;
    thread::sleep(Duration::from_nanos(window.begin.saturating_sub(before)));
    let mut times = Times::default();
    let mut task = Task { calls: 0, p99: 0, longest: 0 };
    before = now()?;
    while before < window.end {
        operation(bench)?;
        let after = now()?;
        let took = after - before;
        times.add(took);
        task.longest = task.longest.max(took);
        // One that comes back too late is one of the slow ones, and none of those that were done.
        task.calls += u64::from(after <= window.end);
        before = after;
    }
    task.p99 = times.at_most(99);
    Ok(task)
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// How often which time was seen: sixteen steps for each doubling, so that counting is no memory
/// traffic beside what is timed.
struct Times {
    counts: [u64; Times::STEPS],
}

impl Default for Times {
    fn default() -> Self {
        Self { counts: [0; Self::STEPS] }
    }
}

impl Times {
    /// 2⁴ exact values, then 2⁴ steps for each of 60 doublings.
    const STEPS: usize = 16 * 61;

    fn add(&mut self, time: u64) {
        self.counts[Self::step(time)] += 1;
    }

    fn step(time: u64) -> usize {
        let doublings = u64::from(time.max(16).ilog2()) - 4;
        // 0 to 31 for the first two sixteens, then 16 more for each doubling.
        let within = time >> doublings;
        usize::try_from(doublings * 16 + within).unwrap_or(Self::STEPS - 1).min(Self::STEPS - 1)
    }

    /// The upper end of a step.
    fn end(step: usize) -> u64 {
        let step = u64::try_from(step).unwrap_or(u64::MAX);
        if step < 32 {
            return step;
        }
        let doublings = step / 16 - 1;
        let within = step % 16 + 16;
        ((within + 1) << doublings).wrapping_sub(1)
    }

    /// What `percent` of the times were at most; 0 when there are none.
    fn at_most(&self, percent: u64) -> u64 {
        let all: u64 = self.counts.iter().sum();
        let mut left = (all * percent).div_ceil(100);
        for (step, count) in self.counts.iter().enumerate() {
            left = left.saturating_sub(*count);
            if left == 0 && all > 0 {
                return Self::end(step);
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_lies_in_its_step_and_a_step_is_narrow() {
        for time in (0..5000).chain([1 << 20, (1 << 20) + 1, u64::MAX / 2, u64::MAX]) {
            let step = Times::step(time);
            let end = Times::end(step);
            assert!(end >= time && end - time <= time / 16, "{time} in {step} to {end}");
            assert!(step == 0 || Times::end(step - 1) < time, "{time} in {step}");
        }
    }

    #[test]
    fn a_percentile_is_what_so_many_were_at_most() {
        let mut times = Times::default();
        assert_eq!(times.at_most(99), 0);
        for time in 1..=100 {
            times.add(time % 10 + 1);
        }
        assert_eq!((times.at_most(50), times.at_most(100)), (5, 10));
        times.add(1 << 30);
        assert_eq!(times.at_most(99), 10);
        assert!(times.at_most(100) >= 1 << 30);
    }
}
