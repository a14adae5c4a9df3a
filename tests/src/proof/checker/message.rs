//! Checks the rules about one message.

use std::collections::{HashMap, HashSet};

use zmqv2_proto::Reason;

use super::{Expected, Report, Rule, SLACK};
use crate::journal::{ClientJournal, Execution, Journals, Name, Outcome, Part, ReportedOutcome, ServerJournal, Verb};

/// Stands for an unknown name.
const UNKNOWN: &str = "-";

/// Everything that the journals say about one message.
#[derive(Debug)]
pub(super) struct MessageHistory {
    pub(super) verb: Verb,
    expires: u64,
    line: u32,
    /// The index of its outcome among the outcomes of its client.
    pub(super) reported: Option<usize>,
    /// Each execution: the index of the server's journal, and the index in that journal.
    pub(super) ran: Vec<(u32, u32)>,
}

impl MessageHistory {
    pub(super) fn new(verb: Verb, expires: u64, line: u32) -> Self {
        Self { verb, expires, line, reported: None, ran: Vec::new() }
    }
}

/// One message, with everything that its rules depend on.
pub(super) struct MessageCheck<'a> {
    pub(super) journals: &'a Journals,
    /// The journals of each server name, by index.
    pub(super) runs: &'a HashMap<Name, Vec<usize>>,
    pub(super) expected: &'a Expected,
    pub(super) client: &'a ClientJournal,
    pub(super) number: u64,
    pub(super) history: &'a MessageHistory,
    /// Whether the message must be accepted.
    pub(super) accepted: bool,
}

