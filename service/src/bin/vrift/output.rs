//! What goes to standard output, and how it fails. Names are escaped on a terminal and raw bytes
//! elsewhere; nothing here panics because a pipe was closed.

use std::fmt;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use serde_json::Value;
use vrift_client::DaemonError;
use vrift_service::daemon::unit::UnitError;
use vrift_service::remote::{RemoteError, Transfer};
use vrift_store::collect::CollectError;
use vrift_store::diff::{Change, Style, write_changes};
use vrift_store::text::Shown;
use vrift_store::{ExportError, IngestError, ManifestError, Progress, StoreError};

/// Why a command stopped.
pub enum Failure {
    /// Nobody reads our output any more.
    ClosedPipe,
    /// What was tried, on what, why it failed, what to do.
    Message(String),
}

impl Failure {
    /// A failure in our own words.
    pub fn new(message: impl Into<String>) -> Failure {
        Failure::Message(message.into())
    }
}

impl From<io::Error> for Failure {
    /// Only for standard output: everything else has its own error type.
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::ClosedPipe,
            _ => Failure::Message(format!("can't write to standard output: {error}")),
        }
    }
}

macro_rules! message_from {
    ($($error:ty),*) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Failure {
                Failure::Message(error.to_string())
            }
        }
    )*};
}
message_from!(
    StoreError,
    ManifestError,
    IngestError,
    ExportError,
    CollectError,
    RemoteError,
    DaemonError,
    UnitError
);

/// Standard output.
pub struct Out {
    stdout: BufWriter<Stdout>,
    terminal: bool,
    /// Was `--json` given?
    pub json: bool,
}

impl Out {
    /// Standard output as it is.
    pub fn new(json: bool) -> Out {
        let stdout = io::stdout();
        let terminal = stdout.is_terminal();
        Out { stdout: BufWriter::new(stdout), terminal, json }
    }

    /// Writes everything that waits.
    pub fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.stdout.flush()?)
    }

    /// Bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self.stdout.write_all(bytes)?)
    }

    /// Formatted text.
    pub fn text(&mut self, text: fmt::Arguments<'_>) -> Result<(), Failure> {
        Ok(self.stdout.write_fmt(text)?)
    }

    /// A name: escaped for people, as it is for programs.
    pub fn name(&mut self, name: &[u8]) -> Result<(), Failure> {
        if self.terminal { self.text(format_args!("{}", Shown(name))) } else { self.raw(name) }
    }

    /// One JSON object on a line of its own.
    pub fn object(&mut self, object: &Value) -> Result<(), Failure> {
        self.text(format_args!("{object}\n"))
    }

    /// Differences.
    pub fn changes(&mut self, changes: &[Change]) -> Result<(), Failure> {
        Ok(write_changes(&mut self.stdout, changes, Style::of_stdout(self.json))?)
    }
}

/// "1 file", "2 files".
pub fn count(n: u64, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") }
}

/// "1.0 MiB".
pub fn bytes(n: u64) -> String {
    if n < 1024 {
        return format!("{n} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
    let mut value = n as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

/// Runs `work` with a progress line on stderr, if that is a terminal.
pub fn with_progress<T>(what: &str, work: impl FnOnce(&Progress) -> T) -> T {
    use std::sync::atomic::Ordering::Relaxed;
    let progress = Progress::default();
    let show = |bar: &ProgressBar| {
        let entries = progress.entries.load(Relaxed);
        let bytes = HumanBytes(progress.bytes.load(Relaxed));
        bar.set_message(format!("{what}: {entries} entries, {bytes}"));
    };
    with_bar("{spinner} {msg}", show, || work(&progress))
}

/// The same for a transfer, of which it is known how much it will be.
pub fn with_transfer<T>(what: &str, transfer: &Transfer, work: impl FnOnce() -> T) -> T {
    use std::sync::atomic::Ordering::Relaxed;
    let show = |bar: &ProgressBar| {
        let (done, all) = (transfer.done_blobs.load(Relaxed), transfer.blobs.load(Relaxed));
        bar.set_length(transfer.bytes.load(Relaxed).max(1));
        bar.set_position(transfer.done_bytes.load(Relaxed));
        bar.set_message(format!("{what}: {done} of {all} blobs"));
    };
    let template = "{spinner} {msg}  {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    with_bar(template, show, work)
}

fn with_bar<T>(template: &str, show: impl Fn(&ProgressBar) + Sync, work: impl FnOnce() -> T) -> T {
    if !io::stderr().is_terminal() {
        return work();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    let (done, finished) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let finished = finished;
            while finished.recv_timeout(Duration::from_millis(100))
                == Err(RecvTimeoutError::Timeout)
            {
                show(&bar);
                bar.tick();
            }
            bar.finish_and_clear();
        });
        let result = work();
        drop(done);
        result
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(100 << 20), "100.0 MiB");
        assert_eq!(bytes(u64::MAX), "16.0 EiB");
        assert_eq!((count(1, "blob"), count(0, "blob")), ("1 blob".into(), "0 blobs".into()));
    }
}
