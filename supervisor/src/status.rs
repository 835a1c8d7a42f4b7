//! `/proc/PID/status`, see proc_pid_status(5).

use std::fmt::Display;
use std::str::FromStr;

/// What it said at one moment.
pub struct Status(Vec<u8>);

impl Status {
    /// Of a process or thread by its number, or of `self`. None when it is gone or can't be read.
    pub fn of(task: impl Display) -> Option<Status> {
        std::fs::read(format!("/proc/{task}/status")).ok().map(Status)
    }

    /// What stands after `key`, with its colon. The program's own name, which stands in another
    /// line, may be any bytes.
    fn field(&self, key: &str) -> Option<&str> {
        let mut lines = self.0.split(|&b| b == b'\n');
        let value = lines.find_map(|line| line.strip_prefix(key.as_bytes()))?;
        std::str::from_utf8(value).ok().map(str::trim)
    }

    /// The number after `key`.
    pub fn number<T: FromStr>(&self, key: &str) -> Option<T> {
        self.field(key)?.parse().ok()
    }

    /// The numbers after `key`, such as `Uid:` or `Groups:`; none where there is no such line.
    pub fn numbers(&self, key: &str) -> Vec<u32> {
        let words = self.field(key).unwrap_or_default().split_ascii_whitespace();
        words.filter_map(|word| word.parse().ok()).collect()
    }

    /// The octal number after `key`.
    pub fn octal(&self, key: &str) -> Option<u32> {
        u32::from_str_radix(self.field(key)?, 8).ok()
    }

    /// The set after `key`, a bit for each member: `CapEff:`, and `SigBlk:` and its like, where
    /// signal 1 is the lowest bit.
    pub fn set(&self, key: &str) -> Option<u64> {
        u64::from_str_radix(self.field(key)?, 16).ok()
    }

    /// Has it ended already?
    pub fn is_dead(&self) -> bool {
        self.field("State:").is_some_and(|state| state.starts_with(['Z', 'X']))
    }

    /// Has it been killed, whether it knows it or not?
    pub fn is_killed(&self) -> bool {
        self.set("SigPnd:").is_some_and(|pending| pending & (1 << (libc::SIGKILL - 1)) != 0)
    }

    /// Is a signal pending that the thread neither blocks nor ignores, its own or one of its
    /// process's?
    pub fn signal_waits(&self) -> bool {
        let set = |key| self.set(key).unwrap_or(0);
        (set("SigPnd:") | set("ShdPnd:")) & !set("SigBlk:") & !set("SigIgn:") != 0
    }

    /// Is it pending for this very thread, and will stay so until it is delivered to it? Another
    /// thread of its process may take one that is the process's, but for the first thread, which
    /// the kernel gives all signals that it does not block.
    pub fn signal_is_its_own(&self) -> bool {
        let own = self.set("SigPnd:").unwrap_or(0) & !self.set("SigBlk:").unwrap_or(0);
        let first = self.number::<i32>("Pid:") == self.number("Tgid:");
        own != 0 || first || self.number("Threads:") == Some(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_whatever_the_name() {
        let text = b"Name:\t\xffTgid:\t9\nTgid:\t7\nUid:\t1\t2\t3\t4\nGroups:\t\nCapEff:\t00ff\nUmask:\t0022\n";
        let status = Status(text.to_vec());
        assert_eq!(status.number("Tgid:"), Some(7));
        assert_eq!(status.numbers("Uid:"), [1, 2, 3, 4]);
        assert!(status.numbers("Groups:").is_empty() && status.numbers("None:").is_empty());
        assert_eq!(status.set("CapEff:"), Some(0xff));
        assert_eq!(status.octal("Umask:"), Some(0o22));
        assert_eq!(status.number::<i32>("TracerPid:"), None);
    }

    #[test]
    fn who_is_dead_or_killed_is_told() {
        let status = |state: &str, pending: u64| {
            Status(format!("State:\t{state}\nSigPnd:\t{pending:016x}\n").into_bytes())
        };
        let told = |status: Status| (status.is_dead(), status.is_killed());
        assert_eq!(told(status("D (disk sleep)", 1 << 14)), (false, false));
        assert_eq!(told(status("D (disk sleep)", 1 << 8)), (false, true));
        assert_eq!(told(status("Z (zombie)", 0)), (true, false));
        assert_eq!(told(status("X (dead)", 0)), (true, false));
    }

    #[test]
    fn signals_that_wait_are_seen() {
        let status = |pending, shared, blocked, ignored, pid| {
            Status(
                format!(
                    "Tgid:\t7\nPid:\t{pid}\nThreads:\t2\nSigPnd:\t{pending:016x}\nShdPnd:\t\
                     {shared:016x}\nSigBlk:\t{blocked:016x}\nSigIgn:\t{ignored:016x}\n"
                )
                .into_bytes(),
            )
        };
        let alarm = 1u64 << 13;
        assert!(!status(0, 0, 0, 0, 7).signal_waits());
        assert!(status(alarm, 0, 0, 0, 7).signal_waits());
        assert!(status(0, alarm, 0, 0, 7).signal_waits());
        assert!(!status(alarm, alarm, alarm, 0, 7).signal_waits());
        assert!(!status(0, alarm, 0, alarm, 7).signal_waits());
        assert!(status(0, alarm, 0, 0, 7).signal_is_its_own(), "the first thread");
        assert!(!status(0, alarm, 0, 0, 8).signal_is_its_own(), "another thread");
        assert!(status(alarm, 0, 0, 0, 8).signal_is_its_own());
    }

    #[test]
    fn ones_own_can_be_read() {
        let status = Status::of("self").expect("one's own");
        assert_eq!(status.number("Pid:"), Some(std::process::id()));
        assert!(Status::of(0).is_none());
    }
}
