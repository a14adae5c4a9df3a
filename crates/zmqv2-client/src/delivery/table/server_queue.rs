//! Messages to one server, which keep their order while it has to be found.
//!
//! As long as the server is where it was last, the messages of its queue go there one after the other without waiting. If that
//! is not known, or was wrong, one of them *searches*: it goes from candidate to candidate, and all others are held behind
//! it, in their order. The server is found when a candidate has accepted the message, or has had it for a while without
//! saying that it is not there ([`REFUSAL_WITHIN`]).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::entry::{Entry, Stage};
use super::{Action, LinkId, PendingTable, Tag};
use crate::delivery::attempt::{Attempt, SearchPlan};

/// The number of a queue, chosen by the driver: the same for all messages to one server.
pub(crate) type QueueId = u64;

/// A candidate that does not have the server says so sooner than this.
pub(super) const REFUSAL_WITHIN: Duration = Duration::from_millis(250);

#[derive(Debug, Default)]
pub(super) struct ServerQueue {
    members: usize,
    /// Who searches, by arrival.
    searcher: Option<u64>,
    /// Who waits, by arrival.
    waiting: BTreeMap<u64, Tag>,
    /// How often the route has changed.
    route_version: u64,
    /// How many were sent, or are queued, on the present route.
    on_route: usize,
    /// The link that they wait for, or were sent over.
    link: Option<LinkId>,
    /// How many are still on the route before this one.
    on_old_route: usize,
    /// Until when they are waited for.
    wait_until: Option<Instant>,
}

/// The membership of an entry in a server queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Membership {
    queue: QueueId,
    /// The version of the route on which it was sent; `None`: it is not on its way.
    route_version: Option<u64>,
    /// Whether it goes where the server was last.
    to_known_node: bool,
    /// Whether it had to search again: no other follows it until a server has it.
    alone: bool,
    /// Whether there are other candidates if this is the wrong one.
    pub(super) has_alternatives: bool,
    /// When a candidate that has not refused is taken for the right one.
    pub(super) assume_found_at: Option<Instant>,
    /// Whether that has happened, since it was sent.
    assumed: bool,
}

#[cfg(all(test, feature = "proptest"))]
impl ServerQueue {
    /// Whether one of its messages searches, and nothing else is on its way.
    pub(super) fn searches(&self) -> bool {
        self.searcher.is_some() && self.on_route + self.on_old_route == 0
    }
}

impl Membership {
    pub(super) fn new(queue: QueueId) -> Self {
        Self {
            queue,
            route_version: None,
            to_known_node: false,
            alone: false,
            has_alternatives: false,
            assume_found_at: None,
            assumed: false,
        }
    }

    pub(super) fn plan(&mut self, plan: SearchPlan) {
        (self.to_known_node, self.has_alternatives) = (plan.known && !self.alone, plan.has_alternatives);
    }

    /// Whether the others of its queue, and it itself, must search for their server again.
    pub(super) fn must_search_again(&self, attempt: &Attempt) -> bool {
        attempt.must_search_again(self.has_alternatives, self.route_version.is_some())
    }
}

impl<M> Entry<M> {
    /// It was sent: if it searches, silence is an answer.
    pub(super) fn start_refusal_timer(&mut self, now: Instant) {
        if let Some(membership) = &mut self.membership {
            membership.assume_found_at = membership.route_version.is_none().then(|| now + REFUSAL_WITHIN);
        }
    }

    pub(super) fn is_assumed_found(&self, now: Instant) -> bool {
        self.membership.and_then(|membership| membership.assume_found_at).is_some_and(|at| at <= now)
    }
}

impl<M, A> PendingTable<M, A> {
    /// A new entry joins its queue.
    pub(super) fn join_queue(&mut self, now: Instant, tag: Tag) {
        if let Some(membership) = self.entry(tag).and_then(|entry| entry.membership) {
            self.server_queues.entry(membership.queue).or_default().members += 1;
        }
        self.wait_in_queue(tag);
        self.advance_queues(now);
    }

    /// Puts an entry into its queue, at its place in the order.
    pub(super) fn wait_in_queue(&mut self, tag: Tag) {
        let Some(entry) = self.entry(tag) else { return };
        let (Some(membership), arrival, deadline) = (entry.membership, entry.arrival, entry.attempt.deadline()) else {
            return;
        };
        let queue = self.server_queues.entry(membership.queue).or_default();
        queue.waiting.insert(arrival, tag);
        self.changed_queues.push(membership.queue);
        self.set_stage(tag, Stage::InServerQueue, Some(deadline));
    }

