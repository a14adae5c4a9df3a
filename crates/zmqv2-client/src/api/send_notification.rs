//! Sends a notification: one message for each pool that the directory lists. If the directory does
//! not list the pools of every node, one broker makes the copies.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use zmqv2_matchmaker::{MatchmakerError, Placement};
use zmqv2_proto::{
    Flags, Header, Kind, MessageId, Notification, Priority, RequestContext, ServerName, Target, Topic, Ttl,
};

use crate::api::connections::Connections;
use crate::api::handles::notify::{NotifyHandle, uuid};
use crate::api::notifier::NotifyOptions;
use crate::api::send::not_queued;
use crate::clock;
use crate::delivery::request::{MIN_TIMEOUT, Request};
use crate::delivery::table::DeliveryOptions;
use crate::io::outbound::{Message, Outbound, ResultSender};
use crate::outcome::receiver_tracker::ExpectedReceivers;
use crate::outcome::result_group::{Part, ResultGroup};
use crate::outcome::send_error::SendError;
use crate::routing::destinations::Destinations;
use crate::routing::directory::LookupError;

/// A notification for one topic.
struct TopicNotification {
    id: MessageId,
    /// Without the priority.
    topic: Topic,
    target: Arc<Target>,
    body: Arc<Vec<u8>>,
    pool_messages: Vec<PoolMessage>,
}

/// The message for one pool of a topic.
struct PoolMessage {
    /// `None`: for all pools that the broker knows.
    pool: Option<ServerName>,
    destinations: Destinations,
}

impl Connections {
    pub(crate) fn send_notification(
        &self,
        options: &NotifyOptions,
        context: &RequestContext,
        event_type: &str,
        payload: &(impl Serialize + ?Sized),
        priority: Priority,
    ) -> Result<NotifyHandle, SendError> {
        let started = clock::now();
        let bounded = |duration: Duration| duration.clamp(MIN_TIMEOUT, Ttl::MAX.into());
        let expires = started + bounded(options.time_to_live);
        let deadline = expires.min(started + bounded(options.timeout.unwrap_or(self.settings.cast_timeout)));
        let exchange = options.exchange.as_ref().unwrap_or(&self.settings.exchange);

        let id = MessageId::random();
        let mut notification: Option<Notification> = None;
        let mut notifications = Vec::with_capacity(options.topics.len());
        for topic in &options.topics {
            let target = Arc::new(Target::new(exchange.clone(), priority.topic(topic)?));
            let boxed_target = || Box::new(Target::clone(&target));
            let payload_error =
                |source| SendError::Payload { event_type: event_type.to_owned(), target: boxed_target(), source };
            // A listener of two topics must not drop the second as a repetition of the first.
            let unique_id = if notification.is_none() { id } else { MessageId::random() };
            let notification = match &mut notification {
                Some(notification) => notification,
                none => {
                    let new = Notification::new(&options.publisher_id, event_type, priority, payload);
                    let mut new = new.map_err(payload_error)?;
                    new.message_id = uuid(id);
                    new.timestamp = clock::timestamp();
                    new.context = context.clone();
                    none.insert(new)
                }
            };
            notification.unique_id = Some(unique_id);
            let body = notification.encode().map_err(payload_error)?;
            let (size, limit) = (body.len(), self.settings.max_message_bytes);
            if size > limit {
                return Err(SendError::TooLarge { size, limit, target: boxed_target() });
            }
            notifications.push(TopicNotification {
                id: unique_id,
                topic: topic.clone(),
                pool_messages: self.pool_messages(&target, event_type, started, deadline)?,
                target,
                body: Arc::new(body),
            });
        }

        let parts = notifications.iter().flat_map(|notification| {
            notification.pool_messages.iter().map(|PoolMessage { pool, .. }| {
                let expected = pool.clone().map_or(ExpectedReceivers::Unknown, ExpectedReceivers::Pool);
                Part::new(notification.topic.clone(), None, expected)
            })
        });
        let (receiver, part_senders) = ResultGroup::start(started, parts.collect());
        let delivery = DeliveryOptions {
            deadline,
            expires,
            retries: options.retries,
            wait_for_ready: false,
            monitor: None,
            candidates: 0,
            bytes: 0,
            server_queue: None,
        };
        let first_target = notifications.first().map(|notification| notification.target.clone());
        let messages = notifications.into_iter().flat_map(|notification| notification.messages(started, delivery));
        let outbounds = messages.zip(part_senders).map(|((message, destinations, delivery), part_sender)| {
            Outbound::new(Arc::new(message), destinations, delivery, ResultSender::Part(part_sender))
        });
        if let (Err(error), Some(target)) = (self.io_thread.send_all(outbounds.collect()), first_target) {
            return Err(not_queued(error, Box::new(Target::clone(&target))));
        }
        Ok(NotifyHandle::new(id, receiver))
    }

