//! What a job is started on: a Mac, or what a test makes up.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use vrift_macos_es::es::adapter::{Endpoint, EndpointError};
use vrift_macos_es::es::event::ProcessKey;
use vrift_macos_es::program::{Program, examine, native};
use vrift_macos_es::shim::symbols::Arch;
use vrift_policy::Errno;

/// The shim, as cargo names it.
pub const LIBRARY: &str = "libvrift_shim.dylib";

/// The program that a job's command is started by.
pub const STARTER: &str = "vrift-start";

/// What was found out about a machine. Each `Err` is one line that says what to do.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The system's version, as (major, minor).
    pub macos: (u16, u16),
    /// The processor that this program was compiled for.
    pub arch: Arch,
    /// It runs by Rosetta, and so does what it starts, for which it has no slice of its own.
    pub translated: bool,
    /// System Integrity Protection is on; None: it could not be asked.
    pub sip: Option<bool>,
    /// Can there be an Endpoint Security client? Asked by making one.
    pub endpoint: Result<(), EndpointError>,
    /// The shim.
    pub library: Result<PathBuf, String>,
    /// What starts a command.
    pub starter: Result<PathBuf, String>,
    /// This process is of a job that has mounts.
    pub inside: bool,
}

/// A machine.
pub trait Machine: Sync {
    /// Its Endpoint Security.
    type Endpoint: Endpoint;

    /// What is there.
    fn facts(&self) -> Facts;

    /// This process.
    ///
    /// # Errors
    /// It can't be told.
    fn own(&self) -> Result<ProcessKey, EndpointError>;

    /// Endpoint Security, on the thread that will use it. Once `stop` is set and what was told until
    /// then is dealt with, there are no more messages.
    ///
    /// # Errors
    /// The framework's.
    fn endpoint(&self, stop: Arc<AtomicBool>) -> Result<Self::Endpoint, EndpointError>;
}

/// `14.5` as `sw_vers -productVersion` prints it.
#[must_use]
pub fn version(text: &str) -> Option<(u16, u16)> {
    let mut numbers = text.trim().split('.').map(str::parse);
    let major = numbers.next()?.ok()?;
    Some((major, numbers.next().unwrap_or(Ok(0)).ok()?))
}

/// `System Integrity Protection status: enabled.`, as `csrutil status` prints it. With a custom
/// configuration nothing is told.
#[must_use]
pub fn protection(text: &str) -> Option<bool> {
    let status = text.lines().next()?.split_once("status:")?.1.trim();
    match status.trim_end_matches('.') {
        "enabled" => Some(true),
        "disabled" => Some(false),
        _ => None,
    }
}

/// Whether the loader lets the shim into a program.
///
/// # Errors
/// It can't be read.
pub fn program(path: &Path, arch: Arch) -> std::io::Result<Program> {
    let file = File::open(path)?;
    let found = file.metadata()?;
    #[cfg(target_os = "macos")]
    let flags = std::os::macos::fs::MetadataExt::st_flags(&found);
    #[cfg(not(target_os = "macos"))]
    let flags = 0;
    let mut script = [0u8; 512];
    let mut read = |at: u64, into: &mut [u8]| file.read_at(into, at).map_err(|_| Errno::EIO);
    examine((found.mode(), flags), arch, &mut read, &mut script)
        .map_err(|_| std::io::Error::other("it can't be read"))
}

/// The shim, in one of the directories where it is looked for.
///
/// # Errors
/// It isn't there, or of no use for this processor.
pub fn library(dirs: &[PathBuf], arch: Arch) -> Result<PathBuf, String> {
    let path = find(LIBRARY, dirs)?;
    match program(&path, arch) {
        Ok(Program::Open | Program::Closed(_)) if untranslated(&path, arch) => Ok(path),
        Ok(_) => Err(no_code(&path, "vrift-macos-shim", arch)),
        Err(why) => Err(format!("{}: {why}; make it readable", path.display())),
    }
}

/// What starts a command, into which the shim has to be let.
///
/// # Errors
/// It isn't there, or the loader keeps the shim out of it.
pub fn starter(dirs: &[PathBuf], arch: Arch) -> Result<PathBuf, String> {
    let path = find(STARTER, dirs)?;
    match program(&path, arch) {
        Ok(Program::Open) if untranslated(&path, arch) => Ok(path),
        Ok(Program::Closed(why)) => Err(format!(
            "{}: the loader keeps the shim out of it ({}); sign it without the hardened runtime",
            path.display(),
            why.name()
        )),
        Ok(_) => Err(no_code(&path, "vrift-macos-trace", arch)),
        Err(why) => Err(format!("{}: {why}; make it readable", path.display())),
    }
}

/// Rosetta runs programs of the other processor, but loads no such library into one of this. With a
/// translated `vrift-start`, the shim would have to be translated as well.
fn untranslated(path: &Path, arch: Arch) -> bool {
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(1024).read_to_end(&mut head));
    read.is_ok() && native(&head, arch)
}

fn no_code(path: &Path, package: &str, arch: Arch) -> String {
    format!(
        "{} has no code for {}; build it for this processor: `cargo build --release -p {package}`",
        path.display(),
        arch.name()
    )
}

fn find(name: &str, dirs: &[PathBuf]) -> Result<PathBuf, String> {
    let there = dirs.iter().map(|dir| dir.join(name)).find(|path| path.is_file());
    // Without links, as the shim will name it.
    there.and_then(|path| path.canonicalize().ok()).ok_or_else(|| {
        let dirs: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
        format!("there is no {name} in {}; put it there", dirs.join(" or "))
    })
}

/// Where this program's companions are looked for: beside it, and in `../lib`.
#[must_use]
pub fn beside(program: &Path) -> Vec<PathBuf> {
    let whole = program.canonicalize().unwrap_or_else(|_| program.to_owned());
    let Some(dir) = whole.parent() else { return Vec::new() };
    let lib = dir.parent().map(|above| above.join("lib"));
    std::iter::once(dir.to_owned()).chain(lib).collect()
}
