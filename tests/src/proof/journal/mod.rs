//! Journals: one file for each process, one short line for each event.
//!
//! A process writes a line *before* the event that it announces: a send before the message is sent,
//! an execution when the handler begins, before its reply can leave. Each line is one `write` to a
//! file that is open for appending. So `kill -9` loses no event that another process may have seen.
//! At most the last line is cut off, and a cut line does not count. A process that ends in order
//! writes `end`. A journal without `end` belongs to a process that was killed or has crashed.
//!
//! A message is identified by the name of its client and a number. Both are in its *arguments*: the
//! journal trusts no header, id or tag of the system under test.

pub mod convert;
mod read;
mod record;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

pub use read::{ClientJournal, Execution, Journals, Name, Names, ReportedOutcome, SentMessage, ServerJournal};
pub use record::{Outcome, Part, Record, Unreadable, Verb};

/// The journal of one process. Any of its threads may write.
#[derive(Debug)]
pub struct JournalWriter {
    file: File,
}

impl JournalWriter {
    /// Creates a journal in `dir`. `first` says whether it is a client's or a server's.
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