    /// The message for each pool, with the places where it can go.
    fn pool_messages(
        &self,
        target: &Arc<Target>,
        event_type: &str,
        started: Instant,
        deadline: Instant,
    ) -> Result<Vec<PoolMessage>, SendError> {
        let directory = &self.router.directory;
        // The directory knows no listener, so the broker of this node keeps the notification.
        let kept_here = || {
            Ok(vec![PoolMessage { pool: None, destinations: [self.router.local_destination()].into_iter().collect() }])
        };
        let key = target.key();
        let placement = match directory.placement(&key, deadline) {
            Ok(placement) if placement.is_empty() => return kept_here(),
            Ok(placement) => placement,
            Err(LookupError::Failed(error)) if matches!(*error, MatchmakerError::Refilling { .. }) => {
                return kept_here();
            }
            Err(error) => {
                let request = Request { target, key: &key, method: event_type, started, deadline, monitor: None };
                return Err(error.into_send_error(&request, directory.name(), clock::now()));
            }
        };
        let turn = directory.turn(&key);
        let pool_message = |pool: Option<&ServerName>| {
            let destinations = self.router.destinations_from(&key, turn, placement.candidates(pool));
            PoolMessage { pool: pool.cloned(), destinations }
        };
        Ok(match pools(&placement) {
            Some(pools) => pools.into_iter().map(|pool| pool_message(Some(pool))).collect(),
            None => vec![pool_message(None)],
        })
    }
}

impl TopicNotification {
    /// The messages of this topic. They share the body, so only the first one counts its bytes.
    fn messages(
        self,
        started: Instant,
        delivery: DeliveryOptions,
    ) -> impl Iterator<Item = (Message, Destinations, DeliveryOptions)> {
        let flags = if delivery.retries > 0 { Flags::MAY_REPEAT } else { Flags::NONE };
        let Self { id, target, body, pool_messages, .. } = self;
        let mut size = body.len();
        pool_messages.into_iter().map(move |PoolMessage { pool, destinations }| {
            let mut header = Header::new(Kind::Notify, id);
            header.flags = flags;
            header.key = Some(target.key());
            header.server.clone_from(&pool);
            let header = header.encode();
            let bytes = std::mem::take(&mut size) + header.len();
            let mut target = Arc::clone(&target);
            Arc::make_mut(&mut target).server = pool;
            let message = Message { id, kind: Kind::Notify, target, header, body: Arc::clone(&body), started };
            let candidates = destinations.len();
            (message, destinations, DeliveryOptions { candidates, bytes, ..delivery })
        })
    }
}

/// All pools of a topic; `None`: the directory does not list the pools of every node.
fn pools(placement: &Placement) -> Option<Vec<&ServerName>> {
    let mut seen = HashSet::new();
    let mut pools = Vec::new();
    for placed in placement.nodes() {
        if placed.servers.is_empty() {
            return None;
        }
        pools.extend(placed.servers.iter().filter(|pool| seen.insert(*pool)));
    }
    Some(pools)
}

#[cfg(test)]
mod tests {
    use zmqv2_matchmaker::PlacedNode;
    use zmqv2_proto::Node;

    use super::*;

    #[test]
    fn pools_are_known_if_the_directory_lists_those_of_every_node() {
        let placed = |name: &str, pools: &[&str]| PlacedNode {
            node: Node::new(name.parse().unwrap(), name.parse().unwrap()),
            servers: pools.iter().map(|pool| pool.parse().unwrap()).collect(),
        };
        let names = |nodes: Vec<PlacedNode>| {
            pools(&Placement::new(nodes)).map(|pools| pools.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(names(vec![placed("n1", &["b", "a"]), placed("n2", &["a", "c"])]).unwrap(), ["b", "a", "c"]);
        assert_eq!(names(vec![placed("n1", &["a"]), placed("n2", &[])]), None);
    }
}
