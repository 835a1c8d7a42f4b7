//! `vrift daemon install` and `uninstall`: the file that has the system start a daemon.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};
use serde_json::json;
use vrift_service::daemon::unit::{self, LABEL, MARK, Unit};
use vrift_store::text::shown;
use vrift_store::{Hash, Store, StoreError};

use super::Where;
use crate::Outcome;
use crate::output::{Failure, Out};

/// Where the file is, and what to do with it.
struct Target {
    path: PathBuf,
    /// Has the system know it; to be followed by its name.
    enable: String,
    disable: String,
}

/// The user's directory for configuration.
fn config_home() -> Result<PathBuf, Failure> {
    let var = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = var("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
    let config = config.or_else(|| var("HOME").map(|home| home.join(".config")));
    config.ok_or_else(|| Failure::new("no place for the unit: set HOME, or use --system"))
}

fn target(store: &Store, at: Where) -> Result<Target, Failure> {
    let root = store.root().canonicalize().map_err(StoreError::io("find", store.root()))?;
    // One for each store.
    let hash = Hash::of(root.as_os_str().as_bytes()).to_hex();
    let short = &hash.as_str()[..8];
    if cfg!(target_os = "macos") {
        let name = format!("{LABEL}.plist");
        let (path, domain) = if at.system {
            (Path::new("/Library/LaunchDaemons").join(name), "system".to_owned())
        } else {
            let home = std::env::var_os("HOME").map(PathBuf::from);
            let home = home.ok_or_else(|| Failure::new("no place for the file: set HOME"))?;
            (home.join("Library/LaunchAgents").join(name), "gui/$(id -u)".to_owned())
        };
        let enable = format!("launchctl bootstrap {domain} {}", shown(&path));
        let disable = format!("launchctl bootout {domain}/{LABEL}");
        return Ok(Target { path, enable, disable });
    }
    let name = format!("vrift-{short}.service");
    let (dir, which) = if at.system {
        (PathBuf::from("/etc/systemd/system"), "systemctl")
    } else {
        (config_home()?.join("systemd/user"), "systemctl --user")
    };
    Ok(Target {
        enable: format!("{which} daemon-reload && {which} enable --now {name}"),
        disable: format!("{which} disable --now {name}; {which} daemon-reload"),
        path: dir.join(name),
    })
}

fn is_ours(path: &Path) -> Result<Option<bool>, Failure> {
    match std::fs::read(path) {
        Ok(text) => Ok(Some(text.windows(MARK.len()).any(|part| part == MARK.as_bytes()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StoreError::io("read", path)(error).into()),
    }
}

fn foreign(path: &Path) -> Failure {
    let path = shown(path);
    Failure::new(format!(
        "{path} wasn't made by `vrift daemon install` and is left alone: move it away"
    ))
}

/// `vrift daemon install`
pub fn install(store: &Store, at: Where, out: &mut Out) -> Result<Outcome, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::new(format!("can't find this program: {error}")))?;
    let root = store.root().canonicalize().map_err(StoreError::io("find", store.root()))?;
    let owner = store.owner()?;
    let user = if at.system {
        let user = User::from_uid(Uid::from_raw(owner)).ok().flatten();
        Some(user.map_or_else(|| owner.to_string(), |user| user.name))
    } else if owner == rustix::process::geteuid().as_raw() {
        None
    } else {
        return Err(Failure::new(format!(
            "store {} belongs to uid {owner}: that user installs a unit of their own, or root one with --system",
            shown(&root)
        )));
    };
    let unit = Unit { program: &program, store: &root, user: user.as_deref() };
    let text =
        if cfg!(target_os = "macos") { unit::launchd(&unit)? } else { unit::systemd(&unit)? };
    let target = target(store, at)?;
    if is_ours(&target.path)? == Some(false) {
        return Err(foreign(&target.path));
    }
    write(&target.path, text.as_bytes())?;
    if out.json {
        out.object(&json!({ "written": shown(&target.path).to_string(), "next": target.enable }))?;
    } else {
        out.text(format_args!("wrote {}\nnext: {}\n", shown(&target.path), target.enable))?;
    }
    Ok(Outcome::Fine)
}

/// In one step: the system may look at any moment.
fn write(path: &Path, text: &[u8]) -> Result<(), Failure> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(dir).map_err(StoreError::io("make directory", dir))?;
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let written = std::fs::File::create(&new)
        .and_then(|mut file| {
            file.write_all(text)?;
            file.sync_all()
        })
        .and_then(|()| std::fs::rename(&new, path));
    written.map_err(|error| {
        // Of what couldn't be written nothing stays.
        let _ = std::fs::remove_file(&new);
        StoreError::io("write", path)(error).into()
    })
}

/// `vrift daemon uninstall`
pub fn uninstall(store: &Store, at: Where, out: &mut Out) -> Result<Outcome, Failure> {
    let target = target(store, at)?;
    match is_ours(&target.path)? {
        None => {
            let path = shown(&target.path).to_string();
            return Err(Failure::new(format!("nothing to remove: there is no {path}")));
        }
        Some(false) => return Err(foreign(&target.path)),
        Some(true) => {}
    }
    std::fs::remove_file(&target.path).map_err(StoreError::io("remove", &target.path))?;
    if out.json {
        let removed = shown(&target.path).to_string();
        out.object(&json!({ "removed": removed, "next": target.disable }))?;
    } else {
        out.text(format_args!("removed {}\nnext: {}\n", shown(&target.path), target.disable))?;
    }
    Ok(Outcome::Fine)
}
