//! Keeps the order of messages to one server while the server is searched for.
//!
//! While the node of the server is known, its messages go there one after the other without
//! waiting. If the node is not known, or was wrong, one message *searches*: it asks one candidate
//! after the other, and the others wait behind it. The server is found when a candidate accepts the
//! message, or has had it for a while without a refusal ([`REFUSAL_WITHIN`]).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::entry::{Entry, Stage};
use super::{Action, LinkId, PendingTable, Tag};
use crate::delivery::attempt::{Attempt, SearchPlan};

/// The number of a queue. The driver chooses the same one for all messages to a server.
pub(crate) type QueueId = u64;

/// A node without the server refuses sooner than this.
pub(super) const REFUSAL_WITHIN: Duration = Duration::from_millis(250);

#[derive(Debug, Default)]
pub(super) struct ServerQueue {
    members: usize,
    /// The message that searches, and its arrival.
    searcher: Option<(u64, Tag)>,
    /// The messages that wait, by arrival.
    waiting: BTreeMap<u64, Tag>,
    /// How often the route has changed.
    route_version: u64,
    /// The number of messages on the present route: sent, or queued for its link.
    on_route: usize,
    /// The link of the present route.
    link: Option<LinkId>,
    /// The number of messages that are still on the route before.
    on_old_route: usize,
    /// The others wait until then for messages on the old route to come back.
    wait_until: Option<Instant>,
}

/// The place of an entry in a server queue.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Membership {
    queue: QueueId,
    /// The version of the route that the message is on, if any.
    route_version: Option<u64>,
    /// Whether the message goes to the node where the server was last.
    to_known_node: bool,
    /// Whether the message searches again. No other follows it until a server has accepted it.
    alone: bool,
    /// Whether the server may be at other nodes.
    pub(super) has_alternatives: bool,
    /// When a candidate that has not refused counts as the right one.
    pub(super) assume_found_at: Option<Instant>,
}

#[cfg(all(test, feature = "proptest"))]
impl ServerQueue {
    /// Whether one of its messages searches, and no other is on its way.
    pub(super) fn searches(&self) -> bool {
        self.searcher.is_some() && self.on_route + self.on_old_route == 0
    }
}

impl Membership {
    pub(super) fn new(queue: QueueId) -> Self {
        Self { queue, ..Self::default() }
    }

    pub(super) fn plan(&mut self, plan: SearchPlan) {
        (self.to_known_node, self.has_alternatives) = (plan.known && !self.alone, plan.has_alternatives);
    }

    pub(super) fn is_assumed_found(&self, now: Instant) -> bool {
        self.assume_found_at.is_some_and(|at| at <= now)
    }

    /// Whether the message and the others in its queue must search for their server again.
    pub(super) fn must_search_again(&self, attempt: &Attempt) -> bool {
        attempt.must_search_again(self.has_alternatives, self.route_version.is_some())
    }
}

impl<M> Entry<M> {
    /// It was sent. If it searches, silence will count as found.
    pub(super) fn start_refusal_timer(&mut self, now: Instant) {
        if let Some(membership) = &mut self.membership {
            membership.assume_found_at = membership.route_version.is_none().then(|| now + REFUSAL_WITHIN);
        }
    }
}

impl<M, A> PendingTable<M, A> {
    /// A new entry joins its queue.
    pub(super) fn join_queue(&mut self, now: Instant, tag: Tag) {
        let Some(membership) = self.entry(tag).and_then(|entry| entry.membership) else { return };
        let queue = self.server_queues.entry(membership.queue).or_default();
        queue.members += 1;
        // A message that was alone in its queue had no reason to check this.
        if let Some((_, searcher)) = queue.searcher
            && let Some(membership) = self.entry(searcher).and_then(|entry| entry.membership)
            && membership.is_assumed_found(now)
        {
            self.server_found(searcher);
        }
        self.wait_in_queue(tag);
        self.advance_queues(now);
    }

    /// Puts an entry into its queue, by arrival.
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

    /// Starts the next message of each changed queue that can go on.
    pub(super) fn advance_queues(&mut self, now: Instant) {
        while let Some(id) = self.changed_queues.pop() {
            let Some(queue) = self.server_queues.get_mut(&id) else { continue };
            if queue.searcher.is_some() {
                continue;
            }
            let Some((&arrival, &tag)) = queue.waiting.first_key_value() else { continue };
            // Messages on the old route may come back, and are earlier than this one.
            if let Some(until) = queue.wait_until.filter(|until| queue.on_old_route > 0 && *until > now) {
                if let Some(entry) = self.entry(tag) {
                    let until = until.min(entry.attempt.deadline());
                    self.set_stage(tag, Stage::InServerQueue, Some(until));
                }
                continue;
            }
            queue.waiting.remove(&arrival);
            queue.searcher = Some((arrival, tag));
            if let Some(entry) = self.entry_mut(tag) {
                entry.attempt.extend(now);
            }
            self.look_up(tag);
        }
    }

