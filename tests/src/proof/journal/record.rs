//! The lines of a journal, written and read.

use std::fmt;
use std::str::{FromStr, SplitAsciiWhitespace};

use zmqv2_proto::Reason;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// To one server, which accepts it.
    Cast,
    /// To one server, which replies.
    Call,
    /// To every server of the topic.
    Fanout,
    /// To one listener of every pool, again until it is handled.
    Notify,
}

/// One line. `S` is a name: text while it is written or read, a number in
/// [journals](super::Journals).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record<S> {
    /// The first line of a client's journal.
    Client {
        /// Its name, part of the identity of its messages.
        client: S,
        /// How often it sends a message again that may have been lost.
        retries: u32,
    },
    /// The first line of the journal of a server or a listener. A listener's pool takes the place
    /// of the server's name.
    Server {
        /// Its name. Another process may have the same.
        server: S,
        node: S,
        run: S,
        workers: u16,
    },
    /// A client is about to send message `.1`. From `.2` on it must not begin to run, in milliseconds
    /// of the machine's monotonic clock. 0 if nobody checks that.
    Sent(Verb, u64, u64),
    /// The client was stopped between that line and the send of message `.0`. Its time to live ends at
    /// `.1` at the latest.
    Postponed(u64, u64),
    /// The outcome of a message, and when the client learnt it, in milliseconds of the machine's
    /// monotonic clock.
    Ended(u64, u64, Outcome<S>),
    /// How many casts the client's observer saw as acked, refused and unacknowledged.
    Observed([u64; 3]),
    /// A handler begins to run message `.1` of client `.0`. For a notification, `.2` is the
    /// delivery number. `.3` is the time, in milliseconds of the machine's monotonic clock, or 0.
    Ran(S, u64, u16, u64),
    /// A listener asks for message `.1` of client `.0` again.
    Requeued(S, u64),
    /// A listener has handled message `.1` of client `.0`.
    Handled(S, u64),
    /// The process has finished everything that it had begun.
    End,
}

/// The outcome of one message, as its client saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<S> {
    Acked {
        server: S,
        node: S,
    },
    Refused(Reason),
    /// Nobody answered.
    Unacknowledged {
        /// Whether the message had left the client.
        sent: bool,
    },
    /// The client did not send it, with the name of the error.
    NotTaken(S),
    /// A call got a reply, which names a message.
    Replied {
        server: S,
        node: S,
        client: S,
        number: u64,
    },
    Failed {
        /// Whether the error says that the message may have run.
        may_have_run: bool,
        error: S,
    },
    /// The answers of a fanout or a notification, one for each server or pool.
    Report(Vec<Part<S>>),
    /// The client dropped the handle of a call, which cancels the call.
    Dropped,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part<S> {
    /// A server, or a listener of a pool, has accepted it.
    Acked(S, S),
    /// A broker keeps it for a pool (`-`: for the first pool that comes).
    Stored(S, S),
    /// A server or pool at that node refused it (`-`: the broker refused it as a whole).
    Refused(S, S, Reason),
    /// That server or pool, or that node, did not answer (`-`: unknown).
    Silent(S, S),
}

/// A line that does not belong in a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable;

impl Verb {
    const ALL: [(Self, &str); 4] =
        [(Self::Cast, "cast"), (Self::Call, "call"), (Self::Fanout, "fanout"), (Self::Notify, "notify")];
}

impl<S> Record<S> {
    pub fn map<T>(self, mut name: impl FnMut(S) -> T) -> Record<T> {
        match self {
            Self::Client { client, retries } => Record::Client { client: name(client), retries },
            Self::Server { server, node, run, workers } => {
                Record::Server { server: name(server), node: name(node), run: name(run), workers }
            }
            Self::Sent(verb, number, expires) => Record::Sent(verb, number, expires),
            Self::Postponed(number, expires) => Record::Postponed(number, expires),
            Self::Ended(number, at, outcome) => Record::Ended(number, at, outcome.map(name)),
            Self::Observed(totals) => Record::Observed(totals),
            Self::Ran(client, number, delivery, at) => Record::Ran(name(client), number, delivery, at),
            Self::Requeued(client, number) => Record::Requeued(name(client), number),
            Self::Handled(client, number) => Record::Handled(name(client), number),
            Self::End => Record::End,
        }
    }
}

