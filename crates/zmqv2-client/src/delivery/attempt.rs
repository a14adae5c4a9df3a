//! The rules of delivery for one request: which candidate is asked next, what is tried again and
//! when, and how the request ends.
//!
//! Pure: no socket, clock, thread or allocation. The table of pending messages holds one
//! [`Attempt`] per message; a blocking call that is alone drives one over a REQ socket. Both do
//! the next [`Step`] and report the result, so both follow the same rules.
//!
//! A *round* asks each candidate once. An *attempt* lasts until the request may have run, or
//! until its rounds have failed. Each retry starts another attempt.

use std::time::{Duration, Instant};

use zmqv2_proto::{NextStep, NodeName, Refusal, deadline};

/// How long a message that waits for a server pauses before the directory is asked again.
pub(crate) const LOOKUP_INTERVAL: Duration = Duration::from_millis(200);
/// How long a message that waits for the directory's first answer pauses before it looks for it.
const ANSWER_INTERVAL: Duration = Duration::from_millis(50);
/// Rounds over many candidates are at least this far apart for each candidate.
const LOOKUP_INTERVAL_PER_CANDIDATE: Duration = Duration::from_millis(1);
/// The pause before a retry if no candidate has taken the message.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// An attempt that more retries follow lasts at least this long, twice as long after each retry,
/// and so on up to [`LONGEST_DISTANCE`]. Otherwise many retries would leave no attempt enough time
/// for an answer.
const SHORTEST_ATTEMPT: Duration = Duration::from_millis(50);
/// The first retry of a request whose server was lost begins at least this long after its last
/// send, and each further one after twice the time, up to [`LONGEST_DISTANCE`]. Otherwise a peer
/// that loses every request at once would get thousands of them.
const SHORTEST_DISTANCE: Duration = Duration::from_millis(10);
const LONGEST_DISTANCE: Duration = Duration::from_secs(1);
/// A retry with less time than this is not worth its cost.
const LEAST_TIME_LEFT: Duration = Duration::from_millis(1);
/// So many retries after lost connections begin at once: the messages of a connection keep their
/// order that way, and a link makes a pause of its own before it connects again.
const PROMPT_RECONNECTS: u32 = 2;
/// A broker sends the refusal `Expired` when the time to live ends. The client waits this much
/// longer for it.
pub(crate) const ANSWER_GRACE: Duration = Duration::from_millis(25);

/// The progress of one request.
#[derive(Debug)]
pub(crate) struct Attempt {
    deadline: Instant,
    time_per_attempt: Duration,
    /// The end of this attempt.
    until: Instant,
    retries_left: u32,
    retries_used: u32,
    has_retries: bool,
    /// Shortens pauses. See [`Attempt::new`].
    jitter: u8,
    /// When a candidate was asked last.
    asked_at: Instant,
    /// No candidate is asked before.
    not_before: Instant,
    /// The present candidate is asked after the pause. No other round begins.
    asks_after_pause: bool,
    wait_for_ready: bool,
    /// Whether it is for one server, which is searched for again before each retry.
    searches: bool,
    /// The candidates of this round, the present one, and how many were tried before it.
    candidates: usize,
    candidate: usize,
    tried: usize,
    /// Whether other nodes may be asked after this round.
    has_alternatives: bool,
    /// Whether a candidate of this round could not be reached.
    some_not_reached: bool,
    round_over: bool,
    /// Whether the directory is asked after the pause.
    look_up_after_pause: bool,
    /// Whether the directory has not answered yet, so that other candidates may come.
    preliminary: bool,
    /// The refusal of this round that tells the caller most.
    refusal: Option<(Refusal, Option<NodeName>)>,
    /// Why the request may have run, and the candidate that may have run it. The latest one.
    doubt: Option<(AskError, usize)>,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Ask this candidate; then [`Attempt::failed`], unless it answers.
    Ask(usize),
    /// Look up the candidates; then [`Attempt::found`].
    LookUp,
    /// The server is not at the node that was asked last: forget that it was there, then as
    /// [`LookUp`](Self::LookUp).
    SearchAgain,
    /// Wait until then; then [`Attempt::resume`].
    Pause { until: Instant },
    /// The request has ended.
    End(Verdict),
}

