//! The command line is that of `vrift-trace` on Linux, but for what isn't there on macOS.

#![expect(clippy::tests_outside_test_module, reason = "an integration test is one test module")]

use clap::{Arg, Command, CommandFactory};
use vrift_macos_trace::cli::{Cli, ELSEWHERE, command};
use vrift_supervisor::cli::Cli as Linux;

/// Options of Linux alone.
const LINUX_OPTIONS: [&str; 3] = ["record_syscalls", "fetch_timeout", "view"];
/// A policy is explained on Linux.
const LINUX_SUBCOMMANDS: [&str; 1] = ["explain"];

/// What of an option a user sees.
fn shown(arg: &Arg) -> impl PartialEq + std::fmt::Debug + use<> {
    (
        arg.get_short(),
        arg.get_long().map(str::to_owned),
        arg.get_value_names()
            .map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>()),
        arg.get_help().map(ToString::to_string),
        arg.is_required_set(),
        arg.get_possible_values().iter().map(|v| v.get_name().to_owned()).collect::<Vec<_>>(),
    )
}

#[test]
fn each_option_is_that_of_linux() {
    let (ours, linux) = (Cli::command(), Linux::command());
    for arg in ours.get_arguments() {
        let there = linux.get_arguments().find(|other| other.get_id() == arg.get_id());
        assert_eq!(there.map(shown), Some(shown(arg)), "{}", arg.get_id());
    }
    let missing: Vec<&str> = linux
        .get_arguments()
        .map(|arg| arg.get_id().as_str())
        .filter(|id| !ours.get_arguments().any(|arg| arg.get_id() == id))
        .collect();
    assert_eq!(missing, LINUX_OPTIONS);
}

#[test]
fn each_subcommand_of_linux_is_here_or_named_as_not_here() {
    let (ours, linux) = (Cli::command(), Linux::command());
    for theirs in linux.get_subcommands() {
        let name = theirs.get_name();
        let elsewhere = ELSEWHERE.iter().any(|(other, _)| *other == name);
        match ours.find_subcommand(name) {
            None => assert!(elsewhere, "{name}"),
            Some(same) => {
                assert!(!elsewhere, "{name}");
                arguments(same, theirs);
            }
        }
    }
    for (name, _) in ELSEWHERE {
        assert!(linux.find_subcommand(name).is_some(), "{name}");
        assert!(command().find_subcommand(name).is_some_and(Command::is_hide_set), "{name}");
    }
}

/// What a subcommand takes here, it takes there.
fn arguments(ours: &Command, linux: &Command) {
    for arg in ours.get_arguments() {
        let there = linux.get_arguments().find(|other| other.get_id() == arg.get_id());
        assert_eq!(there.map(shown), Some(shown(arg)), "{} {}", ours.get_name(), arg.get_id());
    }
    for theirs in linux.get_subcommands() {
        match ours.find_subcommand(theirs.get_name()) {
            Some(same) => arguments(same, theirs),
            None => assert!(LINUX_SUBCOMMANDS.contains(&theirs.get_name()), "{theirs:?}"),
        }
    }
}

#[test]
fn a_word_that_is_a_subcommand_elsewhere_is_no_command_to_run() {
    for (name, _) in ELSEWHERE {
        let matches = command().try_get_matches_from(["vrift-trace", *name, "--html", "x"]);
        assert_eq!(matches.expect("parsed").subcommand_name(), Some(*name));
        let after = command().try_get_matches_from(["vrift-trace", "--", *name, "--html"]);
        assert_eq!(after.expect("parsed").subcommand_name(), None);
    }
}