impl<S> Outcome<S> {
    fn map<T>(self, mut name: impl FnMut(S) -> T) -> Outcome<T> {
        match self {
            Self::Acked { server, node } => Outcome::Acked { server: name(server), node: name(node) },
            Self::Refused(reason) => Outcome::Refused(reason),
            Self::Unacknowledged { sent } => Outcome::Unacknowledged { sent },
            Self::NotTaken(error) => Outcome::NotTaken(name(error)),
            Self::Replied { server, node, client, number } => {
                Outcome::Replied { server: name(server), node: name(node), client: name(client), number }
            }
            Self::Failed { may_have_run, error } => Outcome::Failed { may_have_run, error: name(error) },
            Self::Report(parts) => Outcome::Report(
                parts
                    .into_iter()
                    .map(|part| match part {
                        Part::Acked(server, node) => Part::Acked(name(server), name(node)),
                        Part::Stored(server, node) => Part::Stored(name(server), name(node)),
                        Part::Refused(server, node, reason) => Part::Refused(name(server), name(node), reason),
                        Part::Silent(server, node) => Part::Silent(name(server), name(node)),
                    })
                    .collect(),
            ),
            Self::Dropped => Outcome::Dropped,
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::ALL.iter().find(|(verb, _)| verb == self).map_or("", |(_, word)| word))
    }
}

impl<S: fmt::Display> fmt::Display for Record<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client { client, retries } => write!(f, "client {client} {retries}"),
            Self::Server { server, node, run, workers } => write!(f, "server {server} {node} {run} {workers}"),
            Self::Sent(verb, number, 0) => write!(f, "{verb} {number}"),
            Self::Sent(verb, number, expires) => write!(f, "{verb} {number} {expires}"),
            Self::Postponed(number, expires) => write!(f, "postponed {number} {expires}"),
            Self::Ended(number, at, outcome) => write!(f, "ended {number} {at} {outcome}"),
            Self::Observed([acked, refused, unacknowledged]) => {
                write!(f, "observed {acked} {refused} {unacknowledged}")
            }
            Self::Ran(client, number, 0, 0) => write!(f, "ran {client} {number}"),
            Self::Ran(client, number, delivery, 0) => write!(f, "ran {client} {number} {delivery}"),
            Self::Ran(client, number, delivery, at) => write!(f, "ran {client} {number} {delivery} {at}"),
            Self::Requeued(client, number) => write!(f, "requeued {client} {number}"),
            Self::Handled(client, number) => write!(f, "handled {client} {number}"),
            Self::End => f.write_str("end"),
        }
    }
}

impl<S: fmt::Display> fmt::Display for Outcome<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Acked { server, node } => write!(f, "acked {server} {node}"),
            Self::Refused(reason) => write!(f, "refused {reason}"),
            Self::Unacknowledged { sent: true } => f.write_str("unacknowledged sent"),
            Self::Unacknowledged { sent: false } => f.write_str("unacknowledged unsent"),
            Self::NotTaken(error) => write!(f, "not-taken {error}"),
            Self::Replied { server, node, client, number } => write!(f, "replied {server} {node} {client} {number}"),
            Self::Failed { may_have_run: true, error } => write!(f, "failed maybe {error}"),
            Self::Failed { may_have_run: false, error } => write!(f, "failed never {error}"),
            Self::Report(parts) => {
                f.write_str("report")?;
                for part in parts {
                    match part {
                        Part::Acked(server, node) => write!(f, " acked {server} {node}")?,
                        Part::Stored(server, node) => write!(f, " stored {server} {node}")?,
                        Part::Refused(server, node, reason) => write!(f, " refused {server} {node} {reason}")?,
                        Part::Silent(server, node) => write!(f, " silent {server} {node}")?,
                    }
                }
                Ok(())
            }
            Self::Dropped => f.write_str("dropped"),
        }
    }
}

struct Words<'a>(SplitAsciiWhitespace<'a>);

