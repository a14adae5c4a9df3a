//! Proves from the journals of a run that the system kept its promises; pure, over what was read.
//!
//! What it judges is what was promised, not what happened to be so: a server that was killed may have lost what it had
//! acknowledged, a message without retries may end without an acknowledgement, and two servers may run one that was sent again.

mod message;
mod report;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::journal::{Name, Outcome, Part, Tapes, Verb};

use message::{Case, Fate};
pub use report::{Counts, Report};

/// A rule that a run can break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Journals are whole: every line can be read, and each client has one.
    Readable,
    /// Every message has exactly one outcome, and the observer was told as many.
    OneOutcome,
    /// What was acknowledged or replied to was run by the server that is named, if it lived until the end.
    AckedRuns,
    /// One process runs a message once at most; all together, too, when it was not sent again.
    RunsOnce,
    /// What was refused before it ran, or never left the client, never runs.
    RefusedNeverRuns,
    /// The casts of a client run at a server with one worker in the order in which they were sent.
    Order,
    /// A reply belongs to its call.
    OwnReply,
    /// Nothing runs that was never sent.
    Sent,
    /// A notification that was acknowledged or stored is handled by a listener of the pool.
    Handled,
    /// Everything was accepted, by clients of which that is [expected](Expected).
    Accepted,
}

/// What holds for one run besides the rules that hold for all.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    accepted: BTreeSet<String>,
    moved: BTreeSet<String>,
    max_deliveries: Option<u16>,
}

impl Expected {
    /// Nothing besides.
    #[must_use]
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Everything that this client sends is acknowledged, stored or replied to; by every server or pool that answers.
    #[must_use]
    pub fn all_accepted(mut self, client: impl Into<String>) -> Self {
        self.accepted.insert(client.into());
        self
    }

    /// What this client sends to a topic may be refused by one node and taken by another, and run there after what was sent
    /// later: its order is promised only for what it sends to one server by name.
    #[must_use]
    pub fn may_move(mut self, client: impl Into<String>) -> Self {
        self.moved.insert(client.into());
        self
    }

    /// A notification that was delivered so often may be left unhandled: it is a dead letter.
    #[must_use]
    pub fn max_deliveries(mut self, deliveries: u16) -> Self {
        self.max_deliveries = Some(deliveries);
        self
    }
}

/// Holds the journals of a run against the rules.
#[must_use]
pub fn check(tapes: &Tapes, expected: &Expected) -> Report {
    let mut report = Report::default();
    for line in &tapes.unreadable {
        report.broken(Rule::Readable, || format!("cannot be read: {line}"));
    }
    let mut runs: HashMap<Name, Vec<usize>> = HashMap::new();
    for (at, server) in tapes.servers.iter().enumerate() {
        runs.entry(server.server).or_default().push(at);
        report.counts.runs += 1;
        report.counts.killed += usize::from(!server.ended);
    }
    let mut fates = gather(tapes, &mut report);
    attach(tapes, &mut fates, &mut report);
    for client in &tapes.clients {
        let Some(of_client) = fates.get(&client.client) else { continue };
        let accepted = expected.accepted.contains(tapes.names.text(client.client));
        let mut numbers: Vec<_> = of_client.keys().copied().collect();
        numbers.sort_unstable();
        for number in numbers {
            let fate = &of_client[&number];
            Case { tapes, runs: &runs, expected, client, number, fate, accepted }.judge(&mut report);
        }
    }
    order(tapes, &fates, expected, &mut report);
    for client in &expected.accepted {
        let known = tapes.clients.iter().any(|tape| tapes.names.text(tape.client) == client);
        if !known {
            report.broken(Rule::Readable, || format!("client {client} has no journal"));
        }
    }
    report
}

type Fates = HashMap<Name, HashMap<u64, Fate>>;