    /// Lets those go on who can.
    pub(super) fn advance_queues(&mut self, now: Instant) {
        while let Some(id) = self.changed_queues.pop() {
            let Some(queue) = self.server_queues.get_mut(&id) else { continue };
            if queue.searcher.is_some() {
                continue;
            }
            let Some((&arrival, &tag)) = queue.waiting.first_key_value() else { continue };
            // Those that were sent on the wrong way come back, and are before the others.
            if let Some(until) = queue.wait_until.filter(|until| queue.on_old_route > 0 && *until > now) {
                if let Some(entry) = self.entry(tag) {
                    let until = until.min(entry.attempt.deadline());
                    self.set_stage(tag, Stage::InServerQueue, Some(until));
                }
                continue;
            }
            queue.waiting.remove(&arrival);
            queue.searcher = Some(arrival);
            if let Some(entry) = self.entry_mut(tag) {
                entry.attempt.extend(now);
            }
            self.look_up(tag);
        }
    }

    /// Whether an entry that could go over this link has to wait for those that went over another one: somebody else has
    /// found the server elsewhere meanwhile, or has found that it is not there.
    pub(super) fn waits_for_others(&mut self, now: Instant, tag: Tag, link: LinkId) -> bool {
        let Some(membership) = self.entry(tag).and_then(|entry| entry.membership) else { return false };
        let Some(queue) = self.server_queues.get_mut(&membership.queue) else { return false };
        // Over the same link nobody overtakes, also one that goes alone.
        if queue.link == Some(link) || queue.on_route == 0 || membership.route_version.is_some() {
            return false;
        }
        queue.searcher = None;
        let stage = queue.link.map_or(Stage::InServerQueue, |link| Stage::Queued { link });
        self.route_changed(now, membership.queue, stage);
        self.wait_in_queue(tag);
        true
    }

    /// The entry waits for a link. If that leads where the server was last, the next one can follow.
    pub(super) fn route_chosen(&mut self, tag: Tag, link: LinkId) {
        let Some(membership) = self.entry(tag).and_then(|entry| entry.membership) else { return };
        if membership.to_known_node {
            self.join_route(tag);
            if let Some(queue) = self.server_queues.get_mut(&membership.queue) {
                queue.link = Some(link);
            }
        }
    }

    /// The candidate that has the entry is the right one.
    pub(super) fn server_found(&mut self, tag: Tag) {
        let Some(entry) = self.entry_mut(tag) else { return };
        let (Some(membership), Stage::Sent { link }) = (&mut entry.membership, entry.stage) else { return };
        if membership.route_version.is_some() {
            return;
        }
        (membership.to_known_node, membership.has_alternatives, membership.assumed) = (true, true, true);
        self.route_chosen(tag, link);
        self.actions.push_back(Action::ServerFound { tag });
    }

    fn join_route(&mut self, tag: Tag) {
        let Some(entry) = self.entry(tag) else { return };
        let (Some(mut membership), arrival) = (entry.membership, entry.arrival) else { return };
        if membership.route_version.is_some() {
            return;
        }
        let queue = self.server_queues.entry(membership.queue).or_default();
        queue.searcher.take_if(|searcher| *searcher == arrival);
        queue.on_route += 1;
        (membership.route_version, membership.assume_found_at, membership.alone) =
            (Some(queue.route_version), None, false);
        self.changed_queues.push(membership.queue);
        if let Some(entry) = self.entry_mut(tag) {
            entry.membership = Some(membership);
        }
    }

    /// The entry has to look for its server again.
    pub(super) fn search_again(&mut self, now: Instant, tag: Tag) {
        let Some(entry) = self.entry(tag) else { return };
        let (Some(membership), arrival, stage) = (entry.membership, entry.arrival, entry.stage) else { return };
        let Some(queue) = self.server_queues.get(&membership.queue) else { return };
        let searches = queue.searcher == Some(arrival);
        let first = membership.route_version.is_some_and(|version| version == queue.route_version);
        self.actions.push_back(Action::ServerNotFound { tag });
        if let Some(entry) = self.entry_mut(tag)
            && let Some(membership) = &mut entry.membership
        {
            // The others come back because of the first one, and follow it again.
            (membership.alone, membership.to_known_node, membership.assume_found_at) = (searches || first, false, None);
        }
        if searches && !self.has_earlier_waiting(tag) {
            return self.look_up(tag);
        }
        if searches && let Some(queue) = self.server_queues.get_mut(&membership.queue) {
            queue.searcher = None;
        }
        self.leave_route(tag);
        if first {
            self.route_changed(now, membership.queue, stage);
        }
        self.wait_in_queue(tag);
    }

    /// Whether somebody who was before the entry has come back, and goes on first.
    pub(super) fn has_earlier_waiting(&self, tag: Tag) -> bool {
        let Some(entry) = self.entry(tag) else { return false };
        let queue = entry.membership.and_then(|membership| self.server_queues.get(&membership.queue));
        let first = queue.and_then(|queue| queue.waiting.first_key_value());
        first.is_some_and(|(arrival, _)| *arrival < entry.arrival)
    }

