//! Which names of system calls a release of libseccomp resolves. Runtimes pass over a name that theirs
//! doesn't: the call gets the profile's default, whatever the rule says.

use std::fmt;
use std::str::FromStr;

/// Measured with `seccomp_syscall_resolve_name`, see seccomp_syscall_resolve_name(3); the tests do so
/// again with the release that is installed.
const NAMES: &str = include_str!("defaults/libseccomp.txt");

/// A release.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Version(u32, u32, u32);

impl Version {
    /// The oldest release that was measured.
    pub const OLDEST: Version = Version(2, 5, 1);
    /// The newest one.
    pub const NEWEST: Version = Version(2, 6, 1);
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Version, String> {
        let mut numbers = text.split('.').map(str::parse);
        let version = match (numbers.next(), numbers.next(), numbers.next(), numbers.next()) {
            (Some(Ok(a)), Some(Ok(b)), Some(Ok(c)), None) => Version(a, b, c),
            _ => return Err("give it as 2.5.4".into()),
        };
        if version < Version::OLDEST {
            return Err(format!("names are known from {} on", Version::OLDEST));
        }
        Ok(version)
    }
}

/// The first measured release that knows `name`; None: none does.
pub fn since(name: &str) -> Option<Version> {
    let mut lines = NAMES.lines().filter(|line| !line.starts_with('#'));
    let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_name_and_a_release() {
        let lines: Vec<_> = NAMES.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(lines.len() > 500 && lines.is_sorted(), "{}", lines.len());
        for line in lines {
            let name = line.split(' ').next().expect("a word");
            let since = since(name).expect(line);
            assert!(line.ends_with(&since.to_string()) && since <= Version::NEWEST, "{line}");
        }
    }

    #[test]
    fn names_are_found_whole() {
        assert_eq!(since("read"), Some(Version::OLDEST));
        assert_eq!(since("mseal"), Some(Version(2, 6, 0)));
        for none in ["", "rea", "reads", "#", "read 2.5.1", "openat\n"] {
            assert_eq!(since(none), None, "{none:?}");
        }
        for bad in ["", "2", "2.5", "2.5.x", "2.5.1.1", "2.3.3", "-2.5.4"] {
            assert!(bad.parse::<Version>().is_err(), "{bad}");
        }
    }
}
