//! The findings of a check.

use std::collections::BTreeMap;
use std::fmt;

use super::Rule;

/// How many violations of one rule are shown in full.
const SHOWN: usize = 5;

#[derive(Debug, Default)]
pub struct Report {
    pub counts: Counts,
    repeats: Vec<String>,
    violations: BTreeMap<Rule, Violations>,
}

/// Messages by their outcome, and executions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    pub sent: u64,
    /// Messages by outcome, such as `acked` or `refused Busy`.
    pub outcomes: BTreeMap<String, u64>,
    /// Executions of all but notifications.
    pub executions: u64,
    /// Notifications that listeners began to run.
    pub deliveries: u64,
    /// Notifications that the same pool got again without asking for them. Allowed, because a
    /// process died.
    pub repeated: u64,
    /// Messages that a server acknowledged before it was killed, and that nobody ran. Allowed.
    pub lost_with_server: u64,
    /// Messages that several servers ran, because they were sent again. Allowed, because a server
    /// died or was silent.
    pub ran_elsewhere: u64,
    /// Messages that a worker began after their time to live, because its process was stopped
    /// between the check and the start. Allowed.
    pub frozen_at_start: u64,
    pub runs: usize,
    /// Server processes that did not end in order.
    pub killed: usize,
    /// Clients that did not end in order. The outcomes of their last messages are unknown.
    pub open_clients: usize,
}

#[derive(Debug, Default)]
struct Violations {
    count: usize,
    first: Vec<String>,
}

impl Counts {
    pub fn outcome(&self, name: &str) -> u64 {
        self.outcomes.get(name).copied().unwrap_or(0)
    }
}

impl Report {
    pub(super) fn broken(&mut self, rule: Rule, tell: impl FnOnce() -> String) {
        let of_rule = self.violations.entry(rule).or_default();
        of_rule.count += 1;
        if of_rule.first.len() < SHOWN {
            of_rule.first.push(tell());
        }
    }

    pub(super) fn repeated(&mut self, again: usize, tell: impl FnOnce() -> String) {
        self.counts.repeated += again as u64;
        if self.repeats.len() < SHOWN {
            self.repeats.push(tell());
        }
    }

    pub(super) fn count(&mut self, outcome: String) {
        self.counts.sent += 1;
        *self.counts.outcomes.entry(outcome).or_default() += 1;
    }

    /// The rules that were broken, and how often.
    pub fn rules(&self) -> BTreeMap<Rule, usize> {
        self.violations.iter().map(|(rule, of_rule)| (*rule, of_rule.count)).collect()
    }

    /// Fails the test if a rule was broken.
    pub fn assert_clean(&self) {
        assert!(self.violations.is_empty(), "promises were broken:\n{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts {
            sent,
            outcomes,
            executions,
            deliveries,
            repeated,
            lost_with_server,
            ran_elsewhere,
            frozen_at_start,
            runs,
            killed,
            open_clients,
        } = &self.counts;
        write!(f, "{sent} messages:")?;
        for (outcome, count) in outcomes {
            write!(f, " {count} {outcome},")?;
        }
        write!(f, " {executions} executions by {runs} runs of servers ({killed} killed)")?;
        write!(f, ", {lost_with_server} lost with their server, {ran_elsewhere} ran at two servers")?;
        if *deliveries > 0 {
            write!(f, ", {deliveries} deliveries of notifications, {repeated} of them repeated")?;
        }
        if *frozen_at_start > 0 {
            write!(f, ", {frozen_at_start} begun late by workers that had been stopped")?;
        }
        if *open_clients > 0 {
            write!(f, ", {open_clients} clients did not end")?;
        }
        for text in &self.repeats {
            write!(f, "\nrepeated: {text}")?;
        }
        for (rule, of_rule) in &self.violations {
            write!(f, "\n{rule:?}: broken {} times", of_rule.count)?;
            for text in &of_rule.first {
                write!(f, "\n    {text}")?;
            }
            if of_rule.count > of_rule.first.len() {
                write!(f, "\n    ...")?;
            }
        }
        Ok(())
    }
}
