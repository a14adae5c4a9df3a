//! Handles the inputs of the table and the timers of its messages.

use std::time::{Duration, Instant};

use zmqv2_proto::{NodeName, Refusal};

use super::entry::{Entry, Stage};
use super::link_queue::LinkQueue;
use super::{Action, LinkId, PendingTable, Tag};
use crate::delivery::attempt::{AskError, SearchPlan, Step, Verdict};
use crate::delivery::liveness::Due;

impl<M, A> PendingTable<M, A> {
    /// Does the next step of an attempt.
    pub(super) fn follow(&mut self, now: Instant, tag: Tag, step: Step) {
        match step {
            Step::Ask(candidate) => {
                let Some(entry) = self.entry(tag) else { return };
                let tag = tag.with_sends(entry.sends);
                self.set_stage(tag, Stage::ChoosingLink, None);
                self.actions.push_back(Action::ChooseLink { tag, candidate });
            }
            Step::LookUp => self.look_up(tag),
            Step::SearchAgain => self.search_again(now, tag),
            Step::Pause { until } => self.set_stage(tag, Stage::Pause, Some(until)),
            Step::End(verdict) => self.end(tag, Err(verdict)),
        }
    }

    /// Asks the present candidate, perhaps once more.
    fn ask(&mut self, now: Instant, tag: Tag) {
        if let Some(step) = self.entry_mut(tag).map(|entry| entry.attempt.ask(now)) {
            self.follow(now, tag, step);
        }
    }

    pub(super) fn look_up(&mut self, tag: Tag) {
        if let Some(entry) = self.entry(tag) {
            let deadline = entry.attempt.deadline();
            self.set_stage(tag, Stage::LookingUp, Some(deadline));
            self.actions.push_back(Action::LookUp { tag });
        }
    }

    pub(super) fn looked_up(&mut self, now: Instant, tag: Tag, plan: SearchPlan) {
        if let Some(entry) = self.entry_mut(tag).filter(|entry| entry.stage == Stage::LookingUp) {
            if let Some(membership) = entry.membership.as_mut().filter(|_| plan.candidates > 0) {
                membership.plan(plan);
            }
            let step = entry.attempt.found(now, plan);
            self.follow(now, tag, step);
        }
    }

    pub(super) fn link_chosen(&mut self, now: Instant, tag: Tag, link: Option<LinkId>) {
        if self.entry(tag).is_none_or(|entry| entry.stage != Stage::ChoosingLink) {
            return;
        }
        let Some(link) = link else { return self.failed(now, tag, AskError::NotReached) };
        if self.waits_for_others(now, tag, link) {
            return;
        }
        self.tickets += 1;
        let (ticket, connect_timeout) = (self.tickets, self.limits.connect_timeout);
        let Some(entry) = self.entry_mut(tag) else { return };
        entry.ticket = ticket;
        let connect_by = entry.attempt.connect_by(now, connect_timeout);
        if let Some(earlier) = entry.unanswered.take_if(|earlier| *earlier != link) {
            self.actions.push_back(Action::Cancel { tag, link: earlier });
        }
        if self.links.len() <= link {
            self.links.resize_with(link + 1, LinkQueue::default);
        }
        self.links[link].queue.push_back((tag, ticket));
        self.set_stage(tag, Stage::Queued { link }, Some(connect_by));
        self.drop_stale_tags(link);
        self.route_chosen(tag, link);
    }

    pub(super) fn sent(&mut self, now: Instant, tag: Tag) {
        let Some(entry) = self.entry_mut(tag) else { return };
        let Stage::Queued { link } = entry.stage else { return };
        entry.sends = tag.sends();
        entry.unanswered = None;
        entry.start_refusal_timer(now);
        let until = entry.start_liveness(now);
        self.links[link].queue.pop_front();
        self.set_stage(tag, Stage::Sent { link }, Some(until));
    }

    pub(super) fn answered(&mut self, tag: Tag, answer: A, more: bool) {
        // A late answer to an earlier send counts: it is the same message.
        if self.entry(tag).is_none_or(|entry| entry.sends == 0) {
            return;
        }
        if more {
            self.actions.push_back(Action::RecordAnswer { tag, answer });
        } else {
            self.end(tag, Ok(answer));
        }
    }

    pub(super) fn in_flight(&mut self, now: Instant, tag: Tag, silence: Duration, node: Option<NodeName>) {
        let Some(entry) = self.entry_mut(tag).filter(|entry| entry.sends == tag.sends()) else { return };
        if let (Stage::Sent { link }, Some(liveness)) = (entry.stage, &mut entry.liveness) {
            if let Some(lost) = liveness.in_flight(now, silence) {
                entry.unanswered = Some(link);
                return self.failed(now, tag, AskError::Refused(lost, node));
            }
            let (stage, until) = (entry.stage, entry.next_check(now));
            self.set_stage(tag, stage, Some(until));
            self.server_found(tag);
        }
    }