impl MessageCheck<'_> {
    pub(super) fn check(&self, report: &mut Report) {
        self.runs_once(report);
        self.runs_in_time(report);
        let Some(reported) = self.history.reported.map(|at| &self.client.outcomes[at]) else {
            report.count("without outcome".to_owned());
            if self.client.ended {
                report.broken(Rule::OneOutcome, || format!("{}: no outcome", self.title(self.history.line)));
            }
            return;
        };
        report.count(name_of(&reported.outcome, self.journals));
        let accepted = match &reported.outcome {
            Outcome::Acked { .. } | Outcome::Replied { .. } => true,
            Outcome::Report(parts) => {
                !parts.is_empty() && parts.iter().all(|part| matches!(part, Part::Acked(..) | Part::Stored(..)))
            }
            _ => false,
        };
        if self.accepted && !accepted {
            let outcome = name_of(&reported.outcome, self.journals);
            report.broken(Rule::Accepted, || format!("{}: {outcome}", self.title(reported.line)));
        }
        match &reported.outcome {
            Outcome::Acked { server, node } => self.acked(reported, *server, *node, report),
            Outcome::Replied { server, node, client, number } => {
                if (*client, *number) != (self.client.client, self.number) {
                    report.broken(Rule::OwnReply, || {
                        format!("{}: the reply was to {}/{number}", self.title(reported.line), self.text(*client))
                    });
                } else if !self.ran_at(*server).any(|(journal, _)| journal.node == *node) {
                    // A handler writes its journal before it replies, so a kill cannot be the
                    // reason.
                    self.broken(
                        Rule::AckedRuns,
                        reported,
                        &format!("was not run there but by {}", self.who_ran()),
                        report,
                    );
                }
            }
            Outcome::Refused(reason) if never_runs(*reason, self.history.verb) => self.must_not_run(reported, report),
            Outcome::Unacknowledged { sent: false } | Outcome::NotTaken(_) => self.must_not_run(reported, report),
            Outcome::Failed { may_have_run: false, .. } => self.must_not_run(reported, report),
            Outcome::Refused(_)
            | Outcome::Unacknowledged { sent: true }
            | Outcome::Failed { .. }
            | Outcome::Dropped => {}
            Outcome::Report(parts) if self.history.verb == Verb::Notify => {
                parts.iter().for_each(|part| self.notified(reported, part, report));
            }
            Outcome::Report(parts) => self.fanned_out(reported, parts, report),
        }
    }

    fn runs_once(&self, report: &mut Report) {
        if self.history.verb == Verb::Notify {
            let mut pools = HashSet::new();
            let again =
                self.executions().filter(|(journal, run)| !run.requeued && !pools.insert(journal.server)).count();
            if again > 0 {
                let deliveries = self.executions().map(|(journal, run)| {
                    let end = if run.requeued {
                        "requeued"
                    } else if run.handled {
                        "handled"
                    } else {
                        "begun"
                    };
                    format!("{journal}:{} delivery {} {end}", run.line, run.delivery)
                });
                let deliveries: Vec<_> = deliveries.collect();
                report.repeated(again, || format!("{}: {}", self.title(self.history.line), deliveries.join(", ")));
            }
        }
        let runs: Vec<_> =
            self.executions().filter(|(_, run)| self.history.verb != Verb::Notify || !run.requeued).collect();
        for (at, (journal, run)) in runs.iter().enumerate() {
            if let Some((_, first)) = runs[..at].iter().find(|(earlier, _)| std::ptr::eq(*earlier, *journal)) {
                report.broken(Rule::RunsOnce, || {
                    format!(
                        "{}: ran again at {journal}:{}, after line {}",
                        self.title(self.history.line),
                        run.line,
                        first.line
                    )
                });
                return;
            }
        }
        let to_one = matches!(self.history.verb, Verb::Cast | Verb::Call);
        if to_one && runs.len() > 1 {
            report.counts.ran_elsewhere += 1;
            if self.client.retries == 0 {
                let who = self.who_ran();
                report.broken(Rule::RunsOnce, || format!("{}: sent once, ran at {who}", self.title(self.history.line)));
            }
        }
    }

    fn runs_in_time(&self, report: &mut Report) {
        let expires = self.history.expires;
        let late = |at: u64| expires > 0 && at > expires + SLACK;
        for (journal, run) in self.executions().filter(|(_, run)| late(run.at)) {
            if self.expected.was_frozen(self.text(journal.server), expires, run.at) {
                report.counts.frozen_at_start += 1;
            } else {
                report.broken(Rule::InTime, || {
                    let (title, after) = (self.title(self.history.line), run.at - expires);
                    format!("{title}: began {after} ms after its time to live at {journal}:{}", run.line)
                });
            }
        }
    }

    /// A server that acknowledged a message runs it, unless that server was killed.
    fn acked(&self, reported: &ReportedOutcome, server: Name, node: Name, report: &mut Report) {
        if self.ran_at(server).any(|(journal, _)| journal.node == node) {
            return;
        }
        let mut runs = self.runs_of(server).filter(|journal| journal.node == node).peekable();
        if runs.peek().is_none() {
            self.broken(Rule::AckedRuns, reported, "there is no such server at that node", report);
        } else if runs.all(|journal| journal.ended) {
            let who =
                if self.history.ran.is_empty() { "never run".to_owned() } else { format!("run by {}", self.who_ran()) };
            self.broken(
                Rule::AckedRuns,
                reported,
                &format!("that server has lived to its end, and it was {who}"),
                report,
            );
        } else if self.history.ran.is_empty() {
            report.counts.lost_with_server += 1;
        }
    }

    fn must_not_run(&self, reported: &ReportedOutcome, report: &mut Report) {
        if !self.history.ran.is_empty() {
            let who = self.who_ran();
            self.broken(Rule::RefusedNeverRuns, reported, &format!("and was run by {who}"), report);
        }
    }

    /// Every server that accepted it runs it, and a server that refused it does not.
    fn fanned_out(&self, reported: &ReportedOutcome, parts: &[Part<Name>], report: &mut Report) {
        let mut acks: HashMap<Name, usize> = HashMap::new();
        for part in parts {
            if let Part::Acked(server, _) = part {
                *acks.entry(*server).or_default() += 1;
            }
        }
        // Two processes with one name give two answers.
        for (server, count) in &acks {
            let ran = self.ran_at(*server).count();
            let killed = self.runs_of(*server).filter(|journal| !journal.ended).count();
            if ran + killed < *count {
                let text = format!("{} acknowledged it {count} times and ran it {ran} times", self.text(*server));
                self.broken(Rule::AckedRuns, reported, &text, report);
            }
        }
        for part in parts {
            let Part::Refused(server, node, reason) = part else { continue };
            let anybody = self.text(*server) == UNKNOWN;
            let concerned = |journal: &ServerJournal| {
                journal.node == *node && (anybody || (journal.server == *server && !acks.contains_key(server)))
            };
            if never_runs(*reason, Verb::Fanout) && self.executions().any(|(journal, _)| concerned(journal)) {
                let who = self.who_ran();
                self.broken(Rule::RefusedNeverRuns, reported, &format!("and was run by {who}"), report);
            }
        }
    }

    /// A listener of the pool handles a notification that the pool accepted or a broker stored. A
    /// refused notification does not run.
    fn notified(&self, reported: &ReportedOutcome, part: &Part<Name>, report: &mut Report) {
        let (Part::Acked(pool, _) | Part::Stored(pool, _)) = part else {
            if let Part::Refused(pool, node, reason) = part {
                let concerned = |journal: &ServerJournal| {
                    journal.node == *node && (self.text(*pool) == UNKNOWN || journal.server == *pool)
                };
                if never_runs(*reason, Verb::Notify) && self.executions().any(|(journal, _)| concerned(journal)) {
                    let who = self.who_ran();
                    self.broken(Rule::RefusedNeverRuns, reported, &format!("and was run by {who}"), report);
                }
            }
            return;
        };
        let any = self.text(*pool) == UNKNOWN;
        let listeners = || self.journals.servers.iter().filter(|journal| any || journal.server == *pool);
        let runs = || self.executions().filter(|(journal, _)| any || journal.server == *pool);
        let handled = runs().any(|(_, run)| run.handled);
        let most = runs().map(|(_, run)| run.delivery).max().unwrap_or(0);
        let dead = self.expected.max_deliveries.is_some_and(|limit| most >= limit);
        // If all listeners of the pool were killed, the notification may still be waiting for one.
        if !handled && !dead && listeners().any(|journal| journal.ended) {
            let text = format!("pool {} was given it {most} times and did not handle it", self.text(*pool));
            self.broken(Rule::Handled, reported, &text, report);
        }
    }

    fn executions(&self) -> impl Iterator<Item = (&ServerJournal, &Execution)> {
        let journal = |at: u32| &self.journals.servers[at as usize];
        self.history.ran.iter().map(move |(server, at)| (journal(*server), &journal(*server).executions[*at as usize]))
    }

    fn ran_at(&self, server: Name) -> impl Iterator<Item = (&ServerJournal, &Execution)> {
        self.executions().filter(move |(journal, _)| journal.server == server)
    }

    fn runs_of(&self, server: Name) -> impl Iterator<Item = &ServerJournal> {
        self.runs.get(&server).into_iter().flatten().map(|at| &self.journals.servers[*at])
    }

    fn who_ran(&self) -> String {
        let who: Vec<_> = self.executions().map(|(journal, run)| format!("{journal}:{}", run.line)).collect();
        if who.is_empty() { "nobody".to_owned() } else { who.join(" and ") }
    }

    fn text(&self, name: Name) -> &str {
        self.journals.names.text(name)
    }

    fn title(&self, line: u32) -> String {
        let (client, number) = (self.text(self.client.client), self.number);
        format!("{} {client}/{number} ({}:{line})", self.history.verb, self.client)
    }

    fn broken(&self, rule: Rule, reported: &ReportedOutcome, what: &str, report: &mut Report) {
        report.broken(rule, || {
            let outcome = match &reported.outcome {
                Outcome::Acked { server, node } | Outcome::Replied { server, node, .. } => {
                    format!("answered by {} at {}", self.text(*server), self.text(*node))
                }
                other => name_of(other, self.journals),
            };
            format!("{}: {outcome}, {what}", self.title(reported.line))
        });
    }
}

