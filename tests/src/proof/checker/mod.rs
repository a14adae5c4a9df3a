//! Checks the journals of a run against the promises. It is pure: it sees only the journals.
//!
//! It checks what was promised and nothing else. A killed server may have lost messages that it had
//! acknowledged. A message without retries may end without an acknowledgement. Two servers may run
//! a message that was sent again.

mod message;
mod report;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::journal::{Journals, Name, Outcome, Part, SentMessage, Verb};

use message::{MessageCheck, MessageHistory};
pub use report::{Counts, Report};

/// How late a message may begin to run, in milliseconds. Clocks of two nodes are compared only
/// within the time of a round trip, and a busy machine may interrupt a worker between its check and
/// its journal.
const SLACK: u64 = 250;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Journals are whole: every line can be read, and each client has one.
    Readable,
    /// Every message has exactly one outcome, and the observer saw the same number.
    OneOutcome,
    /// A message that was acknowledged or replied to was run by the named server, if that server
    /// lived until the end.
    AckedRuns,
    /// One process runs a message at most once. So do all processes together, if it was not sent
    /// again.
    RunsOnce,
    /// A message that was refused before it ran, or never left the client, never runs.
    RefusedNeverRuns,
    /// A server with one worker runs the casts of a client in the order in which they were sent.
    Order,
    /// No message begins to run after its time to live.
    InTime,
    /// A reply belongs to the call that gets it.
    OwnReply,
    /// A server runs only messages that a client sent.
    Sent,
    /// A notification that was acknowledged or stored is handled by a listener of the pool.
    Handled,
    /// Every message of a client is accepted, if this is [expected](Expected) of the client.
    Accepted,
}

/// Rules for one run, in addition to those for every run.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    accepted: BTreeSet<String>,
    moved: BTreeSet<String>,
    max_deliveries: Option<u16>,
    frozen: Vec<Frozen>,
}

/// A server that was stopped with SIGSTOP for a while, in milliseconds of the machine's monotonic
/// clock.
#[derive(Debug, Clone)]
struct Frozen {
    server: String,
    from: u64,
    until: u64,
}

impl Expected {
    /// No additional rules.
    #[must_use]
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Everything that this client sends is acknowledged, stored or replied to, by every server or
    /// pool that answers.
    #[must_use]
    pub fn all_accepted(mut self, client: impl Into<String>) -> Self {
        self.accepted.insert(client.into());
        self
    }

    /// One node may refuse a message of this client, and another node may run it after later ones.
    /// So its order is promised only for messages to one named server.
    #[must_use]
    pub fn may_move(mut self, client: impl Into<String>) -> Self {
        self.moved.insert(client.into());
        self
    }

    /// A notification that was delivered this often may stay unhandled: it is a dead letter.
    #[must_use]
    pub fn max_deliveries(mut self, deliveries: u16) -> Self {
        self.max_deliveries = Some(deliveries);
        self
    }

    /// This server was stopped with SIGSTOP between these two times. Its workers may have checked a
    /// message just before, and run it right after.
    #[must_use]
    pub fn frozen(mut self, server: impl Into<String>, from: u64, until: u64) -> Self {
        self.frozen.push(Frozen { server: server.into(), from, until });
        self
    }

    /// Whether a worker of `server` may have checked the time to live before a freeze, and began to
    /// run the message at `at` after it.
    fn was_frozen(&self, server: &str, expires: u64, at: u64) -> bool {
        let mut of_server = self.frozen.iter().filter(|frozen| frozen.server == server);
        of_server.any(|frozen| frozen.from <= expires + SLACK && at <= frozen.until + SLACK)
    }
}

/// Checks the journals of a run against the rules.
pub fn check(journals: &Journals, expected: &Expected) -> Report {
    let mut report = Report::default();
    for line in &journals.unreadable {
        report.broken(Rule::Readable, || format!("cannot be read: {line}"));
    }
    let mut runs: HashMap<Name, Vec<usize>> = HashMap::new();
    for (at, server) in journals.servers.iter().enumerate() {
        runs.entry(server.server).or_default().push(at);
        report.counts.runs += 1;
        report.counts.killed += usize::from(!server.ended);
    }
    let mut histories = collect_messages(journals, &mut report);
    add_executions(journals, &mut histories, &mut report);
    for client in &journals.clients {
        let Some(of_client) = histories.get(&client.client) else { continue };
        let accepted = expected.accepted.contains(journals.names.text(client.client));
        let mut numbers: Vec<_> = of_client.keys().copied().collect();
        numbers.sort_unstable();
        for number in numbers {
            let history = &of_client[&number];
            MessageCheck { journals, runs: &runs, expected, client, number, history, accepted }.check(&mut report);
        }
    }
    check_order(journals, &histories, expected, &mut report);
    for client in &expected.accepted {
        let known = journals.clients.iter().any(|journal| journals.names.text(journal.client) == client);
        if !known {
            report.broken(Rule::Readable, || format!("client {client} has no journal"));
        }
    }
    report
}