/// Why a candidate that was asked gave no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AskError {
    /// The candidate refused, or the node with this name.
    Refused(Refusal, Option<NodeName>),
    /// There was no connection in time. Nothing was sent.
    NotReached,
    /// The connection broke after the request was sent.
    ConnectionLost,
    /// The request was sent, and no answer came in time.
    NoAnswer,
}

impl AskError {
    /// Whether the server of the request is at the node that was asked, if this error tells.
    pub(crate) fn server_is_there(&self) -> Option<bool> {
        match self {
            Self::Refused(refusal, _) => match refusal.reason.next_step() {
                NextStep::OtherNode { server_is_there, .. } => Some(server_is_there),
                NextStep::Retry => Some(false),
                _ => None,
            },
            Self::ConnectionLost => Some(false),
            Self::NotReached | Self::NoAnswer => None,
        }
    }
}

/// How a request without a result ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Refused, and no other candidate has taken it.
    Refused(Refusal, Option<NodeName>),
    /// The directory knows no candidate.
    NoCandidate,
    /// The request waited for a server until the deadline, and no server took it.
    NeverReady,
    /// No candidate could be reached. This is the last one that was tried.
    Unreachable { candidate: usize },
    /// The connection broke after the request was sent to this candidate.
    ConnectionLost { candidate: usize },
    /// This candidate has the request and did not answer in time.
    NoAnswer { candidate: usize },
    /// The client was closed.
    Closed { sent: bool },
}

/// What a lookup has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SearchPlan {
    /// How many nodes to ask.
    pub(crate) candidates: usize,
    /// Whether the only candidate is the node where the server was last, or the only possible one.
    pub(crate) known: bool,
    /// Whether other nodes can be asked if the server is not there.
    pub(crate) has_alternatives: bool,
    /// Whether the directory has not answered yet. If these candidates do not have the server, the
    /// request waits for its answer.
    pub(crate) preliminary: bool,
}

impl SearchPlan {
    /// A plan to ask this many nodes. None of them is known to be the right one.
    pub(crate) fn among(candidates: usize) -> Self {
        Self { candidates, ..Self::default() }
    }
}

impl Attempt {
    /// A request that starts now. The first step is a lookup. `jitter` shortens the pauses of
    /// retries, by up to a half. Clients have different ones, so that they do not retry together.
    pub(crate) fn new(
        now: Instant,
        deadline: Instant,
        retries: u32,
        jitter: u8,
        wait_for_ready: bool,
        searches: bool,
    ) -> Self {
        let time_per_attempt = deadline.saturating_duration_since(now) / retries.saturating_add(1);
        let mut attempt = Self {
            deadline,
            time_per_attempt,
            until: deadline,
            retries_left: retries,
            retries_used: 0,
            has_retries: retries > 0,
            jitter,
            asked_at: now,
            not_before: now,
            asks_after_pause: false,
            wait_for_ready,
            searches,
            candidates: 0,
            candidate: 0,
            tried: 0,
            has_alternatives: false,
            some_not_reached: false,
            round_over: false,
            look_up_after_pause: false,
            preliminary: false,
            refusal: None,
            doubt: None,
        };
        if retries > 0 {
            attempt.until = attempt.end_from(now);
        }
        attempt
    }

    /// A lookup has found these candidates, perhaps none.
    pub(crate) fn found(&mut self, now: Instant, plan: SearchPlan) -> Step {
        self.preliminary = plan.preliminary;
        if plan.candidates == 0 {
            return match (&self.doubt, self.waits()) {
                (Some(_), _) => self.end_round(now),
                (None, true) => self.pause_before_lookup(now),
                (None, false) => Step::End(Verdict::NoCandidate),
            };
        }
        self.start_round();
        (self.candidate, self.candidates) = (0, plan.candidates);
        self.has_alternatives = self.searches && plan.has_alternatives;
        self.ask(now)
    }

