//! Which means a job gets on which machine, and what `doctor` says of it.

#![expect(clippy::tests_outside_test_module, reason = "an integration test is one test module")]

use std::path::PathBuf;
use vrift_macos_es::es::adapter::EndpointError;
use vrift_macos_es::program::{Program, Refusal};
use vrift_macos_es::shim::symbols::Arch;
use vrift_macos_trace::doctor::{Check, checks, told};
use vrift_macos_trace::job::user;
use vrift_macos_trace::machine::{
    Facts, LIBRARY, STARTER, beside, library, protection, starter, version,
};
use vrift_macos_trace::means::{Means, Wants, choose};

fn facts() -> Facts {
    Facts {
        macos: (14, 5),
        arch: Arch::Arm64,
        translated: false,
        sip: Some(true),
        endpoint: Ok(()),
        library: Ok("/lib/libvrift_shim.dylib".into()),
        starter: Ok("/bin/vrift-start".into()),
        inside: false,
    }
}

const NOTHING: Wants = Wants { mounts: false, rules: false, trace: false };
const MOUNTS: Wants = Wants { mounts: true, ..NOTHING };
const RULES: Wants = Wants { rules: true, ..NOTHING };
const TRACE: Wants = Wants { trace: true, ..NOTHING };
const ALL: Wants = Wants { mounts: true, rules: true, trace: true };

const ERRORS: [EndpointError; 6] = [
    EndpointError::NotEntitled,
    EndpointError::NotPermitted,
    EndpointError::NotPrivileged,
    EndpointError::TooMany,
    EndpointError::Needs("macOS 13"),
    EndpointError::Other(2),
];

#[test]
fn a_job_gets_what_it_asks_for_or_is_not_started() {
    let missing = || Err("there is none".to_owned());
    let no_shim = Facts { library: missing(), ..facts() };
    for (wants, facts, expected) in [
        // Both, and what each is for.
        (NOTHING, facts(), Some((false, false))),
        (MOUNTS, facts(), Some((true, true))),
        (RULES, facts(), Some((false, true))),
        (TRACE, facts(), Some((false, true))),
        (ALL, facts(), Some((true, true))),
        // Endpoint Security alone.
        (NOTHING, no_shim.clone(), Some((false, false))),
        (MOUNTS, no_shim.clone(), None),
        (RULES, no_shim.clone(), Some((false, true))),
        (TRACE, no_shim.clone(), Some((false, true))),
        (ALL, no_shim, None),
        // Nobody can start the command.
        (NOTHING, Facts { starter: missing(), ..facts() }, None),
        (MOUNTS, Facts { starter: missing(), ..facts() }, None),
        (TRACE, Facts { starter: missing(), ..facts() }, None),
        // Inside of a job.
        (MOUNTS, Facts { inside: true, ..facts() }, None),
        (TRACE, Facts { inside: true, ..facts() }, Some((false, true))),
    ] {
        let chosen = choose(wants, &facts).ok().map(|means| (means.shim, means.endpoint));
        assert_eq!(chosen, expected, "{wants:?} {facts:?}");
    }
    // The shim alone, whyever there is no client.
    for error in ERRORS {
        let facts = Facts { endpoint: Err(error.clone()), ..facts() };
        for (wants, expected) in [
            (NOTHING, Some(false)),
            (MOUNTS, Some(true)),
            (RULES, None),
            (TRACE, None),
            (ALL, None),
        ] {
            match (choose(wants, &facts), expected) {
                (Ok(means), Some(shim)) => {
                    assert_eq!((means.shim, means.endpoint), (shim, false));
                    assert_eq!(means.unguarded, shim.then(|| error.to_string()));
                }
                (Err(complaint), None) => {
                    assert!(complaint.contains(&error.to_string()), "{complaint}");
                    assert_eq!(complaint.lines().count(), 1, "{complaint}");
                }
                other => panic!("{wants:?} {other:?}"),
            }
        }
    }
}

#[test]
fn a_build_of_sudos_is_not_roots() {
    let with = Means { endpoint: true, ..Means::default() };
    for (own, means, sudo, expected) in [
        (0, &with, (Some("501"), Some("20")), Some((501, 20))),
        (0, &with, (None, None), None),
        (0, &with, (Some("0"), Some("0")), None),
        (0, &with, (Some("x"), Some("20")), None),
        (501, &with, (Some("501"), Some("20")), None),
        (0, &Means::default(), (Some("501"), Some("20")), None),
    ] {
        assert_eq!(user(own, means, sudo), expected, "{own} {sudo:?}");
    }
}

#[test]
fn what_the_systems_programs_print_is_understood() {
    for (text, expected) in [
        ("14.5\n", Some((14, 5))),
        ("15", Some((15, 0))),
        ("13.6.1\n", Some((13, 6))),
        ("", None),
        ("x.1", None),
    ] {
        assert_eq!(version(text), expected, "{text:?}");
    }
    for (text, expected) in [
        ("System Integrity Protection status: enabled.\n", Some(true)),
        ("System Integrity Protection status: disabled.\n", Some(false)),
        (
            "System Integrity Protection status: unknown (Custom Configuration).\n\nApple Internal: disabled\n",
            None,
        ),
        ("", None),
    ] {
        assert_eq!(protection(text), expected, "{text:?}");
    }
}