type Histories = HashMap<Name, HashMap<u64, MessageHistory>>;

/// Collects the messages that each client sent, and the outcomes that it saw.
fn collect_messages(journals: &Journals, report: &mut Report) -> Histories {
    let mut histories = Histories::new();
    for journal in &journals.clients {
        if histories.contains_key(&journal.client) {
            report.broken(Rule::Readable, || format!("{journal}: another client has this name, too"));
            continue;
        }
        let mut of_client: HashMap<u64, MessageHistory> = HashMap::with_capacity(journal.sent.len());
        for &SentMessage { verb, number, expires, line } in &journal.sent {
            if of_client.insert(number, MessageHistory::new(verb, expires, line)).is_some() {
                report.broken(Rule::Readable, || format!("{journal}:{line}: number {number} was given out twice"));
            }
        }
        let mut totals = [0_u64; 3];
        for (at, reported) in journal.outcomes.iter().enumerate() {
            let line = reported.line;
            let Some(history) = of_client.get_mut(&reported.number) else {
                report.broken(Rule::OneOutcome, || {
                    format!("{journal}:{line}: an outcome of {}, which was never sent", reported.number)
                });
                continue;
            };
            if history.reported.is_some() {
                report
                    .broken(Rule::OneOutcome, || format!("{journal}:{line}: a second outcome of {}", reported.number));
                continue;
            }
            history.reported = Some(at);
            match &reported.outcome {
                Outcome::Acked { .. } => totals[0] += 1,
                Outcome::Refused(_) if history.verb == Verb::Cast => totals[1] += 1,
                Outcome::Unacknowledged { .. } => totals[2] += 1,
                Outcome::Report(parts) => parts.iter().for_each(|part| match part {
                    Part::Acked(..) | Part::Stored(..) => totals[0] += 1,
                    Part::Refused(..) => totals[1] += 1,
                    Part::Silent(..) => totals[2] += 1,
                }),
                _ => {}
            }
        }
        if let Some(observed) = journal.observed
            && observed != totals
        {
            report.broken(Rule::OneOutcome, || {
                format!(
                    "{journal}: handles had {totals:?} accepted, refused, unacknowledged; the observer saw {observed:?}"
                )
            });
        }
        report.counts.open_clients += usize::from(!journal.ended);
        histories.insert(journal.client, of_client);
    }
    histories
}

/// Adds the executions to the messages.
fn add_executions(journals: &Journals, histories: &mut Histories, report: &mut Report) {
    for (server, journal) in journals.servers.iter().enumerate() {
        for (at, run) in journal.executions.iter().enumerate() {
            match histories.get_mut(&run.client).and_then(|of_client| of_client.get_mut(&run.number)) {
                Some(history) => {
                    let counts = &mut report.counts;
                    let of_verb = match history.verb {
                        Verb::Notify => &mut counts.deliveries,
                        _ => &mut counts.executions,
                    };
                    *of_verb += 1;
                    history.ran.push((server as u32, at as u32));
                }
                None => report.broken(Rule::Sent, || {
                    let client = journals.names.text(run.client);
                    format!("{journal}:{}: ran {client}/{}, which was never sent", run.line, run.number)
                }),
            }
        }
    }
}

/// Checks the order of casts. A client numbers its messages in the order in which it sends them.
fn check_order(journals: &Journals, histories: &Histories, expected: &Expected, report: &mut Report) {
    let moves = |client: Name| expected.moved.contains(journals.names.text(client));
    let in_order = journals.clients.iter().filter(|journal| journal.retries == 0 && !moves(journal.client));
    let in_order: HashSet<Name> = in_order.map(|journal| journal.client).collect();
    for journal in journals.servers.iter().filter(|journal| journal.workers == 1) {
        let mut last: HashMap<Name, (u64, u32)> = HashMap::new();
        for run in journal.executions.iter().filter(|run| in_order.contains(&run.client)) {
            let history = histories.get(&run.client).and_then(|of_client| of_client.get(&run.number));
            if history.is_none_or(|history| history.verb != Verb::Cast) {
                continue;
            }
            let before = last.entry(run.client).or_insert((run.number, run.line));
            if run.number < before.0 {
                report.broken(Rule::Order, || {
                    let client = journals.names.text(run.client);
                    let (number, line) = before;
                    format!("{journal}:{}: {client}/{} ran after {client}/{number} (line {line})", run.line, run.number)
                });
            } else {
                *before = (run.number, run.line);
            }
        }
    }
}