    pub(super) fn refused(&mut self, now: Instant, tag: Tag, refusal: Refusal, node: Option<NodeName>) {
        // A refusal of an earlier send says nothing about the present one.
        let current = |entry: &Entry<M>| matches!(entry.stage, Stage::Sent { .. }) && entry.sends == tag.sends();
        if self.entry(tag).is_some_and(current) {
            self.failed(now, tag, AskError::Refused(refusal, node));
        }
    }

    /// Messages that this link has sent may be lost.
    pub(super) fn connection_lost(&mut self, now: Instant, link: LinkId) {
        if self.links.get(link).is_none_or(|link| link.in_flight == 0) {
            return;
        }
        // Resends keep the order of the messages.
        for tag in self.in_order(|entry| entry.stage == Stage::Sent { link }) {
            self.failed(now, tag, AskError::ConnectionLost);
        }
    }

    /// No message can leave over this link.
    pub(super) fn link_failed(&mut self, now: Instant, link: LinkId) {
        for tag in self.in_order(|entry| entry.stage == Stage::Queued { link }) {
            self.failed(now, tag, AskError::NotReached);
        }
    }

    /// Messages that wait for a closed link wait for another one to the same candidate.
    pub(super) fn requeue_elsewhere(&mut self, now: Instant, link: LinkId) {
        for tag in self.in_order(|entry| entry.stage == Stage::Queued { link }) {
            self.ask(now, tag);
        }
    }

    pub(super) fn close(&mut self) {
        for tag in self.in_order(|_| true) {
            self.closed(tag);
        }
    }

    pub(super) fn closed(&mut self, tag: Tag) {
        let sent = self.entry(tag).is_some_and(Entry::may_have_run);
        self.end(tag, Err(Verdict::Closed { sent }));
    }

    pub(super) fn timer_fired(&mut self, now: Instant, tag: Tag) {
        let Some(entry) = self.entry_mut(tag) else { return };
        let over = now >= entry.attempt.deadline();
        match entry.stage {
            Stage::Sent { link } => self.check_sent(now, tag, link),
            Stage::Queued { link } => {
                self.actions.push_back(Action::LinkUnreachable { link });
                self.failed(now, tag, AskError::NotReached);
            }
            Stage::Pause => {
                let step = entry.attempt.resume(now);
                self.follow(now, tag, step);
            }
            _ if over => {
                let step = entry.attempt.give_up();
                self.follow(now, tag, step);
            }
            Stage::InServerQueue => self.queue_timer_fired(tag),
            Stage::LookingUp | Stage::ChoosingLink => {}
        }
    }

    /// Looks at a message that was sent and has no answer yet.
    fn check_sent(&mut self, now: Instant, tag: Tag, link: LinkId) {
        if let Some(membership) = self.entry(tag).and_then(|entry| entry.membership)
            && membership.is_assumed_found(now)
            && !self.is_alone_in_queue(&membership)
        {
            self.server_found(tag);
        }
        let Some(entry) = self.entry_mut(tag) else { return };
        let due = if now >= entry.attempt.answer_by() {
            Due::GiveUp
        } else {
            entry.liveness.as_mut().map_or(Due::Nothing, |liveness| liveness.due(now))
        };
        let until = entry.next_check(now);
        match due {
            Due::GiveUp => {
                entry.unanswered = Some(link);
                self.actions.push_back(Action::NoAnswer { tag, link });
                return self.failed(now, tag, AskError::NoAnswer);
            }
            Due::Ask => self.actions.push_back(Action::Inquire { tag, link }),
            Due::Nothing => {}
        }
        self.set_stage(tag, Stage::Sent { link }, Some(until));
    }

    /// The candidate of an entry gave no result. Its server queue may make it search again, so
    /// that no message overtakes another.
    fn failed(&mut self, now: Instant, tag: Tag, error: AskError) {
        let Some(membership) = self.entry(tag).and_then(|entry| entry.membership) else {
            if let Some(step) = self.entry_mut(tag).map(|entry| entry.attempt.failed(now, error)) {
                self.follow(now, tag, step);
            }
            return;
        };
        let alone = self.is_alone_in_queue(&membership);
        let behind = self.has_earlier_waiting(tag);
        let Some(entry) = self.entry_mut(tag) else { return };
        let (candidate, server_is_there) = (entry.attempt.candidate(), error.server_is_there());
        let step = entry
            .attempt
            .failed_in_queue(now, error, |attempt| !alone && (behind || membership.must_search_again(attempt)));
        if alone {
            self.take_search(tag);
        } else if entry.attempt.is_round_over() {
            self.end_others_too(now, tag, candidate);
        }
        if !matches!(step, Step::End(_)) {
            self.actions.extend(server_is_there.map(|there| match there {
                true => Action::ServerFound { tag },
                false => Action::ServerNotFound { tag },
            }));
        }
        self.follow(now, tag, step);
    }
}
