//! Where requests wait: for any server of a topic, for the servers of one name, or for one run.

use std::collections::VecDeque;

use slab::Slab;
use zmqv2_proto::{Reason, ServerName};

use super::pending::{At, Queue, State};
use super::{Backlog, Engine, Server, Topic};

impl<O: Clone, L: Clone> Engine<O, L> {
    pub(super) fn backlog(&mut self, queue: Queue) -> &mut Backlog {
        backlog_at(&mut self.topics, &mut self.servers, queue)
    }

    /// Puts a request behind those that wait there.
    pub(super) fn enqueue(&mut self, tag: u64, queue: Queue) {
        self.requests.set_state(tag, State::Queued(queue));
        let Self { topics, servers, requests, .. } = self;
        topics[queue.topic].waiting += 1;
        backlog_at(topics, servers, queue).push(tag, |tag| requests.contains(tag));
    }

    /// Puts a request before those that wait there.
    pub(super) fn enqueue_first(&mut self, tag: u64, queue: Queue) {
        self.requests.set_state(tag, State::Queued(queue));
        self.topics[queue.topic].waiting += 1;
        self.backlog(queue).push_front(tag);
    }

    /// Puts a request before those that came after it.
    pub(super) fn enqueue_in_order(&mut self, tag: u64, queue: Queue) {
        self.requests.set_state(tag, State::Queued(queue));
        let order = self.requests.get(tag).map_or(0, |held| held.order);
        let Self { topics, servers, requests, .. } = self;
        let is_younger = |tag| requests.get(tag).is_some_and(|held| held.order > order);
        topics[queue.topic].waiting += 1;
        backlog_at(topics, servers, queue).insert(tag, is_younger);
    }

    /// The request that a worker of this server takes next.
    pub(super) fn oldest_for(&mut self, number: usize) -> Option<(u64, Queue)> {
        let Self { topics, servers, requests, .. } = self;
        let mut oldest: Option<(u64, u64, Queue)> = None;
        let mut look = |backlog: &mut Backlog| {
            let first = backlog.front(|tag| requests.contains(tag));
            if let Some((tag, held)) = first.and_then(|tag| Some((tag, requests.get(tag)?)))
                && let State::Queued(queue) = held.state
                && oldest.is_none_or(|(order, ..)| held.order < order)
            {
                oldest = Some((held.order, tag, queue));
            }
        };
        let server = &mut servers[number];
        for place in &server.places {
            let topic = &mut topics[place.topic];
            look(&mut topic.shared);
            look(&mut topic.named[place.named].backlog);
        }
        look(&mut server.backlog);
        oldest.map(|(_, tag, queue)| (tag, queue))
    }

    /// A request that waited there has left by itself.
    pub(super) fn left(&mut self, queue: Queue) {
        self.backlog(queue).left();
        self.topics[queue.topic].waiting -= 1;
        self.tidy_queue(queue);
    }

    /// Forgets a place where nobody is and nothing waits.
    pub(super) fn tidy_queue(&mut self, queue: Queue) {
        let named = if let At::Named(named) = queue.at { Some(named) } else { None };
        self.tidy(queue.topic, named);
    }

    /// Whom a request waits for, in words.
    pub(super) fn describe(&self, queue: Queue) -> String {
        let topic = &self.topics[queue.topic];
        match queue.at {
            At::Any => topic.key.to_string(),
            At::Named(named) => format!("{} at {}", topic.key, topic.named[named].name),
            At::Run(run) => format!("{} at {}", topic.key, self.servers[run].name),
        }
    }

    /// The server whose copy of a fanout waits there.
    pub(super) fn whose(&self, queue: Queue) -> Option<ServerName> {
        match queue.at {
            At::Run(run) => Some(self.servers[run].name.clone()),
            At::Any | At::Named(_) => None,
        }
    }

    /// Refuses what was taken out of a queue, but for what `stays`; that goes back.
    pub(super) fn refuse_all_but(
        &mut self,
        queue: Queue,
        stays: impl Fn(&super::Held<O, L>) -> bool,
        reason: Reason,
        detail: &str,
    ) {
        let tags = self.backlog(queue).take();
        let requests = &self.requests;
        let live = tags.into_iter().filter(|tag| requests.contains(*tag));
        let (stay, go): (Vec<u64>, Vec<u64>) = live.partition(|tag| requests.get(*tag).is_some_and(&stays));
        *self.backlog(queue) = Backlog::from(VecDeque::from(stay));
        let server = self.whose(queue);
        for tag in go {
            if let Some(held) = self.requests.remove(tag) {
                self.held_bytes -= held.bytes;
                // A run's queue holds copies for all of its topics.
                if let State::Queued(Queue { topic, .. }) = held.state {
                    self.topics[topic].waiting -= 1;
                }
                self.refuse_held(held, server.clone(), reason, detail);
            }
        }
    }
}

/// On its own, so that the requests can be looked at meanwhile.
fn backlog_at<'a, O>(topics: &'a mut Slab<Topic>, servers: &'a mut Slab<Server<O>>, queue: Queue) -> &'a mut Backlog {
    match queue.at {
        At::Any => &mut topics[queue.topic].shared,
        At::Named(named) => &mut topics[queue.topic].named[named].backlog,
        At::Run(run) => &mut servers[run].backlog,
    }
}
