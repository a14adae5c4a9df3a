//! Proves that `zmqv2 demo` works anywhere and leaves nothing behind.

use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;
use zmqv2_tests::kernel::{names_in, processes_with};
use zmqv2_tests::{PATIENCE, Process, binary, eventually};

/// The demo, which makes everything in `temporary`.
fn demo(temporary: &Path) -> Command {
    let mut command = Command::new(binary("zmqv2"));
    command.arg("demo").env_clear().env("TMPDIR", temporary);
    command
}

fn temporary() -> TempDir {
    tempfile::Builder::new().prefix("zq").tempdir().expect("a temporary directory")
}

#[track_caller]
fn assert_nothing_left(dir: &Path) {
    let text = dir.to_str().expect("a plain path");
    eventually("every process of the demo has ended", || processes_with(text).is_empty());
    assert_eq!(names_in(dir), Vec::<String>::new());
}

#[test]
fn it_shows_who_answered_and_leaves_nothing_behind() {
    let (dir, elsewhere) = (temporary(), temporary());
    // No HOME, no PATH, only a temporary directory, and a working directory of another user.
    // Settings of real nodes in the environment must not affect the demo.
    let mut demo = demo(dir.path());
    demo.env("OS_DEFAULT__TRANSPORT_URL", "zmqv2+ring:///no/such/ring.json").env("OS_DEFAULT__RPC_ZMQ_PORT", "1");
    let finished = Process::run(demo.current_dir(elsewhere.path()));
    assert_eq!((finished.code(), finished.stderr.as_str()), (0, ""), "{finished:?}");
    for part in [
        "answered by alpha at node ",
        "answered by beta at node ",
        " ms",
        "{\"n\": 1}",
        "\"only for beta\"",
        "remote error: ",
        "NoRoute: ",
        "Timeout: ",
        "acked by ",
        "  alpha  acked in ",
        "  beta  acked in ",
        "accepted by 2 of 2, 0 refused, 0 unacknowledged",
        "stored at node demo-node for the first pool that comes",
        "accepted by pool default at node demo-node in ",
        "{\"event_type\":\"demo.early\"",
        "{\"event_type\":\"demo.late\"",
        "done in ",
    ] {
        assert!(finished.stdout.contains(part), "no {part:?} in:\n{}", finished.stdout);
    }
    assert_nothing_left(dir.path());
    assert_eq!(names_in(elsewhere.path()), Vec::<String>::new());
}

#[test]
fn two_demos_at_once_do_not_meet() {
    let dirs = [temporary(), temporary()];
    let mut both = dirs.each_ref().map(|dir| Process::start("demo", &mut demo(dir.path())));
    for (demo, dir) in both.iter_mut().zip(&dirs) {
        assert_eq!(demo.wait_end(PATIENCE).code(), Some(0), "{}", demo.stderr());
        assert_nothing_left(dir.path());
    }
}

#[test]
fn an_interrupted_demo_cleans_up_too() {
    for signal in [Signal::INT, Signal::TERM] {
        let dir = temporary();
        let text = dir.path().to_str().unwrap().to_owned();
        let mut interrupted = Process::start("demo", &mut demo(dir.path()));
        // The broker has the directory in its command line.
        eventually("the demo's broker runs", || !processes_with(&text).is_empty());
        interrupted.signal(signal);
        assert_eq!(interrupted.wait_end(PATIENCE).code(), Some(1), "{}", interrupted.stderr());
        interrupted.wait_for_line("interrupted: ");
        assert_nothing_left(dir.path());
    }
}

#[test]
fn a_temporary_directory_that_cannot_be_used_is_named_with_what_to_do() {
    let dir = temporary();
    let deep = dir.path().join("d".repeat(80));
    std::fs::create_dir(&deep).unwrap();
    let finished = Process::run(&mut demo(&deep));
    assert_eq!(finished.code(), 1);
    let stderr = finished.stderr;
    assert!(
        stderr.contains("TMPDIR") && stderr.contains("bytes") && stderr.contains(deep.to_str().unwrap()),
        "{stderr}"
    );
    assert_nothing_left(&deep);

    let missing = dir.path().join("missing");
    let finished = Process::run(&mut demo(&missing));
    assert_eq!(finished.code(), 1);
    assert!(finished.stderr.starts_with("cannot make a temporary directory: "), "{}", finished.stderr);
}