    /// Whether an entry that could go over this link must wait for messages on another link, or for
    /// an earlier one that has come back. This happens if a blocking call has found the server
    /// elsewhere, or if several messages give up a link at once.
    pub(super) fn waits_for_others(&mut self, now: Instant, tag: Tag, link: LinkId) -> bool {
        let Some(membership) = self.entry(tag).and_then(|entry| entry.membership) else { return false };
        let behind = membership.route_version.is_none() && self.has_earlier_waiting(tag);
        let Some(queue) = self.server_queues.get_mut(&membership.queue) else { return false };
        if behind {
            queue.searcher = None;
            self.wait_in_queue(tag);
            return true;
        }
        // Over the same link, no message overtakes another.
        if queue.link == Some(link) || queue.on_route == 0 || membership.route_version.is_some() {
            return false;
        }
        queue.searcher = None;
        let stage = queue.link.map_or(Stage::InServerQueue, |link| Stage::Queued { link });
        self.route_changed(now, membership.queue, stage);
        self.wait_in_queue(tag);
        true
    }

    /// The entry waits for a link. If that leads to a known node, the next message can follow.
    pub(super) fn route_chosen(&mut self, tag: Tag, link: LinkId) {
        let Some(membership) = self.entry(tag).and_then(|entry| entry.membership) else { return };
        if membership.to_known_node {
            self.join_route(tag);
            if let Some(queue) = self.server_queues.get_mut(&membership.queue) {
                queue.link = Some(link);
            }
        }
    }

    /// The server is at the candidate that has the entry.
    pub(super) fn server_found(&mut self, tag: Tag) {
        let Some(entry) = self.entry_mut(tag) else { return };
        let (Some(membership), Stage::Sent { link }) = (&mut entry.membership, entry.stage) else { return };
        if membership.route_version.is_some() {
            return;
        }
        (membership.to_known_node, membership.has_alternatives) = (true, true);
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
        queue.searcher.take_if(|(searcher, _)| *searcher == arrival);
        queue.on_route += 1;
        (membership.route_version, membership.assume_found_at, membership.alone) =
            (Some(queue.route_version), None, false);
        self.changed_queues.push(membership.queue);
        if let Some(entry) = self.entry_mut(tag) {
            entry.membership = Some(membership);
        }
    }

    /// The entry searches for its server again.
    pub(super) fn search_again(&mut self, now: Instant, tag: Tag) {
        let Some(entry) = self.entry(tag) else { return };
        let (Some(membership), arrival, stage) = (entry.membership, entry.arrival, entry.stage) else { return };
        let Some(queue) = self.server_queues.get(&membership.queue) else { return };
        let searches = queue.searcher.is_some_and(|(searcher, _)| searcher == arrival);
        let first = membership.route_version.is_some_and(|version| version == queue.route_version);
        self.actions.push_back(Action::ServerNotFound { tag });
        if let Some(entry) = self.entry_mut(tag)
            && let Some(membership) = &mut entry.membership
        {
            // The others come back because of the first one, and can follow it again.
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

    /// Whether an earlier message has come back and goes first.
    pub(super) fn has_earlier_waiting(&self, tag: Tag) -> bool {
        let Some(entry) = self.entry(tag) else { return false };
        let queue = entry.membership.and_then(|membership| self.server_queues.get(&membership.queue));
        let first = queue.and_then(|queue| queue.waiting.first_key_value());
        first.is_some_and(|(arrival, _)| *arrival < entry.arrival)
    }

    /// The route was wrong. Messages that were not sent yet are taken back.
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

    /// The last round of an entry has failed, with `candidate` as the last one that was asked.
    /// Messages that wait behind it would get the same answers, so they end as well.
    pub(super) fn end_others_too(&mut self, now: Instant, tag: Tag, candidate: usize) {
        let Some(entry) = self.entry_mut(tag) else { return };
        let Some(membership) = &mut entry.membership else { return };
        membership.alone = true;
        let id = membership.queue;
        let (Some(entry), Some(queue)) = (self.entry(tag), self.server_queues.get(&id)) else { return };
        if queue.searcher.is_none_or(|(searcher, _)| searcher != entry.arrival) || queue.waiting.is_empty() {
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

    /// The only message of a queue has failed, and searches. Later messages wait behind it.
    pub(super) fn take_search(&mut self, tag: Tag) {
        let Some(entry) = self.entry_mut(tag) else { return };
        let (Some(membership), arrival) = (&mut entry.membership, entry.arrival) else { return };
        let id = membership.queue;
        (membership.alone, membership.assume_found_at) = (true, None);
        self.leave_route(tag);
        if let Some(queue) = self.server_queues.get_mut(&id) {
            queue.searcher = Some((arrival, tag));
        }
    }

    /// An entry has waited long enough for messages on the old route.
    pub(super) fn queue_timer_fired(&mut self, tag: Tag) {
        let Some(entry) = self.entry(tag) else { return };
        let (Some(membership), deadline) = (entry.membership, entry.attempt.deadline()) else { return };
        self.set_stage(tag, Stage::InServerQueue, Some(deadline));
        self.changed_queues.push(membership.queue);
    }

    pub(super) fn leave_queue(&mut self, tag: Tag) {
        self.leave_route(tag);
        let Some(entry) = self.entry(tag) else { return };
        let (Some(membership), arrival) = (entry.membership, entry.arrival) else { return };
        let Some(queue) = self.server_queues.get_mut(&membership.queue) else { return };
        queue.waiting.remove(&arrival);
        queue.searcher.take_if(|(searcher, _)| *searcher == arrival);
        queue.members -= 1;
        if queue.members == 0 {
            self.server_queues.remove(&membership.queue);
        } else {
            self.changed_queues.push(membership.queue);
        }
    }
}
