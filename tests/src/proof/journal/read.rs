//! Reads the journals of a run into memory. Names become numbers, and the events of one process are
//! together.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::{Outcome, Record, Verb};

/// A name, as its number among the [names](Names) of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(u32);

#[derive(Debug, Default)]
pub struct Names {
    texts: Vec<String>,
    numbers: HashMap<String, Name>,
}

impl Names {
    /// The number of a name. An unknown name gets a new number.
    pub fn number(&mut self, text: &str) -> Name {
        if let Some(name) = self.numbers.get(text) {
            return *name;
        }
        let name = Name(self.texts.len() as u32);
        self.texts.push(text.to_owned());
        self.numbers.insert(text.to_owned(), name);
        name
    }

    pub fn text(&self, name: Name) -> &str {
        self.texts.get(name.0 as usize).map_or("?", String::as_str)
    }
}

/// The outcome of a message, as its client saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedOutcome {
    pub number: u64,
    /// When the client learnt it, in milliseconds of the machine's monotonic clock.
    pub at: u64,
    pub outcome: Outcome<Name>,
    pub line: u32,
}

/// A message that a client sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentMessage {
    pub verb: Verb,
    pub number: u64,
    /// From then on it must not begin to run, in milliseconds of the machine's monotonic clock. 0 if
    /// the journal lacks it.
    pub expires: u64,
    pub line: u32,
}

/// A server began to run a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Execution {
    pub client: Name,
    pub number: u64,
    /// The delivery number of a notification, and 0 for other messages.
    pub delivery: u16,
    /// When it began, in milliseconds of the machine's monotonic clock. 0 if the journal lacks it.
    pub at: u64,
    /// Whether the listener asked for the notification again.
    pub requeued: bool,
    /// Whether the listener handled the notification.
    pub handled: bool,
    pub line: u32,
}

#[derive(Debug)]
pub struct ClientJournal {
    pub file: PathBuf,
    pub client: Name,
    /// How often it sends a message again.
    pub retries: u32,
    /// Its messages.
    pub sent: Vec<SentMessage>,
    pub outcomes: Vec<ReportedOutcome>,
    /// How many outcomes of each kind its observer saw.
    pub observed: Option<[u64; 3]>,
    /// Whether it ended in order.
    pub ended: bool,
}

#[derive(Debug)]
pub struct ServerJournal {
    pub file: PathBuf,
    /// Its name. Other processes may have the same.
    pub server: Name,
    pub node: Name,
    pub run: Name,
    pub workers: u16,
    pub executions: Vec<Execution>,
    /// Whether it ended in order. If not, it was killed.
    pub ended: bool,
}

#[derive(Debug, Default)]
pub struct Journals {
    pub names: Names,
    pub clients: Vec<ClientJournal>,
    /// The servers, one entry for each process.
    pub servers: Vec<ServerJournal>,
    /// Lines that cannot be read, or have no meaning at their place: `file:line: text`.
    pub unreadable: Vec<String>,
    /// How many last lines were cut off by a kill during the write.
    pub cut: usize,
}

impl Journals {
    pub fn read(dir: &Path) -> std::io::Result<Self> {
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "journal") {
                paths.push(path);
            }
        }
        paths.sort();
        let mut journals = Self::default();
        for path in paths {
            let text = std::fs::read_to_string(&path)?;
            journals.add(&path, &text);
        }
        Ok(journals)
    }

    pub fn add(&mut self, file: &Path, text: &str) {
        let mut lines = text.split_inclusive('\n').enumerate().filter(|(_, line)| {
            let whole = line.ends_with('\n');
            self.cut += usize::from(!whole);
            whole
        });
        let names = &mut self.names;
        let unreadable = &mut self.unreadable;
        let mut unreadable_line = |at: usize, line: &str| {
            unreadable.push(format!("{}:{}: {}", file.display(), at + 1, line.trim_end()));
        };
        // A process that was killed before its first line was complete has done nothing.
        let Some((at, first)) = lines.next() else { return };
        match Record::parse(first).map(|record| record.map(|name| names.number(name))) {
            Ok(Record::Client { client, retries }) => {
                let (sent, outcomes) = (Vec::new(), Vec::new());
                let file = file.to_owned();
                let mut journal = ClientJournal { file, client, retries, sent, outcomes, observed: None, ended: false };
                for (at, line) in lines {
                    let record = Record::parse(line).map(|record| record.map(|name| names.number(name)));
                    if journal.ended || !record.is_ok_and(|record| journal.take(record, at as u32 + 1)) {
                        unreadable_line(at, line);
                    }
                }
                self.clients.push(journal);
            }
            Ok(Record::Server { server, node, run, workers }) => {
                let (file, executions) = (file.to_owned(), Vec::new());
                let mut journal = ServerJournal { file, server, node, run, workers, executions, ended: false };
                for (at, line) in lines {
                    let record = Record::parse(line).map(|record| record.map(|name| names.number(name)));
                    if journal.ended || !record.is_ok_and(|record| journal.take(&record, at as u32 + 1)) {
                        unreadable_line(at, line);
                    }
                }
                self.servers.push(journal);
            }
            _ => unreadable_line(at, first),
        }
    }
}

impl ClientJournal {
    fn take(&mut self, record: Record<Name>, line: u32) -> bool {
        match record {
            Record::Sent(verb, number, expires) => self.sent.push(SentMessage { verb, number, expires, line }),
            Record::Postponed(number, expires) => match self.sent.iter_mut().rfind(|sent| sent.number == number) {
                Some(sent) => sent.expires = expires,
                None => return false,
            },
            Record::Ended(number, at, outcome) => self.outcomes.push(ReportedOutcome { number, at, outcome, line }),
            Record::Observed(totals) => self.observed = Some(totals),
            Record::End => self.ended = true,
            _ => return false,
        }
        true
    }
}

impl ServerJournal {
    fn take(&mut self, record: &Record<Name>, line: u32) -> bool {
        match *record {
            Record::Ran(client, number, delivery, at) => {
                let (requeued, handled) = (false, false);
                self.executions.push(Execution { client, number, delivery, at, requeued, handled, line });
            }
            Record::Requeued(client, number) | Record::Handled(client, number) => {
                let mut back = self.executions.iter_mut().rev();
                let Some(run) = back.find(|run| (run.client, run.number) == (client, number)) else { return false };
                if run.requeued || run.handled {
                    return false;
                }
                match record {
                    Record::Requeued(..) => run.requeued = true,
                    _ => run.handled = true,
                }
            }
            Record::End => self.ended = true,
            _ => return false,
        }
        true
    }
}

impl fmt::Display for ClientJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.file_name().unwrap_or_default().to_string_lossy())
    }
}

impl fmt::Display for ServerJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.file_name().unwrap_or_default().to_string_lossy())
    }
}
