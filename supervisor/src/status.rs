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

    /// The effective capabilities, a bit for each.
    pub fn capabilities(&self) -> Option<u64> {
        u64::from_str_radix(self.field("CapEff:")?, 16).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_whatever_the_name() {
        let text = b"Name:\t\xffTgid:\t9\nTgid:\t7\nUid:\t1\t2\t3\t4\nGroups:\t\nCapEff:\t00ff\n";
        let status = Status(text.to_vec());
        assert_eq!(status.number("Tgid:"), Some(7));
        assert_eq!(status.numbers("Uid:"), [1, 2, 3, 4]);
        assert!(status.numbers("Groups:").is_empty() && status.numbers("None:").is_empty());
        assert_eq!(status.capabilities(), Some(0xff));
        assert_eq!(status.number::<i32>("TracerPid:"), None);
    }

    #[test]
    fn ones_own_can_be_read() {
        let status = Status::of("self").expect("one's own");
        assert_eq!(status.number("Pid:"), Some(std::process::id()));
        assert!(Status::of(0).is_none());
    }
}