/// Whether this reason promises that the message did not run and never will.
fn never_runs(reason: Reason, verb: Verb) -> bool {
    // Of a call, `TooLarge` may speak of the reply. Other messages have none.
    !reason.may_have_run() || (reason == Reason::TooLarge && verb != Verb::Call)
}

/// The name under which an outcome is counted, without servers and nodes.
fn name_of(outcome: &Outcome<Name>, journals: &Journals) -> String {
    match outcome {
        Outcome::Acked { .. } => "acked".to_owned(),
        Outcome::Replied { .. } => "replied".to_owned(),
        Outcome::Report(parts) => {
            let mut words: Vec<String> = parts
                .iter()
                .map(|part| match part {
                    Part::Acked(..) => "acked".to_owned(),
                    Part::Stored(..) => "stored".to_owned(),
                    Part::Refused(_, _, reason) => format!("refused {reason}"),
                    Part::Silent(..) => "silent".to_owned(),
                })
                .collect();
            words.sort_unstable();
            format!("reported {}", words.join("+"))
        }
        Outcome::Refused(reason) => format!("refused {reason}"),
        Outcome::Unacknowledged { sent: true } => "unacknowledged sent".to_owned(),
        Outcome::Unacknowledged { sent: false } => "unacknowledged unsent".to_owned(),
        Outcome::NotTaken(error) => format!("not taken {}", journals.names.text(*error)),
        Outcome::Dropped => "dropped".to_owned(),
        Outcome::Failed { error, .. } => format!("failed {}", journals.names.text(*error)),
    }
}
