//! What has the system start a daemon: a unit of systemd's, a property list of launchd's. Pure: paths
//! in, text out.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What stands in every file that is made here, and in no other.
pub const MARK: &str = "Made by `vrift daemon install`";

/// Why no unit can say it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} can't be named in {place}: {why}")]
pub struct UnitError {
    /// Which path.
    what: &'static str,
    /// Where.
    place: &'static str,
    /// Why not.
    why: &'static str,
}

/// What is to be started.
#[derive(Debug, Clone, Copy)]
pub struct Unit<'a> {
    /// `vrift`, by its whole path.
    pub program: &'a Path,
    /// The store, by its whole path.
    pub store: &'a Path,
    /// The user it belongs to, for a unit of the whole system; None for one of this user's.
    pub user: Option<&'a str>,
}

/// A path as a word in a unit's settings: quoted, with systemd's own signs taken literally
/// (systemd.syntax(7), systemd.unit(5) about specifiers; `dollar`: where variables are looked for,
/// systemd.service(5)).
fn word(path: &Path, dollar: bool) -> String {
    let mut text = String::from("\"");
    for &c in path.as_os_str().as_bytes() {
        match c {
            b'"' | b'\\' => text.extend(['\\', char::from(c)]),
            b'%' => text.push_str("%%"),
            b'$' if dollar => text.push_str("$$"),
            b' '..=b'~' => text.push(char::from(c)),
            // Writing to a String can't fail.
            _ => drop(write!(text, "\\x{c:02x}")),
        }
    }
    text.push('"');
    text
}

/// The text of a systemd unit.
///
/// # Errors
/// The program's path is one that a unit can't have.
pub fn systemd(unit: &Unit<'_>) -> Result<String, UnitError> {
    // Of the program's own path no variable is expanded, and so no sign for a variable taken back.
    if unit.program.as_os_str().as_bytes().contains(&b'$') {
        let (what, place, why) = ("the program", "a systemd unit", "its path holds a $");
        return Err(UnitError { what, place, why });
    }
    let (program, store) = (word(unit.program, false), word(unit.store, true));
    let mut text = format!(
        "# {MARK}\n[Unit]\nDescription=Daemon of a vrift store\nDocumentation=https://github.com/vrift/vrift-trace\n\n[Service]\nType=notify\nExecStart={program} --store {store} daemon run --idle 0\nRestart=on-failure\nRestartPreventExitStatus=125\nUMask=0022\nNoNewPrivileges=yes\n"
    );
    let wanted = match unit.user {
        Some(user) => {
            // The one right that protecting files takes; the store is all that is written.
            let path = word(unit.store, false);
            let _ = write!(
                text,
                "User={user}\nAmbientCapabilities=CAP_LINUX_IMMUTABLE\nProtectSystem=strict\nReadWritePaths={path}\nPrivateTmp=yes\nProtectKernelTunables=yes\nRestrictSUIDSGID=yes\n"
            );
            "multi-user.target"
        }
        None => "default.target",
    };
    let _ = write!(text, "\n[Install]\nWantedBy={wanted}\n");
    Ok(text)
}

/// The name of the job that [`launchd`] describes.
pub const LABEL: &str = "org.vrift.daemon";

/// The text of a launchd property list, launchd.plist(5).
///
/// # Errors
/// A path isn't UTF-8, and so can't stand in one.
pub fn launchd(unit: &Unit<'_>) -> Result<String, UnitError> {
    let text = |what: &'static str, path: &Path| {
        let (place, why) = ("a property list", "its path isn't text");
        let text = path.to_str().filter(|text| !text.contains(|c: char| c.is_control()));
        let text = text.ok_or(UnitError { what, place, why })?;
        Ok(text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"))
    };
    let mut arguments = String::new();
    for argument in [
        text("the program", unit.program)?,
        "--store".into(),
        text("the store", unit.store)?,
        "daemon".into(),
        "run".into(),
        "--idle".into(),
        "0".into(),
    ] {
        let _ = writeln!(arguments, "        <string>{argument}</string>");
    }
    let user = match unit.user {
        Some(user) => format!("    <key>UserName</key>\n    <string>{user}</string>\n"),
        None => String::new(),
    };
    Ok(format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n<!-- {MARK} -->\n<plist version=\"1.0\">\n<dict>\n    <key>Label</key>\n    <string>{LABEL}</string>\n    <key>ProgramArguments</key>\n    <array>\n{arguments}    </array>\n{user}    <key>RunAtLoad</key>\n    <true/>\n    <key>KeepAlive</key>\n    <dict>\n        <key>Crashed</key>\n        <true/>\n    </dict>\n    <key>Umask</key>\n    <integer>18</integer>\n</dict>\n</plist>\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    #[test]
    fn a_path_is_taken_as_it_is() {
        let path = Path::new(OsStr::from_bytes(b"/a b/%h/$HOME/\"\\\xff\n"));
        assert_eq!(word(path, true), r#""/a b/%%h/$$HOME/\"\\\xff\x0a""#);
        assert_eq!(word(path, false), r#""/a b/%%h/$HOME/\"\\\xff\x0a""#);
        let unit = Unit { program: "/bin/$x".as_ref(), store: path, user: None };
        systemd(&unit).expect_err("a $ in the program");
        launchd(&unit).expect_err("a path that is no text");
    }

    #[test]
    fn units_say_whose_they_are() {
        let unit =
            Unit { program: "/usr/bin/vrift".as_ref(), store: "/s & t".as_ref(), user: None };
        let own = systemd(&unit).expect("a unit");
        assert!(
            own.contains("ExecStart=\"/usr/bin/vrift\" --store \"/s & t\" daemon run --idle 0")
        );
        assert!(own.contains("WantedBy=default.target") && !own.contains("User="));
        let system = systemd(&Unit { user: Some("builder"), ..unit }).expect("a unit");
        assert!(system.contains("User=builder\n") && system.contains("ReadWritePaths=\"/s & t\""));
        assert!(system.contains("WantedBy=multi-user.target"));
        let plist = launchd(&Unit { user: Some("builder"), ..unit }).expect("a list");
        assert!(plist.contains("<string>/s &amp; t</string>") && plist.contains(MARK));
        assert!(plist.contains("<key>UserName</key>\n    <string>builder</string>"));
        for tag in ["plist", "dict", "array", "string", "key"] {
            let count = |text: &str| plist.matches(text).count();
            let open = count(&format!("<{tag}>")) + count(&format!("<{tag} "));
            assert_eq!(open, count(&format!("</{tag}>")), "{tag}");
        }
    }
}
