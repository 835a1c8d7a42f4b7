//! The machine that this program runs on. Compiled, never run.

use crate::framework::{Framework, own};
use crate::machine::{Facts, Machine, beside, library, protection, starter, version};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use vrift_macos_es::es::adapter::EndpointError;
use vrift_macos_es::es::event::ProcessKey;
use vrift_macos_es::job::VARIABLE;
use vrift_macos_es::shim::symbols::Arch;

/// The oldest release whose Endpoint Security has all that is called: an earlier one's loader would not
/// even start a program that names it.
const OLDEST: (u16, u16) = (13, 0);

/// This Mac.
#[derive(Debug)]
pub struct Mac;

/// What one of the system's programs prints. None: it failed.
fn printed(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn macos() -> Option<(u16, u16)> {
    version(&printed("/usr/bin/sw_vers", &["-productVersion"])?)
}

impl Machine for Mac {
    type Endpoint = Framework;

    fn facts(&self) -> Facts {
        let arch = if cfg!(target_arch = "aarch64") { Arch::Arm64 } else { Arch::X86_64 };
        let dirs: Vec<PathBuf> = std::env::current_exe().map_or(Vec::new(), |own| beside(&own));
        let translated = printed("/usr/sbin/sysctl", &["-n", "sysctl.proc_translated"]);
        Facts {
            macos: macos().unwrap_or(OLDEST),
            arch,
            translated: translated.is_some_and(|text| text.trim() == "1"),
            sip: printed("/usr/bin/csrutil", &["status"]).as_deref().and_then(protection),
            endpoint: self.endpoint(Arc::default()).map(|_| ()),
            library: library(&dirs, arch),
            starter: starter(&dirs, arch),
            inside: std::env::var_os(VARIABLE).is_some(),
        }
    }

    fn own(&self) -> Result<ProcessKey, EndpointError> {
        own().map(|token| crate::framework::key(&token))
    }

    fn endpoint(&self, stop: Arc<AtomicBool>) -> Result<Framework, EndpointError> {
        let macos = macos().ok_or(EndpointError::Needs("to know the release: sw_vers failed"))?;
        if macos < OLDEST {
            return Err(EndpointError::Needs("macOS 13 or later, as this program was built"));
        }
        Framework::new(macos, stop)
    }
}
