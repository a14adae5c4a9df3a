//! The queues of waiting requests: for any server of a topic, for one server name, or for one run.

use slab::Slab;
use zmqv2_proto::{Reason, ServerName};

use super::pending::{Pending, Queue, Recipient, State};
use super::topics::Named;
use super::{Backlog, Engine, Server, Topic};

impl<O: Clone, P: Clone> Engine<O, P> {
    pub(super) fn backlog(&mut self, queue: Queue) -> &mut Backlog {
        backlog_at(&mut self.topics, &mut self.servers, queue)
    }

    pub(super) fn enqueue(&mut self, tag: u64, queue: Queue) {
        self.pending.set_state(tag, State::Queued(queue));
        let Self { topics, servers, pending, .. } = self;
        topics[queue.topic].waiting += 1;
        backlog_at(topics, servers, queue).push(tag, |tag| pending.contains(tag));
    }

    pub(super) fn enqueue_first(&mut self, tag: u64, queue: Queue) {
        self.pending.set_state(tag, State::Queued(queue));
        self.topics[queue.topic].waiting += 1;
        self.backlog(queue).push_front(tag);
    }

    /// Puts a request in front of those that arrived after it.
    pub(super) fn enqueue_in_order(&mut self, tag: u64, queue: Queue) {
        self.pending.set_state(tag, State::Queued(queue));
        let order = self.pending.get(tag).map_or(0, |request| request.order);
        let Self { topics, servers, pending, .. } = self;
        let is_younger = |tag| pending.get(tag).is_some_and(|request| request.order > order);
        topics[queue.topic].waiting += 1;
        backlog_at(topics, servers, queue).insert(tag, is_younger);
    }

    /// The oldest request that a worker of this server may take, and its queue.
    pub(super) fn oldest_for(&mut self, number: usize) -> Option<(u64, Queue)> {
        let Self { topics, servers, pending, .. } = self;
        let mut oldest: Option<(u64, u64, Queue)> = None;
        let mut look = |backlog: &mut Backlog| {
            let first = backlog.front(|tag| pending.contains(tag));
            if let Some((tag, request)) = first.and_then(|tag| Some((tag, pending.get(tag)?)))
                && let State::Queued(queue) = request.state
                && oldest.is_none_or(|(order, ..)| request.order < order)
            {
                oldest = Some((request.order, tag, queue));
            }
        };
        let server = &mut servers[number];
        for membership in &server.memberships {
            let topic = &mut topics[membership.topic];
            look(&mut topic.shared);
            look(&mut topic.named[membership.named].backlog);
        }
        look(&mut server.backlog);
        oldest.map(|(_, tag, queue)| (tag, queue))
    }

    /// Counts a request that left a queue from the middle.
    pub(super) fn removed_from(&mut self, queue: Queue) {
        self.backlog(queue).count_removed();
        self.left(queue);
    }

    /// Takes the [oldest request](Self::oldest_for) out of its queue.
    pub(super) fn pop(&mut self, queue: Queue) {
        self.backlog(queue).pop();
        self.left(queue);
    }

    fn left(&mut self, queue: Queue) {
        self.topics[queue.topic].waiting -= 1;
        self.changed_queues.push(queue);
    }

    /// Removes names without runs and requests, and topics without names and requests. This is the
    /// only place that does, at the end of each event. So until then the numbers of topics and names
    /// stay valid, and what an event adds in vain does not stay.
    pub(super) fn remove_idle_queues(&mut self) {
        // Nothing is added meanwhile, so the number of a removed topic is not in use again.
        while let Some(queue) = self.changed_queues.pop() {
            let Some(entry) = self.topics.get_mut(queue.topic) else { continue };
            if let Recipient::Server(named) = queue.recipient
                && entry.named.get(named).is_some_and(Named::is_idle)
            {
                let gone = entry.named.remove(named);
                entry.by_name.remove(&gone.name);
            }
            if entry.named.is_empty() && entry.shared.len() == 0 {
                let gone = self.topics.remove(queue.topic);
                self.by_key.remove(&gone.key);
                if let Some(client) = gone.unserved {
                    self.unserved.remove(client);
                }
            } else {
                // Its last server may have left.
                self.count_unserved(queue.topic, None);
            }
        }
    }

    /// Topics and names in which nothing is: no server and no request. Always 0 between events.
    #[doc(hidden)] // For the property tests.
    pub fn idle_queues(&self) -> usize {
        let idle = |topic: &Topic| {
            let names = topic.named.iter().filter(|(_, named)| named.is_idle()).count();
            names + usize::from(topic.runs == 0 && topic.waiting == 0)
        };
        self.topics.iter().map(|(_, topic)| idle(topic)).sum()
    }

    pub(super) fn describe(&self, queue: Queue) -> String {
        let topic = &self.topics[queue.topic];
        match queue.recipient {
            Recipient::AnyServer => topic.key.name().to_owned(),
            Recipient::Server(named) => format!("{} at {}", topic.key.name(), topic.named[named].name),
            Recipient::Run(run) => format!("{} at {}", topic.key.name(), self.servers[run].name),
        }
    }

    /// The server whose copies of fanouts wait in this queue.
    pub(super) fn copy_for(&self, queue: Queue) -> Option<ServerName> {
        match queue.recipient {
            Recipient::Run(run) => Some(self.servers[run].name.clone()),
            Recipient::AnyServer | Recipient::Server(_) => None,
        }
    }

    /// Refuses all requests of a queue except those that stay.
    pub(super) fn refuse_all_but(
        &mut self,
        queue: Queue,
        stays: impl Fn(&Pending<O, P>) -> bool,
        reason: Reason,
        detail: &str,
    ) {
        let Self { topics, servers, pending, .. } = self;
        let goes = |tag| pending.get(tag).is_some_and(|request| !stays(request));
        let go = backlog_at(topics, servers, queue).take_where(goes);
        let server = self.copy_for(queue);
        for tag in go {
            if let Some(request) = self.pending.remove(tag) {
                self.request_bytes -= request.bytes;
                // The queue of a run has copies for all of its topics.
                if let State::Queued(Queue { topic, .. }) = request.state {
                    self.left(Queue { topic, recipient: queue.recipient });
                }
                self.refuse_pending(request, server.clone(), reason, detail);
            }
        }
    }
}

/// A free function, so that the caller can borrow the pending requests meanwhile.
fn backlog_at<'a, O>(topics: &'a mut Slab<Topic>, servers: &'a mut Slab<Server<O>>, queue: Queue) -> &'a mut Backlog {
    match queue.recipient {
        Recipient::AnyServer => &mut topics[queue.topic].shared,
        Recipient::Server(named) => &mut topics[queue.topic].named[named].backlog,
        Recipient::Run(run) => &mut servers[run].backlog,
    }
}
