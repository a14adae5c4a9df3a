//! What many processes did, written down as it happened: one file per process, one short line per event.
//!
//! A line is one `write` to a file opened for appending, made *before* what it enables: a message is written as sent before it
//! is sent, an execution as soon as the handler begins, before its reply can leave. So a `kill -9` loses nothing that anybody
//! else may have seen; at most its last line is cut off, and a cut line is not counted. A process that comes to its end in
//! order writes `end`; one that did not was killed, or has crashed.
//!
//! The identity of a message is the name of its client and a number, which stand in its *arguments*: the journal believes no
//! header, no id and no tag of the system that it is to judge.

pub mod convert;
mod read;
mod record;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

pub use read::{ClientJournal, Execution, Journals, Name, Names, ReportedOutcome, ServerJournal};
pub use record::{Outcome, Part, Record, Unreadable, Verb};

/// The journal of one process. Any of its threads may write.
#[derive(Debug)]
pub struct JournalWriter {
    file: File,
}

impl JournalWriter {
    /// Starts a journal in `dir`, of a client or a server as `first` says.
    pub fn create(dir: &Path, name: &str, first: &Record<&str>) -> std::io::Result<Self> {
        let path = dir.join(format!("{name}-{}.journal", std::process::id()));
        let journal = Self { file: OpenOptions::new().append(true).create_new(true).open(path)? };
        journal.write(first);
        Ok(journal)
    }

    /// Writes one line, with one system call.
    pub fn write(&self, record: &Record<&str>) {
        let mut line = [0_u8; 1024];
        let mut rest = &mut line[..];
        writeln!(rest, "{record}").expect("a short line");
        let unused = rest.len();
        let used = line.len() - unused;
        let written = (&self.file).write(&line[..used]).expect("room for a journal");
        assert_eq!(written, used, "a line is written as a whole");
    }
}
