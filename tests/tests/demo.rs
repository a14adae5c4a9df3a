//! Proves that `zmqv2 demo` works anywhere and leaves nothing behind.

use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;
use zmqv2_tests::kernel::{names_in, processes_with};
use zmqv2_tests::terminal::{Stream, run_at_terminal};
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

/// What fits an ordinary terminal.
const COLUMNS: usize = 80;
const RESTARTS: &str = "a client calls while the servers and the broker are restarted:";

/// The text without its line breaks and indents: the demo breaks long lines.
fn on_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn assert_it_fits(text: &str) {
    for line in text.lines() {
        assert!(line.chars().count() <= COLUMNS, "more than {COLUMNS} columns: {line}");
    }
}

/// The text with every number replaced.
fn without_numbers(text: &str) -> String {
    let mut replaced = String::new();
    let mut number = false;
    for (n, c) in text.char_indices() {
        let next_is_digit = text[n + c.len_utf8()..].starts_with(|next: char| next.is_ascii_digit());
        if c.is_ascii_digit() {
            replaced += if number { "" } else { "#" };
            number = true;
        } else if !(number && ",.".contains(c) && next_is_digit) {
            replaced.push(c);
            number = false;
        }
    }
    replaced
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
        "demo-node alpha acked in ",
        "demo-node beta acked in ",
        "accepted by 2 of 2, 0 refused, 0 unacknowledged",
        "stored at node demo-node for the first pool that comes",
        "accepted by pool default at node demo-node in ",
        "{\"event_type\":\"demo.early\"",
        "{\"event_type\":\"demo.late\"",
        RESTARTS,
        " 0 failed, longest pause ",
        "1,000 calls over one connection",
        "done in ",
    ] {
        assert!(on_one_line(&finished.stdout).contains(part), "no {part:?} in:\n{}", finished.stdout);
    }
    // A hundred before, between and after the three restarts.
    let (calls, _) = finished.stdout.split_once(" calls, 0 failed").expect("the calls under restarts");
    let calls = calls.lines().last().unwrap().trim().replace(',', "");
    assert!(calls.parse::<u32>().unwrap() >= 400, "{}", finished.stdout);
    let (_, restarts) = finished.stdout.split_once(RESTARTS).unwrap();
    for name in ["alpha", "beta", "broker"] {
        let ended =
            restarts.lines().filter(|line| line.starts_with(&format!("  {name} ")) && line.contains(" ended, "));
        assert_eq!(ended.count(), 2, "{name} is restarted, and stopped at the end:\n{restarts}");
    }
    assert_it_fits(&finished.stdout);
    assert!(!finished.stdout.contains('\u{1b}'), "escape codes in a pipe: {:?}", finished.stdout);
    assert_the_readme_shows_it(&finished.stdout);
    assert_nothing_left(dir.path());
    assert_eq!(names_in(elsewhere.path()), Vec::<String>::new());
}

/// The README shows lines of the demo, with other numbers.
#[track_caller]
fn assert_the_readme_shows_it(stdout: &str) {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let shown = readme.split("```").find(|block| block.contains("calls over one connection")).expect("a block");
    let shown = without_numbers(shown.strip_prefix("text\n").expect("a block of text"));
    assert!(without_numbers(stdout).contains(&shown), "the README shows\n{shown}\nand the demo prints\n{stdout}");
}

#[test]
fn a_terminal_gets_colours_unless_no_color_is_set() {
    for (name, value, colors) in
        [("LANG", "C", true), ("NO_COLOR", "", true), ("NO_COLOR", "1", false), ("TERM", "dumb", false)]
    {
        let dir = temporary();
        let mut demo = demo(dir.path());
        demo.env("TERM", "xterm").env(name, value);
        let (status, shown, stderr) = run_at_terminal(demo, Stream::Stdout);
        assert!(status.success() && stderr.is_empty(), "{stderr}");
        assert_eq!(shown.contains('\u{1b}'), colors, "{name}={value}: {shown:?}");
        let mut plain = shown.replace("\r\n", "\n");
        if colors {
            for part in ["\u{1b}[1mone broker, ", "\u{1b}[36mzmqv2 call demo echo", "\u{1b}[33mremote error: ", "p50 "]
            {
                assert!(shown.contains(part), "no {part:?} in {shown:?}");
            }
            for code in ["\u{1b}[0m", "\u{1b}[1m", "\u{1b}[32m", "\u{1b}[33m", "\u{1b}[36m"] {
                plain = plain.replace(code, "");
            }
            assert!(!plain.contains('\u{1b}'), "{plain:?}");
            let reset = shown.lines().filter(|line| line.contains('\u{1b}')).all(|line| line.ends_with("\u{1b}[0m"));
            assert!(reset, "a line leaves its colour on: {shown:?}");
        }
        assert_it_fits(&plain);
        assert_nothing_left(dir.path());
    }
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
fn a_demo_that_is_interrupted_while_its_client_calls_cleans_up_too() {
    let dir = temporary();
    let mut interrupted = Process::start("demo", &mut demo(dir.path()));
    eventually("its client calls", || interrupted.wait_for_output(1).iter().any(|line| line == RESTARTS));
    interrupted.signal(Signal::TERM);
    // Its client waits up to a minute for an answer, but nobody waits for the client.
    assert_eq!(interrupted.wait_end(PATIENCE).code(), Some(1), "{}", interrupted.stderr());
    interrupted.wait_for_line("interrupted: ");
    assert_nothing_left(dir.path());
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
