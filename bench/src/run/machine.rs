//! What a figure was taken on: processor, kernel, load.

use std::borrow::Cow;
use std::fs;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The machine, as far as it explains a figure.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// CPUs that this process may use.
    pub cpus: usize,
    /// `x86_64`, `aarch64`.
    pub architecture: Cow<'static, str>,
    /// The kernel's release.
    pub kernel: String,
    /// The share of its CPUs' time, 0 to 1, that others took just before the run; `None` where it
    /// cannot be told.
    pub busy: Option<f64>,
    /// The file system type of the work directory.
    pub file_system: String,
}

impl Machine {
    /// Looks at this machine; `work` is where the files will be.
    #[must_use]
    pub fn look(work: &std::path::Path) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let processor = cpuinfo
            .lines()
            .find(|line| line.starts_with("model name"))
            .and_then(|line| line.split_once(':'))
            .map_or("unknown processor", |(_, name)| name.trim());
        // Not the load average: that still remembers the compiler that made this program.
        let before = cpu_times(&read("/proc/stat"));
        thread::sleep(LOOK);
        let after = cpu_times(&read("/proc/stat"));
        Self {
            processor: processor.to_owned(),
            cpus: thread::available_parallelism().map_or(1, std::num::NonZero::get),
            architecture: std::env::consts::ARCH.into(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            busy: before.zip(after).and_then(|(before, after)| share_busy(before, after)),
            file_system: file_system(&read("/proc/self/mounts"), work),
        }
    }

    /// Whether something else was running that makes figures unsteady.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.busy.is_some_and(|share| share > 0.05)
    }
}

/// How long the machine is watched before the run.
const LOOK: Duration = Duration::from_secs(1);

/// Ticks of all CPUs since the start of the machine: all, and those idle or waiting for a disk.
fn cpu_times(stat: &str) -> Option<(u64, u64)> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
    let ticks = fields.map(str::parse).collect::<Result<Vec<u64>, _>>().ok()?;
    // user nice system idle iowait irq softirq steal; what follows is in user and nice already.
    let idle = ticks.get(3)? + ticks.get(4)?;
    Some((ticks.iter().take(8).sum(), idle))
}

fn share_busy(before: (u64, u64), after: (u64, u64)) -> Option<f64> {
    let all = u32::try_from(after.0.checked_sub(before.0)?).ok().filter(|&all| all > 0)?;
    let idle = u32::try_from(after.1.checked_sub(before.1)?).ok()?;
    Some(1.0 - f64::from(idle) / f64::from(all))
}

/// The type of the mount that holds `path`: of those whose point is a prefix, the longest and last.
fn file_system(mounts: &str, path: &std::path::Path) -> String {
    let mut best = (0, "unknown");
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(1);
        let (Some(point), Some(kind)) = (fields.next(), fields.next()) else { continue };
        if path.starts_with(point) && point.len() >= best.0 {
            best = (point.len(), kind);
        }
    }
    best.1.to_owned()
}

#[cfg(test)]
mod tests {
    use super::{cpu_times, file_system, share_busy};
    use std::path::Path;

    #[test]
    fn the_innermost_mount_tells_the_file_system() {
        let mounts = "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\nproc /proc proc rw 0 0\n";
        assert_eq!(file_system(mounts, Path::new("/tmp/x/y")), "tmpfs");
        assert_eq!(file_system(mounts, Path::new("/tmpx")), "ext4");
    }

    #[test]
    fn the_busy_share_is_what_was_not_idle_between_two_looks() {
        let before = cpu_times("cpu  100 0 50 800 50 0 0 0 7 7\ncpu0 1 1\n").unwrap();
        let after = cpu_times("cpu  140 0 60 940 60 0 0 0 9 9\ncpu0 1 1\n").unwrap();
        assert_eq!(before, (1000, 850));
        assert_eq!(share_busy(before, after), Some(0.25));
        assert_eq!(share_busy(before, before), None);
    }
}