#[test]
fn the_companions_are_looked_for_beside_the_program() {
    let root = tempfile::tempdir().expect("a directory");
    let root = root.path().canonicalize().expect("it is there");
    let (bin, lib) = (root.join("bin"), root.join("lib"));
    std::fs::create_dir(&bin).expect("made");
    std::fs::create_dir(&lib).expect("made");
    let own = bin.join("vrift-trace");
    std::fs::write(&own, "").expect("written");
    std::os::unix::fs::symlink(&own, root.join("link")).expect("linked");
    let dirs = beside(&root.join("link"));
    assert_eq!(dirs, [bin.clone(), lib.clone()]);
    let gone = library(&dirs, Arch::Arm64).expect_err("there is none");
    assert!(gone.starts_with(&format!("there is no {LIBRARY} in {}", bin.display())), "{gone}");
    // A Mach-O header for x86_64 without a signature: cputype, MH_DYLIB, no commands.
    let header = [0xfeed_facf_u32, 0x0100_0007, 3, 6, 0, 0, 0, 0];
    let header: Vec<u8> = header.iter().flat_map(|word| word.to_le_bytes()).collect();
    std::fs::write(lib.join(LIBRARY), &header).expect("written");
    std::fs::write(bin.join(STARTER), &header).expect("written");
    assert_eq!(library(&dirs, Arch::X86_64), Ok(lib.join(LIBRARY)));
    assert_eq!(starter(&dirs, Arch::X86_64), Ok(bin.join(STARTER)));
    for found in [library(&dirs, Arch::Arm64), starter(&dirs, Arch::Arm64)] {
        let why = found.expect_err("another processor's");
        assert!(why.contains("has no code for arm64; build it"), "{why}");
    }
    // Set-id: the loader takes the variable away.
    use std::os::unix::fs::PermissionsExt;
    let set_id = std::fs::Permissions::from_mode(0o4755);
    std::fs::set_permissions(bin.join(STARTER), set_id).expect("set");
    let why = starter(&dirs, Arch::X86_64).expect_err("set-id");
    assert!(why.contains("the loader keeps the shim out of it (set-id)"), "{why}");
}

fn find<'c>(checks: &'c [Check], name: &str) -> &'c Check {
    checks.iter().find(|check| check.name == name).expect("the check")
}

#[test]
fn doctor_names_one_fix_for_what_is_missing() {
    let whole = checks(&facts(), &[]);
    assert!(whole.iter().all(|check| check.well && check.fix.is_none() && !check.needed));
    let text = told(&facts(), &whole, false);
    assert!(text.ends_with(
        "what a job needs is there; whether the shim projects was not tried (vrift-trace 0.1.0, macOS 14.5)\n"
    ), "{text}");
    assert!(text.contains("arm64e"), "{text}");

    let closed: Vec<(PathBuf, Program)> = vec![
        ("/bin/sh".into(), Program::Closed(Refusal::Platform)),
        ("/opt/homebrew/bin/git".into(), Program::Open),
        ("/usr/local/bin/cc".into(), Program::Closed(Refusal::Hardened)),
    ];
    let bare = Facts {
        endpoint: Err(EndpointError::NotEntitled),
        library: Err("there is no libvrift_shim.dylib in /bin; put it there".into()),
        sip: Some(false),
        translated: true,
        ..facts()
    };
    let found = checks(&bare, &closed);
    let shim = find(&found, "shim");
    assert!(shim.needed && !shim.well);
    let endpoint = find(&found, "endpoint-security");
    assert!(endpoint.meaning.contains("com.apple.developer.endpoint-security.client"));
    assert!(endpoint.fix.as_ref().is_some_and(|fix| fix.starts_with("codesign ")));
    assert!(!find(&found, "processor").well);
    assert!(find(&found, "sip").meaning.contains("ad-hoc"));
    let restricted = find(&found, "restricted-programs");
    assert_eq!(
        restricted.meaning,
        "the loader keeps the shim out of /bin/sh (Apple's own), /usr/local/bin/cc (hardened)"
    );
    let object: serde_json::Value =
        serde_json::from_str(&told(&bare, &found, true)).expect("it is JSON");
    assert_eq!(object["ok"], false);
    assert_eq!(object["checks"].as_array().map(Vec::len), Some(found.len()));
    let text = told(&bare, &found, false);
    assert!(text.contains("jobs with mounts can't run here: see shim"), "{text}");

    // Each reason has its own line.
    let permitted = checks(&Facts { endpoint: Err(EndpointError::NotPermitted), ..facts() }, &[]);
    let access = find(&permitted, "full-disk-access");
    assert!(access.fix.as_ref().is_some_and(|fix| fix.contains("Full Disk Access")));
    let root = checks(&Facts { endpoint: Err(EndpointError::NotPrivileged), ..facts() }, &[]);
    assert!(find(&root, "endpoint-security").meaning.contains("sudo"));
    assert!(find(&root, "full-disk-access").well);
}