    /// The candidate that was asked gave no result.
    pub(crate) fn failed(&mut self, now: Instant, error: AskError) -> Step {
        self.failed_in_queue(now, error, |_| false)
    }

    /// The directory has not answered the lookup of this request yet.
    pub(super) fn set_preliminary(&mut self, preliminary: bool) {
        self.preliminary = preliminary;
    }

    /// As [`failed`](Self::failed). If the request did not run and may be tried further,
    /// `must_search` decides whether a search replaces the next candidate.
    pub(super) fn failed_in_queue(
        &mut self,
        now: Instant,
        error: AskError,
        must_search: impl FnOnce(&Self) -> bool,
    ) -> Step {
        match error {
            AskError::NotReached => self.some_not_reached = true,
            AskError::ConnectionLost | AskError::NoAnswer => return self.doubted(now, error),
            AskError::Refused(ref refusal, _) if refusal.reason.next_step() == NextStep::Retry => {
                return self.doubted(now, error);
            }
            AskError::Refused(refusal, node) if !refusal.reason.another_node_may_take_it() => {
                return match &self.doubt {
                    Some(_) if !refusal.may_have_run() => self.give_up(),
                    _ => Step::End(Verdict::Refused(refusal, node)),
                };
            }
            AskError::Refused(refusal, node) => self.keep_refusal(refusal, node),
        }
        if now >= self.deadline {
            return self.give_up();
        }
        if must_search(self) || (self.has_alternatives && !self.is_busy()) {
            return Step::SearchAgain;
        }
        self.tried += 1;
        if self.tried >= self.candidates {
            return self.end_round(now);
        }
        self.advance_candidate();
        self.ask(now)
    }

    /// The pause has ended.
    pub(crate) fn resume(&mut self, now: Instant) -> Step {
        if now >= self.deadline {
            return self.give_up();
        }
        if std::mem::take(&mut self.asks_after_pause) {
            return self.ask(now);
        }
        self.start_round();
        // The next candidate, because the last one may be gone.
        self.advance_candidate();
        if self.look_up_after_pause { Step::LookUp } else { self.ask(now) }
    }

    /// Asks the present candidate, perhaps once more.
    pub(super) fn ask(&mut self, now: Instant) -> Step {
        if now >= self.deadline {
            return self.give_up();
        }
        if now < self.not_before {
            self.asks_after_pause = true;
            return Step::Pause { until: self.not_before.min(self.deadline) };
        }
        self.asked_at = now;
        Step::Ask(self.candidate)
    }

