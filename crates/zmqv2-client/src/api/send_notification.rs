//! Sends a notification: one message for each pool that the directory lists. If the directory does
//! not list the pools of every node, one broker makes the copies.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use zmqv2_matchmaker::Placement;
use zmqv2_proto::{
    Flags, Header, Kind, MessageId, Notification, Priority, RequestContext, ServerName, Target, Ttl, deadline,
};

use crate::api::handles::notify::{NotifyHandle, uuid};
use crate::api::notifier::Notifier;
use crate::api::send::not_queued;
use crate::clock;
use crate::delivery::request::MIN_TIMEOUT;
use crate::delivery::table::DeliveryOptions;
use crate::io::outbound::{Message, Outbound, ResultSender};
use crate::outcome::receiver_tracker::ExpectedReceivers;
use crate::outcome::result_group::{Part, ResultGroup};
use crate::outcome::send_error::SendError;
use crate::routing::destinations::Destinations;
use crate::routing::directory::{Doubt, Listing};
use crate::routing::route::Route;

/// One pool of a topic, and the nodes that may take its message. Without a name: all pools that the
/// broker knows.
type Pool = (Option<ServerName>, Destinations);

/// Sending notifications.
impl Notifier {
    /// Says that `event_type` happened, with a payload about it. Does not wait: the handle gives
    /// the outcomes.
    ///
    /// This blocks only while the client has no room ([`WhenFull::Wait`](crate::WhenFull::Wait)),
    /// and for the first lookup of a topic. This call sets the id and the time of the notification.
    ///
    /// # Errors
    /// [`SendError`]: nothing was sent to any of the topics.
    pub fn notify(
        &self,
        context: &RequestContext,
        event_type: &str,
        payload: &(impl Serialize + ?Sized),
        priority: Priority,
    ) -> Result<NotifyHandle, SendError> {
        let (options, settings) = (&self.options, &self.connections.settings);
        let started = clock::now();
        let bounded = |duration: Duration| duration.clamp(MIN_TIMEOUT, Ttl::MAX.into());
        let expires = deadline(started, bounded(options.time_to_live));
        let deadline = expires.min(deadline(started, bounded(options.timeout.unwrap_or(settings.config.cast_timeout))));
        let delivery = DeliveryOptions { expires, retries: options.retries, ..DeliveryOptions::new(deadline) };
        let exchange = options.exchange.as_ref().unwrap_or(&settings.config.control_exchange);

        let id = MessageId::random();
        let mut notification: Option<Notification> = None;
        let (mut parts, mut messages, mut first_target, mut incomplete) = (Vec::new(), Vec::new(), None, None);
        for topic in &options.topics {
            let target = Arc::new(Target::new(exchange.clone(), priority.topic(topic)?).for_listeners());
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
            let (size, limit) = (body.len(), settings.config.max_message_bytes);
            if size > limit {
                return Err(SendError::TooLarge { size, limit, target: boxed_target() });
            }
            let (pools, doubt) = self.pools(&target, started, deadline)?;
            incomplete = incomplete.or_else(|| doubt.map(|doubt| doubt.to_string().into()));
            let expected = |pool: &Option<_>| pool.clone().map_or(ExpectedReceivers::Unknown, ExpectedReceivers::Pool);
            parts.extend(pools.iter().map(|(pool, _)| Part::new(topic.clone(), None, expected(pool))));
            first_target.get_or_insert_with(|| Arc::clone(&target));
            messages.extend(pool_messages(pools, unique_id, target, body, started, delivery));
        }

        let (receiver, part_senders) = ResultGroup::start(started, parts, incomplete);
        let outbounds = messages.into_iter().zip(part_senders).map(|((message, route, delivery), part_sender)| {
            Outbound::new(Arc::new(message), route, delivery, ResultSender::Part(part_sender))
        });
        if let (Err(error), Some(target)) = (self.connections.io_thread.send_all(outbounds.collect()), first_target) {
            return Err(not_queued(error, &target));
        }
        Ok(NotifyHandle::new(id, receiver))
    }

    /// The pools of a topic, and the nodes that may take their messages. Also returns why there may
    /// be other pools. Waits for the directory for at most half of the time, because the broker of
    /// this node can keep the notification without it.
    fn pools(
        &self,
        target: &Target,
        started: Instant,
        deadline: Instant,
    ) -> Result<(Vec<Pool>, Option<Doubt>), SendError> {
        let router = &self.connections.router;
        let key = target.key();
        let mut lookup = None;
        let wait_until = || {
            let now = clock::now();
            let left = deadline.saturating_duration_since(now);
            zmqv2_proto::deadline(now, if router.has_own_broker() { left / 2 } else { left })
        };
        let Listing { placement, doubt } = router.directory.listing(&key, wait_until, &mut lookup);
        if placement.is_empty() {
            if let Some(doubt) = doubt.clone().filter(|_| !router.has_own_broker()) {
                let after = clock::now().saturating_duration_since(started);
                return Err(doubt.into_error(Box::new(target.clone()), after));
            }
            // The directory knows no listener, so the broker of this node keeps the notification.
            return Ok((vec![(None, Destinations::Listed(vec![router.local_destination()]))], doubt));
        }
        let turn = router.directory.turn(&key);
        let destinations = |pool| router.destinations_from(&key, turn, placement.candidates(pool));
        let pools = match listed_pools(&placement) {
            Some(pools) => pools.into_iter().map(|pool| (Some(pool.clone()), destinations(Some(pool)))).collect(),
            None => vec![(None, destinations(None))],
        };
        Ok((pools, doubt))
    }
}

/// The messages of one topic. They share the body, so only the first one counts its bytes.
fn pool_messages(
    pools: Vec<Pool>,
    id: MessageId,
    target: Arc<Target>,
    body: Vec<u8>,
    started: Instant,
    delivery: DeliveryOptions,
) -> impl Iterator<Item = (Message, Route, DeliveryOptions)> {
    let (mut size, body) = (body.len(), Arc::new(body));
    pools.into_iter().map(move |(pool, destinations)| {
        let mut header = Header::new(Kind::Notify, id);
        header.flags = if delivery.retries > 0 { Flags::MAY_REPEAT } else { Flags::NONE };
        header.key = Some(target.key());
        header.server.clone_from(&pool);
        let header = header.encode();
        let bytes = std::mem::take(&mut size) + header.len();
        let mut target = Arc::clone(&target);
        Arc::make_mut(&mut target).server = pool;
        let message = Message { id, kind: Kind::Notify, target, header, body: Arc::clone(&body), started };
        (message, Route::to_any(destinations, started), DeliveryOptions { bytes, ..delivery })
    })
}

/// All pools of a topic; `None`: the directory does not list the pools of every node.
fn listed_pools(placement: &Placement) -> Option<Vec<&ServerName>> {
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
            listed_pools(&Placement::new(nodes)).map(|pools| pools.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(names(vec![placed("n1", &["b", "a"]), placed("n2", &["a", "c"])]).unwrap(), ["b", "a", "c"]);
        assert_eq!(names(vec![placed("n1", &["a"]), placed("n2", &[])]), None);
    }
}