    /// The route was wrong: entries that were not sent yet are not sent.
    fn route_changed(&mut self, now: Instant, id: QueueId, stage: Stage) {
        if let Stage::Queued { link } | Stage::Sent { link } = stage {
            for tag in self.queued_tags(id, link) {
                self.leave_route(tag);
                self.wait_in_queue(tag);
            }
        }
        if let Some(queue) = self.server_queues.get_mut(&id) {
            queue.route_version += 1;
            (queue.on_old_route, queue.on_route) = (queue.on_route, 0);
            queue.wait_until = Some(now + REFUSAL_WITHIN);
        }
    }

    fn queued_tags(&self, id: QueueId, link: LinkId) -> Vec<Tag> {
        let queue = self.links.get(link).map(|link| &link.queue).into_iter().flatten();
        let queued = queue.filter(|(tag, ticket)| {
            self.is_queued(*tag, *ticket)
                && self.entry(*tag).and_then(|entry| entry.membership).is_some_and(|membership| membership.queue == id)
        });
        queued.map(|(tag, _)| *tag).collect()
    }

    /// The entry is not on its way any more.
    fn leave_route(&mut self, tag: Tag) {
        let Some(entry) = self.entry_mut(tag) else { return };
        let Some(membership) = &mut entry.membership else { return };
        let (id, version) = (membership.queue, membership.route_version.take());
        membership.to_known_node = false;
        let (Some(queue), Some(version)) = (self.server_queues.get_mut(&id), version) else { return };
        if version == queue.route_version {
            queue.on_route -= 1;
        } else if version + 1 == queue.route_version {
            queue.on_old_route -= 1;
            self.changed_queues.push(id);
        }
    }

    /// The round of an entry has come to nothing, at last at `candidate`. Messages that were held
    /// behind it would learn nothing else, and end as well.
    pub(super) fn end_others_too(&mut self, now: Instant, tag: Tag, candidate: usize) {
        let Some(entry) = self.entry_mut(tag) else { return };
        let Some(membership) = &mut entry.membership else { return };
        membership.alone = true;
        let id = membership.queue;
        let (Some(entry), Some(queue)) = (self.entry(tag), self.server_queues.get(&id)) else { return };
        if queue.searcher != Some(entry.arrival) || queue.waiting.is_empty() {
            return;
        }
        let refusal = entry.attempt.refusal().cloned();
        let waiting: Vec<Tag> = queue.waiting.values().copied().collect();
        for tag in waiting {
            let Some(entry) = self.entry_mut(tag) else { continue };
            if let Some(step) = entry.attempt.end_like(refusal.as_ref(), candidate) {
                self.follow(now, tag, step);
            }
        }
    }

    pub(super) fn is_alone_in_queue(&self, membership: &Membership) -> bool {
        self.server_queues.get(&membership.queue).is_none_or(|queue| queue.members == 1)
    }

    /// The only message of a queue has failed. It searches from here on: messages that come later
    /// are held behind it.
    pub(super) fn take_search(&mut self, tag: Tag) {
        let Some(entry) = self.entry_mut(tag) else { return };
        let (Some(membership), arrival) = (&mut entry.membership, entry.arrival) else { return };
        let (id, assumed) = (membership.queue, std::mem::take(&mut membership.assumed));
        (membership.alone, membership.assume_found_at) = (true, None);
        self.leave_route(tag);
        if assumed {
            self.actions.push_back(Action::ServerNotFound { tag });
        }
        if let Some(queue) = self.server_queues.get_mut(&id) {
            queue.searcher = Some(arrival);
        }
    }

    /// Its time in the queue was over before its turn came, or those that it waits for are late.
    pub(super) fn queue_timer_fired(&mut self, tag: Tag) {
        let Some(entry) = self.entry(tag) else { return };
        let (Some(membership), deadline) = (entry.membership, entry.attempt.deadline()) else { return };
        self.set_stage(tag, Stage::InServerQueue, Some(deadline));
        self.changed_queues.push(membership.queue);
    }

    /// The entry ends.
    pub(super) fn leave_queue(&mut self, tag: Tag) {
        self.leave_route(tag);
        let Some(entry) = self.entry(tag) else { return };
        let (Some(membership), arrival) = (entry.membership, entry.arrival) else { return };
        let Some(queue) = self.server_queues.get_mut(&membership.queue) else { return };
        queue.waiting.remove(&arrival);
        queue.searcher.take_if(|searcher| *searcher == arrival);
        queue.members -= 1;
        if queue.members == 0 {
            self.server_queues.remove(&membership.queue);
        } else {
            self.changed_queues.push(membership.queue);
        }
    }
}