    /// Nothing more is tried.
    pub(super) fn give_up(&mut self) -> Step {
        // Messages that were held behind a search may need its refusal, too.
        let refusal = if self.searches { self.refusal.clone() } else { self.refusal.take() };
        Step::End(match (self.doubt.take(), refusal) {
            (Some((AskError::Refused(refusal, node), _)), _) => Verdict::Refused(refusal, node),
            (Some((AskError::ConnectionLost, candidate)), _) => Verdict::ConnectionLost { candidate },
            (Some((_, candidate)), _) => Verdict::NoAnswer { candidate },
            (None, Some((refusal, node))) if !self.waits() || server_refused(&refusal) => {
                Verdict::Refused(refusal, node)
            }
            (None, None) if !self.waits() => Verdict::Unreachable { candidate: self.candidate },
            (None, _) => Verdict::NeverReady,
        })
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// When to give up connecting to the present candidate. This leaves time for the others. The
    /// last candidate of a request with retries has as long as the attempt lasts.
    pub(crate) fn connect_by(&self, now: Instant, connect_timeout: Duration) -> Instant {
        let left = self.until.saturating_duration_since(now);
        let others = self.has_alternatives || self.candidates > self.tried + 1;
        let span = match (others, self.has_retries) {
            (true, _) => connect_timeout.min(left / 2),
            (false, true) => left,
            (false, false) => connect_timeout.min(left),
        };
        deadline(now, span)
    }

    /// When to give up waiting for the present candidate's answer.
    pub(crate) fn answer_by(&self) -> Instant {
        let last = self.retries_left == 0 || self.until >= self.deadline;
        if last { deadline(self.deadline, ANSWER_GRACE) } else { self.until }
    }

    /// Whether no candidate is asked after the present one.
    pub(crate) fn is_last_send(&self) -> bool {
        let others = self.has_alternatives || self.candidates > self.tried + 1;
        !others && self.retries_left == 0 && !self.waits()
    }

    /// The request may have run. If a retry is left, it is sent again. Otherwise it ends.
    fn doubted(&mut self, now: Instant, error: AskError) -> Step {
        let begin = now.max(deadline(self.asked_at, self.distance(now, &error)));
        self.doubt = Some((error, self.candidate));
        if !self.start_retry(now, begin) {
            return self.give_up();
        }
        self.not_before = begin;
        self.start_round();
        self.advance_candidate();
        if self.searches { Step::SearchAgain } else { self.ask(now) }
    }

    /// No candidate of this round has taken the request.
    fn end_round(&mut self, now: Instant) -> Step {
        self.round_over = true;
        if self.preliminary && self.may_become_ready() {
            return self.pause_before_lookup(now);
        }
        // A candidate that could not be asked may take the request at the next attempt.
        let may_be_taken = self.doubt.is_some() || self.refusal.is_none() || self.some_not_reached;
        let until = self.until.min(deadline(now, self.jittered(RETRY_PAUSE))).min(self.deadline);
        if may_be_taken && self.start_retry(now, until.max(now)) {
            self.look_up_after_pause = self.searches;
            Step::Pause { until }
        } else if self.may_become_ready() {
            self.pause_before_lookup(now)
        } else {
            self.give_up()
        }
    }

    fn pause_before_lookup(&mut self, now: Instant) -> Step {
        self.look_up_after_pause = true;
        let candidates = u32::try_from(self.candidates).unwrap_or(u32::MAX);
        if self.preliminary {
            return Step::Pause { until: self.deadline.min(now + ANSWER_INTERVAL) };
        }
        let pause = LOOKUP_INTERVAL.max(LOOKUP_INTERVAL_PER_CANDIDATE * candidates);
        Step::Pause { until: self.deadline.min(deadline(now, pause)) }
    }

    /// Uses a retry, if there is one. Its attempt begins at `begin`.
    fn start_retry(&mut self, now: Instant, begin: Instant) -> bool {
        if self.retries_left == 0 || now >= self.deadline {
            return false;
        }
        self.retries_left -= 1;
        self.retries_used += 1;
        self.until = if self.retries_left == 0 { self.deadline } else { self.end_from(begin) };
        true
    }

    /// When an attempt ends that begins at `begin` and that a retry may follow.
    fn end_from(&self, begin: Instant) -> Instant {
        let left = self.deadline.saturating_duration_since(begin);
        let shortest = self.growing(SHORTEST_ATTEMPT);
        let span = if self.time_per_attempt >= shortest {
            self.time_per_attempt
        } else if left < shortest * 2 {
            // Two attempts would both be too short.
            left
        } else {
            shortest
        };
        self.deadline.min(deadline(begin, span))
    }

    /// How long after the last send a request is sent again that may have run. Half of the time
    /// that is left stays for the answer. If that is too short, nothing is sent again.
    fn distance(&self, now: Instant, error: &AskError) -> Duration {
        let prompt = match error {
            // The attempt has lasted as long as it may.
            AskError::NoAnswer => true,
            AskError::ConnectionLost => self.retries_used < PROMPT_RECONNECTS,
            AskError::Refused(..) | AskError::NotReached => false,
        };
        if prompt {
            return Duration::ZERO;
        }
        let left = self.deadline.saturating_duration_since(now);
        if left / 2 < LEAST_TIME_LEFT { left } else { self.growing(SHORTEST_DISTANCE).min(left / 2) }
    }

    /// `first`, doubled for each retry that was used.
    fn growing(&self, first: Duration) -> Duration {
        self.jittered(first.saturating_mul(1 << self.retries_used.min(16)).min(LONGEST_DISTANCE))
    }

    fn jittered(&self, span: Duration) -> Duration {
        span - span / 512 * u32::from(self.jitter)
    }

    fn start_round(&mut self) {
        (self.tried, self.some_not_reached, self.round_over, self.refusal) = (0, false, false, None);
    }

    fn advance_candidate(&mut self) {
        self.candidate = (self.candidate + 1).checked_rem(self.candidates).unwrap_or(0);
    }

    /// Keeps the refusal with the highest rank; of equal ranks, the latest.
    fn keep_refusal(&mut self, refusal: Refusal, node: Option<NodeName>) {
        let rank = |refusal: &Refusal| match refusal.reason.next_step() {
            NextStep::OtherNode { rank, .. } => rank,
            _ => 0,
        };
        if self.refusal.as_ref().is_none_or(|(kept, _)| rank(&refusal) >= rank(kept)) {
            self.refusal = Some((refusal, node));
        }
    }

    /// Whether a node that has the server refused, for example because it is busy.
    fn is_busy(&self) -> bool {
        self.refusal.as_ref().is_some_and(|(refusal, _)| server_refused(refusal))
    }

    /// Whether it waits for other candidates if the present ones do not have its server.
    fn waits(&self) -> bool {
        self.wait_for_ready || self.preliminary
    }

    fn may_become_ready(&self) -> bool {
        self.waits() && self.doubt.is_none() && !self.is_busy()
    }
}

fn server_refused(refusal: &Refusal) -> bool {
    matches!(refusal.reason.next_step(), NextStep::OtherNode { server_is_there: true, .. })
}

/// Questions of the queues of messages to one server.
impl Attempt {
    pub(super) fn candidate(&self) -> usize {
        self.candidate
    }