impl<'a> Words<'a> {
    fn word(&mut self) -> Result<&'a str, Unreadable> {
        self.0.next().ok_or(Unreadable)
    }

    fn number<N: FromStr>(&mut self) -> Result<N, Unreadable> {
        self.word()?.parse().map_err(|_| Unreadable)
    }

    /// A number that may be missing, which means 0.
    fn number_or_0<N: FromStr + Default>(&mut self) -> Result<N, Unreadable> {
        self.0.next().map_or(Ok(N::default()), |word| word.parse().map_err(|_| Unreadable))
    }

    fn reason(&mut self) -> Result<Reason, Unreadable> {
        let word = self.word()?;
        Reason::ALL.into_iter().find(|reason| reason.as_str() == word).ok_or(Unreadable)
    }

    fn either(&mut self, yes: &str, no: &str) -> Result<bool, Unreadable> {
        match self.word()? {
            word if word == yes => Ok(true),
            word if word == no => Ok(false),
            _ => Err(Unreadable),
        }
    }

    fn outcome(&mut self) -> Result<Outcome<&'a str>, Unreadable> {
        Ok(match self.word()? {
            "acked" => Outcome::Acked { server: self.word()?, node: self.word()? },
            "refused" => Outcome::Refused(self.reason()?),
            "unacknowledged" => Outcome::Unacknowledged { sent: self.either("sent", "unsent")? },
            "not-taken" => Outcome::NotTaken(self.word()?),
            "replied" => Outcome::Replied {
                server: self.word()?,
                node: self.word()?,
                client: self.word()?,
                number: self.number()?,
            },
            "failed" => Outcome::Failed { may_have_run: self.either("maybe", "never")?, error: self.word()? },
            "report" => {
                let mut parts = Vec::new();
                while let Some(word) = self.0.next() {
                    parts.push(match word {
                        "acked" => Part::Acked(self.word()?, self.word()?),
                        "stored" => Part::Stored(self.word()?, self.word()?),
                        "refused" => Part::Refused(self.word()?, self.word()?, self.reason()?),
                        "silent" => Part::Silent(self.word()?, self.word()?),
                        _ => return Err(Unreadable),
                    });
                }
                Outcome::Report(parts)
            }
            "dropped" => Outcome::Dropped,
            _ => return Err(Unreadable),
        })
    }
}

impl<'a> Record<&'a str> {
    pub fn parse(line: &'a str) -> Result<Self, Unreadable> {
        let mut words = Words(line.split_ascii_whitespace());
        let record = match words.word()? {
            "client" => Self::Client { client: words.word()?, retries: words.number()? },
            "server" => Self::Server {
                server: words.word()?,
                node: words.word()?,
                run: words.word()?,
                workers: words.number()?,
            },
            "postponed" => Self::Postponed(words.number()?, words.number()?),
            "ended" => Self::Ended(words.number()?, words.number()?, words.outcome()?),
            "observed" => Self::Observed([words.number()?, words.number()?, words.number()?]),
            "ran" => Self::Ran(words.word()?, words.number()?, words.number_or_0()?, words.number_or_0()?),
            "requeued" => Self::Requeued(words.word()?, words.number()?),
            "handled" => Self::Handled(words.word()?, words.number()?),
            "end" => Self::End,
            word => {
                let verb = Verb::ALL.into_iter().find(|(_, name)| *name == word).ok_or(Unreadable)?;
                Self::Sent(verb.0, words.number()?, words.number_or_0()?)
            }
        };
        if words.0.next().is_some() { Err(Unreadable) } else { Ok(record) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_goes_through_text_and_back() {
        let outcomes = [
            Outcome::Acked { server: "s", node: "n" },
            Outcome::Refused(Reason::Busy),
            Outcome::Unacknowledged { sent: true },
            Outcome::Unacknowledged { sent: false },
            Outcome::NotTaken("Full"),
            Outcome::Replied { server: "s", node: "n", client: "c", number: 7 },
            Outcome::Failed { may_have_run: true, error: "Timeout" },
            Outcome::Failed { may_have_run: false, error: "NoRoute" },
            Outcome::Report(vec![
                Part::Acked("s", "n"),
                Part::Stored("-", "n"),
                Part::Refused("s", "n", Reason::Expired),
                Part::Silent("s", "n"),
            ]),
            Outcome::Report(Vec::new()),
            Outcome::Dropped,
        ];
        let mut records: Vec<Record<&str>> =
            outcomes.into_iter().map(|outcome| Record::Ended(3, 99, outcome)).collect();
        records.extend(Verb::ALL.map(|(verb, _)| Record::Sent(verb, 8, 0)));
        records.extend([
            Record::Client { client: "c", retries: 3 },
            Record::Server { server: "s", node: "n", run: "r", workers: 1 },
            Record::Observed([1, 2, 3]),
            Record::Sent(Verb::Cast, 8, 900),
            Record::Postponed(8, 1200),
            Record::Ran("c", 5, 0, 0),
            Record::Ran("c", 5, 2, 0),
            Record::Ran("c", 5, 0, 850),
            Record::Requeued("c", 5),
            Record::Handled("c", 5),
            Record::End,
        ]);
        for record in records {
            assert_eq!(Record::parse(&record.to_string()), Ok(record));
        }
    }

    #[test]
    fn what_is_no_record_is_said_to_be_none() {
        for line in
            ["", "cast", "cast x", "cast 1 2 3", "ended 1 2 acked s", "ended 1 2 refused Nothing", "endd", "ran c"]
        {
            assert_eq!(Record::parse(line), Err(Unreadable), "{line:?}");
        }
    }
}
