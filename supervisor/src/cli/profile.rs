//! `vrift-trace profile`: what is done with seccomp profiles.

use super::Complaint;
use super::args::{Cli, ProfileCommand, ProfileForm};
use super::{recorded, report};
use crate::profile::engine::{self, Engine, Machine};
use crate::profile::runtimes::Runtime;
use crate::profile::{Profile, bpf, compare, export, lint, verify, why};
use std::io::{IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// Does what was asked for.
pub fn run(command: &ProfileCommand) -> Result<u8, Complaint> {
    match command {
        ProfileCommand::Notify { listener, metadata, wait_killable } => {
            notify(listener, metadata, *wait_killable)
        }
        ProfileCommand::Lint { libseccomp, file } => told(&lint::lint(&read(file)?, *libseccomp)),
        ProfileCommand::Diff { old, new } => diff(old, new),
        ProfileCommand::Export {
            traces,
            runtime,
            no_new_privileges,
            arguments,
            architectures,
            format,
            localhost_profile,
            why,
        } => {
            if *format == ProfileForm::Bpf && !*why && std::io::stdout().is_terminal() {
                return Err("--format bpf: not to a terminal; say where: > build.bpf".into());
            }
            let pod = localhost_profile.as_deref().map(pod).transpose()?;
            let load = |file: &PathBuf| Ok((file.display().to_string(), report::load(file)?));
            let traces = traces.iter().map(load).collect::<Result<Vec<_>, Complaint>>()?;
            let runtimes = match runtime.as_slice() {
                [] => &[Runtime::Runc, Runtime::Crun],
                some => some,
            };
            let asked = export::Asked {
                runtimes,
                no_new_privileges: *no_new_privileges,
                arguments: *arguments,
                architectures,
            };
            let exported = export::export(&traces, &asked)?;
            if *why {
                print(lines(&why::why(&traces)))?;
                return Ok(0);
            }
            let text = match format {
                ProfileForm::Systemd => export::systemd(&exported.profile).into_bytes(),
                ProfileForm::Bpf => bpf::bytes(&bpf::compile(&exported.profile)?),
                ProfileForm::Oci | ProfileForm::Docker | ProfileForm::Podman | ProfileForm::K8s => {
                    exported.profile.text()?.into_bytes()
                }
            };
            for note in &exported.notes {
                eprintln!("vrift-trace: {note}");
            }
            print(text)?;
            if let Some(pod) = pod {
                eprint!("{pod}");
            }
            Ok(0)
        }
        ProfileCommand::Verify { profile, policy, mounts, store, job } => {
            let profile = resolved(profile, Engine::Docker, &engine::this_machine()?)?;
            let cli = Cli {
                record_syscalls: true,
                policy: policy.clone(),
                mounts: mounts.clone(),
                store: store.clone(),
                job: job.clone(),
                ..Cli::default()
            };
            let recorded = recorded::run(cli, |_| {})?;
            let lines = verify::verify(&profile, &recorded.trace);
            for line in &lines {
                eprintln!("vrift-trace: would be refused: {line}");
            }
            Ok(if lines.is_empty() { recorded.status } else { 1 })
        }
        ProfileCommand::Merge { files } => {
            let named = |file: &PathBuf| Ok((file.display().to_string(), read(file)?));
            let profiles = files.iter().map(named).collect::<Result<Vec<_>, Complaint>>()?;
            let merged = compare::merge(&profiles)?.text()?;
            for line in compare::coverage(&profiles) {
                eprintln!("vrift-trace: {line}");
            }
            print(merged)?;
            Ok(0)
        }
    }
}

fn notify(listener: &Path, metadata: &[String], wait_killable: bool) -> Result<u8, Complaint> {
    let path = listener.to_str().filter(|path| path.starts_with('/')).ok_or_else(|| {
        format!("--listener {}: runtimes want an absolute path in UTF-8", listener.display())
    })?;
    for pair in metadata {
        let named = pair.split_once('=').is_some_and(|(key, _)| !key.is_empty());
        if !named || pair.contains(',') {
            return Err(format!("--metadata {pair}: give it as NAME=VALUE, without a comma"));
        }
    }
    let profile = crate::agent::profile(path, metadata, wait_killable);
    print(profile.text()?)?;
    Ok(0)
}

/// What a pod says to have the profile at `path`.
fn pod(path: &Path) -> Result<String, Complaint> {
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
    let text = path.to_str().filter(|text| !text.is_empty() && path.components().all(plain));
    let text = text.ok_or_else(|| {
        format!(
            "--localhost-profile {}: a path below the kubelet's directory is wanted, in UTF-8 and \
             without ..: profiles/build.json",
            path.display()
        )
    })?;
    Ok(format!(
        "securityContext:\n  seccompProfile:\n    type: Localhost\n    localhostProfile: {}\n",
        serde_json::Value::from(text)
    ))
}

/// Compares two profiles as an engine gives them to a runtime.
fn diff(old: &Path, new: &Path) -> Result<u8, Complaint> {
    let default = |file: &Path| Engine::named(file.as_os_str().as_bytes());
    let engine = default(old).or(default(new)).unwrap_or(Engine::Docker);
    let machine = engine::this_machine()?;
    told(&compare::diff(&resolved(old, engine, &machine)?, &resolved(new, engine, &machine)?))
}

/// A profile as `engine` gives it to a runtime, or an engine's own default.
fn resolved(file: &Path, engine: Engine, machine: &Machine<'_>) -> Result<Profile, Complaint> {
    let (engine, profile) = match Engine::named(file.as_os_str().as_bytes()) {
        Some(own) => (own, Profile::parse(own.default_profile())?),
        None => (engine, read(file)?),
    };
    engine.resolve(profile, machine).map_err(|e| format!("{}: {e}", file.display()))
}

fn read(file: &Path) -> Result<Profile, Complaint> {
    let text = std::fs::read(file).map_err(|e| format!("{}: {e}", file.display()))?;
    Profile::parse(&text)
        .map_err(|e| format!("{}: no seccomp profile: {e}; give one in JSON", file.display()))
}

/// Prints lines; the exit status is 1 if there are any.
fn told(all: &[String]) -> Result<u8, Complaint> {
    print(lines(all))?;
    Ok(u8::from(!all.is_empty()))
}

fn lines(all: &[String]) -> String {
    all.iter().map(|line| format!("{line}\n")).collect()
}

fn print(text: impl AsRef<[u8]>) -> Result<(), Complaint> {
    std::io::stdout().write_all(text.as_ref()).map_err(|e| format!("stdout: {e}"))
}