    /// Whether the request may have run in an earlier attempt.
    pub(super) fn has_doubt(&self) -> bool {
        self.doubt.is_some()
    }

    pub(super) fn refusal(&self) -> Option<&(Refusal, Option<NodeName>)> {
        self.refusal.as_ref()
    }

    /// Whether all candidates of the round have failed, and no other round has begun.
    pub(super) fn is_round_over(&self) -> bool {
        self.round_over
    }

    /// Whether a message must leave the route that it shares with others, and search again.
    /// `has_alternatives`: the server may be elsewhere. `on_route`: the message is on a route.
    pub(super) fn must_search_again(&self, has_alternatives: bool, on_route: bool) -> bool {
        let persists = self.retries_left > 0 && (self.doubt.is_some() || self.refusal.is_none());
        (has_alternatives && !self.is_busy()) || (on_route && (persists || self.may_become_ready()))
    }

    /// The request goes on after it waited behind others. The attempt gets its full time again.
    pub(super) fn extend(&mut self, now: Instant) {
        if self.retries_left > 0 {
            self.until = self.until.max(self.end_from(now));
        }
    }

    /// The message ahead has asked all candidates without success, `candidate` last, and keeps
    /// `refusal`. If it is of no use to ask them again, this request ends in the same way.
    pub(super) fn end_like(&mut self, refusal: Option<&(Refusal, Option<NodeName>)>, candidate: usize) -> Option<Step> {
        if self.retries_left > 0 && (self.doubt.is_some() || refusal.is_none()) {
            return None;
        }
        let before = std::mem::replace(&mut self.refusal, refusal.cloned());
        if self.may_become_ready() {
            self.refusal = before;
            return None;
        }
        self.candidate = candidate;
        Some(self.give_up())
    }
}