/// What each client sent and was told.
fn gather(tapes: &Tapes, report: &mut Report) -> Fates {
    let mut fates = Fates::new();
    for tape in &tapes.clients {
        if fates.contains_key(&tape.client) {
            report.broken(Rule::Readable, || format!("{tape}: another client has this name, too"));
            continue;
        }
        let mut of_client: HashMap<u64, Fate> = HashMap::with_capacity(tape.sent.len());
        for &(verb, number, line) in &tape.sent {
            if of_client.insert(number, Fate::new(verb, line)).is_some() {
                report.broken(Rule::Readable, || format!("{tape}:{line}: number {number} was given out twice"));
            }
        }
        let mut totals = [0_u64; 3];
        for (at, told) in tape.told.iter().enumerate() {
            let line = told.line;
            let Some(fate) = of_client.get_mut(&told.number) else {
                report.broken(Rule::OneOutcome, || format!("{tape}:{line}: an outcome of {}, never sent", told.number));
                continue;
            };
            if fate.told.is_some() {
                report.broken(Rule::OneOutcome, || format!("{tape}:{line}: a second outcome of {}", told.number));
                continue;
            }
            fate.told = Some(at);
            match &told.outcome {
                Outcome::Acked { .. } => totals[0] += 1,
                Outcome::Refused(_) if fate.verb == Verb::Cast => totals[1] += 1,
                Outcome::Unacknowledged { .. } => totals[2] += 1,
                Outcome::Report(parts) => parts.iter().for_each(|part| match part {
                    Part::Acked(..) | Part::Stored(..) => totals[0] += 1,
                    Part::Refused(..) => totals[1] += 1,
                    Part::Silent(..) => totals[2] += 1,
                }),
                _ => {}
            }
        }
        if let Some(observed) = tape.observed
            && observed != totals
        {
            report.broken(Rule::OneOutcome, || {
                format!("{tape}: handles had {totals:?} accepted, refused, unacknowledged; the observer {observed:?}")
            });
        }
        report.counts.open_clients += usize::from(!tape.ended);
        fates.insert(tape.client, of_client);
    }
    fates
}

/// Which servers ran it.
fn attach(tapes: &Tapes, fates: &mut Fates, report: &mut Report) {
    for (server, tape) in tapes.servers.iter().enumerate() {
        for (at, run) in tape.executed.iter().enumerate() {
            match fates.get_mut(&run.client).and_then(|of_client| of_client.get_mut(&run.number)) {
                Some(fate) => {
                    let counts = &mut report.counts;
                    let of_verb = match fate.verb {
                        Verb::Notify => &mut counts.deliveries,
                        _ => &mut counts.executions,
                    };
                    *of_verb += 1;
                    fate.ran.push((server as u32, at as u32));
                }
                None => report.broken(Rule::Sent, || {
                    let client = tapes.names.text(run.client);
                    format!("{tape}:{}: ran {client}/{}, which was never sent", run.line, run.number)
                }),
            }
        }
    }
}

/// Numbers are given out in the order of sending.
fn order(tapes: &Tapes, fates: &Fates, expected: &Expected, report: &mut Report) {
    let moves = |client: Name| expected.moved.contains(tapes.names.text(client));
    let in_order = tapes.clients.iter().filter(|tape| tape.retries == 0 && !moves(tape.client));
    let in_order: HashSet<Name> = in_order.map(|tape| tape.client).collect();
    for tape in tapes.servers.iter().filter(|tape| tape.workers == 1) {
        let mut last: HashMap<Name, (u64, u32)> = HashMap::new();
        for run in tape.executed.iter().filter(|run| in_order.contains(&run.client)) {
            let fate = fates.get(&run.client).and_then(|of_client| of_client.get(&run.number));
            if fate.is_none_or(|fate| fate.verb != Verb::Cast) {
                continue;
            }
            let before = last.entry(run.client).or_insert((run.number, run.line));
            if run.number < before.0 {
                report.broken(Rule::Order, || {
                    let client = tapes.names.text(run.client);
                    let (number, line) = before;
                    format!("{tape}:{}: {client}/{} ran after {client}/{number} (line {line})", run.line, run.number)
                });
            } else {
                *before = (run.number, run.line);
            }
        }
    }
}
