//! What a command is started with, and what becomes of signals. In a process of its own, which is sent
//! them, and in which nobody else starts anything: one test.

#![expect(clippy::tests_outside_test_module, reason = "an integration test is one test module")]

mod fake;

use fake::{Fake, LIMIT};
use rustix::process::{Signal, getpid, kill_process};
use std::time::{Duration, Instant};

#[test]
fn a_command_gets_no_descriptor_of_ours_and_the_signals_that_are_meant_for_it() {
    no_descriptor();
    terminate_is_handed_on_and_what_a_terminal_sends_to_all_is_not();
}

/// The pipe that its first process waits at is not the command's.
fn no_descriptor() {
    let fake = Fake::new();
    let list = "ls /proc/self/fd";
    let plain = std::process::Command::new("sh").args(["-c", list]).output().expect("sh");
    let script = format!("{list} >@/descriptors");
    assert_eq!(fake.run(&["-m", "@/mnt=deps", "--", "sh", "-c", &script]), Ok(0));
    assert_eq!(fake.read("descriptors"), plain.stdout);
}

fn terminate_is_handed_on_and_what_a_terminal_sends_to_all_is_not() {
    let fake = Fake::alone();
    let script = "trap 'echo int >>@/got' INT; trap 'echo term >>@/got; exit 5' TERM; : >@/ready; \
                  i=0; while [ $i -lt 600 ]; do sleep 0.1; i=$((i+1)); done";
    let (ready, got) = (fake.path("ready"), fake.path("got"));
    let sender = std::thread::spawn(move || {
        let began = Instant::now();
        while !ready.exists() && began.elapsed() < LIMIT {
            std::thread::sleep(Duration::from_millis(10));
        }
        kill_process(getpid(), Signal::INT).expect("sent");
        std::thread::sleep(Duration::from_millis(300));
        kill_process(getpid(), Signal::TERM).expect("sent");
        got
    });
    assert_eq!(fake.run(&["-m", "@/mnt=deps", "--", "sh", "-c", script]), Ok(5));
    let got = std::fs::read_to_string(sender.join().expect("the sender")).expect("written");
    assert_eq!(got, "term\n");
}
