//! Reading a trace back.

use crate::event::{Event, Job, VERSION, VERSION_OF_SYSCALLS};
use std::path::{Path, PathBuf};

/// A trace as it was read.
#[derive(Debug)]
pub struct Trace {
    /// Its first line.
    pub job: Job,
    /// The others, in the order of the file.
    pub events: Vec<Event>,
    /// The last line is not whole: whoever wrote it was killed.
    pub cut: bool,
}

/// Why a trace can't be read. One line that begins with the file's name.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file can't be read.
    #[error("{}: {source}; give a file that `vrift-trace -o FILE` wrote", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line is not what it has to be.
    #[error("{}:{line}: {message}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong, and what to do.
        message: String,
    },
}

/// Reads a trace file.
///
/// # Errors
/// When it can't be read, or a line other than an unfinished last one is no event of this version.
pub fn read(path: &Path) -> Result<Trace, TraceError> {
    let bytes =
        std::fs::read(path).map_err(|source| TraceError::Read { path: path.to_owned(), source })?;
    parse(&bytes).map_err(|(line, message)| TraceError::Line {
        path: path.to_owned(),
        line,
        message,
    })
}

fn parse(bytes: &[u8]) -> Result<Trace, (usize, String)> {
    let mut lines = bytes.split_inclusive(|&b| b == b'\n').enumerate();
    let Some((_, first)) = lines.next() else {
        return Err((1, "it is empty; was the job started?".into()));
    };
    let job = match serde_json::from_slice(first) {
        Ok(Event::Job(job)) if known(u64::from(job.version)) => job,
        Ok(Event::Job(job)) => return Err((1, other_version(u64::from(job.version)))),
        other => {
            // The version is told even if nothing else is understood.
            let loose = serde_json::from_slice::<serde_json::Value>(first).ok();
            let version = loose.and_then(|v| v.get("version")?.as_u64());
            return Err((
                1,
                match (version, other) {
                    (Some(version), _) if !known(version) => other_version(version),
                    (_, Err(e)) => format!("no trace begins like this: {}", plain(&e)),
                    (_, Ok(_)) => "a trace begins with the event `job`; the beginning of this \
                                   file is missing"
                        .into(),
                },
            ));
        }
    };
    let mut trace = Trace { job, events: Vec::new(), cut: false };
    for (at, line) in lines {
        match serde_json::from_slice(line) {
            Ok(Event::Job(_)) => {
                return Err((at + 1, "a second job begins here; a trace holds one".into()));
            }
            Ok(event) => trace.events.push(event),
            Err(_) if !line.ends_with(b"\n") => trace.cut = true,
            Err(e) => {
                let message = format!("no event of a trace: {}; was the file changed?", plain(&e));
                return Err((at + 1, message));
            }
        }
    }
    Ok(trace)
}

fn known(version: u64) -> bool {
    [VERSION, VERSION_OF_SYSCALLS].map(u64::from).contains(&version)
}

fn other_version(version: u64) -> String {
    format!(
        "version {version} of the trace is not known to this release, which reads versions \
         {VERSION} and {VERSION_OF_SYSCALLS}; use the release that wrote it"
    )
}

/// The parser's message without its own line number, which is always 1.
fn plain(e: &serde_json::Error) -> String {
    let message = e.to_string();
    match message.split_once(" at line 1 column ") {
        Some((what, column)) => format!("{what} (column {column})"),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: &str = r#"{"event":"job","version":1,"program":"vrift-trace 0","began":1,"command":["true"],"cwd":{"hex":"2fff"},"kernel":"6","machine":"m","mounts":[],"reads":true,"probes":true}"#;
    const EXIT: &str = r#"{"event":"exit","t":5,"process":1,"status":0}"#;

    #[test]
    fn what_was_written_is_read() {
        let trace = parse(format!("{JOB}\n{EXIT}\n").as_bytes()).expect("a trace");
        assert_eq!(trace.job.cwd.as_bytes(), b"/\xff");
        assert!(matches!(&trace.events[..], [Event::Exit(e)] if e.status == Some(0)));
        assert!(!trace.cut);
        // A key of a later release is no harm.
        let later = EXIT.replace("}", r#","later":[1]}"#);
        assert_eq!(parse(format!("{JOB}\n{later}\n").as_bytes()).expect("a trace").events.len(), 1);
    }

    #[test]
    fn a_last_line_that_is_cut_off_is_told() {
        let trace = parse(format!("{JOB}\n{EXIT}\n{}", &EXIT[..20]).as_bytes()).expect("a trace");
        assert!(trace.cut);
        assert_eq!(trace.events.len(), 1);
    }

    #[test]
    fn a_bad_file_gets_its_line() {
        let said = |text: &str| parse(text.as_bytes()).expect_err(text);
        assert_eq!(said("").0, 1);
        assert!(said("hello\n").1.contains("no trace begins like this"), "{}", said("hello\n").1);
        let (line, message) = said(&format!("{JOB}\n{EXIT}\n{{\"event\":\"exit\",\"t\":-1}}\n"));
        assert_eq!(line, 3);
        assert!(message.contains("no event of a trace") && !message.contains('\n'), "{message}");
        assert_eq!(said(&format!("{JOB}\n{EXIT}\n{JOB}\n")).0, 3);
        assert!(said(&format!("{EXIT}\n")).1.contains("begins with the event `job`"));
        let other = said(&format!("{}\n", JOB.replace("\"version\":1", "\"version\":3"))).1;
        assert!(other.contains("version 3"), "{other}");
        let strange = said("{\"event\":\"job\",\"version\":7}\n").1;
        assert!(strange.contains("version 7"), "{strange}");
    }
}
