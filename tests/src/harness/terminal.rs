//! A terminal for a program that looks whether its output goes to one.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, ExitStatus, Stdio};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// The stream of a program that goes to the terminal.
#[derive(Debug, Clone, Copy)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// Runs `command` to its end with `stream` at a terminal. Returns what the terminal got and what
/// the other stream got.
pub fn run_at_terminal(mut command: Command, stream: Stream) -> (ExitStatus, String, String) {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&terminal).expect("a terminal");
    unlockpt(&terminal).expect("a terminal");
    let path = ptsname(&terminal, Vec::new()).expect("a terminal");
    let path = OsStr::from_bytes(path.as_bytes());
    let its_side = OpenOptions::new().read(true).write(true).open(path).expect("the terminal");
    command.stdin(Stdio::null());
    match stream {
        Stream::Stdout => command.stdout(its_side).stderr(Stdio::piped()),
        Stream::Stderr => command.stderr(its_side).stdout(Stdio::piped()),
    };
    let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    // Otherwise this process keeps that side open, and the output never ends.
    drop(command);
    let reader = std::thread::spawn(move || {
        let mut shown = Vec::new();
        // When the other side is closed, reading ends with an error.
        let _ = BufReader::new(File::from(terminal)).read_to_end(&mut shown);
        String::from_utf8_lossy(&shown).into_owned()
    });
    let mut other = String::new();
    let read = match stream {
        Stream::Stdout => child.stderr.take().expect("a pipe").read_to_string(&mut other),
        Stream::Stderr => child.stdout.take().expect("a pipe").read_to_string(&mut other),
    };
    read.expect("readable output");
    (child.wait().expect("its end"), reader.join().expect("a reader"), other)
}
