//! `vrift-trace agent`: from options to [`Settings`].

use super::Complaint;
use super::args::AgentOptions;
use super::stores::{open, store_root};
use crate::agent::{self, Settings};
use crate::sys;
use std::path::{Path, PathBuf};
use vrift_policy::Policy;

/// Runs the agent until a signal ends it.
pub fn run(options: &AgentOptions) -> Result<u8, Complaint> {
    if !nix::unistd::geteuid().is_root() {
        return Err("agent: only root can enter a container's mount namespace and attach to its \
                    processes; start it as root"
            .into());
    }
    if !sys::seccomp::knows_user_notif() {
        return Err("agent: this kernel has no seccomp user notification; Linux 5.15 or later is \
                    needed"
            .into());
    }
    let policy = Policy::load(&options.policy).map_err(|e| e.to_string())?;
    if let Some(reason) = policy.unsupported().into_iter().next() {
        return Err(reason);
    }
    let mounts = policy.mounts.clone();
    let store = match mounts.is_empty() {
        true => None,
        false => Some(open(&store_root(options.store.as_deref())?, "the agent")?),
    };
    for mount in &mounts {
        let Some(store) = &store else { break };
        let name = mount.manifest.to_str().ok_or_else(|| {
            format!("{}: no ref is called {:?}", mount.at.display(), mount.manifest)
        })?;
        store.open_manifest(name).map_err(|e| format!("mount at {}: {e}", mount.at.display()))?;
    }
    let root = store.map(|store| store.root().canonicalize());
    let root = root.transpose().map_err(|e| format!("the store: {e}"))?;
    let traces = options.traces.as_deref().map(directory).transpose()?;
    let socket = std::path::absolute(&options.socket)
        .map_err(|e| format!("socket {}: {e}", options.socket.display()))?;
    let settings = Settings {
        socket,
        policy,
        mounts,
        store: root,
        traces,
        strict: options.strict,
        outlive: options.outlive,
        quiet: options.quiet,
    };
    match agent::unsupported(&settings) {
        Some(reason) => Err(reason),
        None => agent::run(&settings),
    }
}

fn directory(path: &Path) -> Result<PathBuf, Complaint> {
    let whole = path.canonicalize().map_err(|e| format!("-o {}: {e}", path.display()))?;
    if whole.is_dir() {
        Ok(whole)
    } else {
        Err(format!("-o {}: it is no directory; name one for the traces", path.display()))
    }
}
