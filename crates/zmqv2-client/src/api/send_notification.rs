//! Sends a notification: one message for each pool that the directory lists. If the directory does
//! not list the pools of every node, one broker makes the copies.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use zmqv2_matchmaker::Placement;
use zmqv2_proto::{
    Flags, Header, Kind, MessageId, NodeName, Notification, Priority, RequestContext, ServerName, Target, Topic, Ttl,
    deadline,
};

use crate::api::connections::Connections;
use crate::api::handles::notify::{NotifyHandle, uuid};
use crate::api::notifier::{DEFAULT_TOPIC, Notifier};
use crate::api::send::not_queued;
use crate::clock;
use crate::delivery::request::MIN_TIMEOUT;
use crate::delivery::table::DeliveryOptions;
use crate::interceptor::Verb;
use crate::interceptor::chain::Around;
use crate::io::outbound::{Message, Outbound, ResultSender};
use crate::outcome::receiver_tracker::ExpectedReceivers;
use crate::outcome::result_group::{GroupReceiver, Part, ResultGroup};
use crate::outcome::send_error::SendError;
use crate::routing::destinations::Destinations;
use crate::routing::directory::{Doubt, Listing};
use crate::routing::route::Route;
use crate::routing::router::Router;

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
        self.send(NotificationDraft::new(self, context, event_type, payload, priority)?)
    }

    pub(super) fn send(&self, mut draft: NotificationDraft) -> Result<NotifyHandle, SendError> {
        let Connections { router, io_thread, .. } = &**self.connections;
        let mut messages = Messages::default();
        for topic in &draft.topics {
            let wait_until = || draft.lookup_until(router);
            let listing = router.directory.listing(&topic.target.key(), wait_until, &mut None);
            messages.add(router, &draft, topic, listing)?;
        }
        let (outbounds, receiver) = messages.start(draft.started, std::mem::take(&mut draft.around));
        io_thread.send_all(outbounds).map_err(|error| not_queued(error, &draft.target))?;
        Ok(NotifyHandle::new(draft.id, receiver))
    }
}

/// A notification that is encoded for each of its topics, and has no nodes yet.
#[derive(Debug)]
pub(super) struct NotificationDraft {
    pub(super) id: MessageId,
    pub(super) started: Instant,
    delivery: DeliveryOptions,
    flags: Flags,
    caller: NodeName,
    pub(super) around: Around,
    /// The target of the first topic, for errors.
    pub(super) target: Arc<Target>,
    pub(super) topics: Vec<TopicDraft>,
}

/// The message for one topic.
#[derive(Debug)]
pub(super) struct TopicDraft {
    topic: Topic,
    pub(super) target: Arc<Target>,
    id: MessageId,
    body: Arc<Vec<u8>>,
    /// How many bytes of the body this topic counts. Topics that share a body count it once.
    counted: usize,
}

impl NotificationDraft {
    pub(super) fn new(
        notifier: &Notifier,
        context: &RequestContext,
        event_type: &str,
        payload: &(impl Serialize + ?Sized),
        priority: Priority,
    ) -> Result<Self, SendError> {
        let mut draft = Self::begin(notifier, priority)?;
        let (id, target) = (draft.id, Arc::clone(&draft.target));
        let interceptors = &notifier.connections.settings.interceptors;
        let (context, around) = interceptors.before(Verb::Notify, &target, Some(event_type), Cow::Borrowed(context))?;
        draft.around = around;
        let mut notification: Option<Notification> = None;
        draft.encode(notifier, |target, unique_id| {
            let payload_error = |source| SendError::Payload {
                event_type: event_type.to_owned(),
                target: Box::new(target.clone()),
                source,
            };
            let notification = match &mut notification {
                Some(notification) => notification,
                none => {
                    let new = Notification::new(&notifier.options.publisher_id, event_type, priority, payload);
                    let mut new = new.map_err(payload_error)?;
                    new.message_id = uuid(id);
                    new.timestamp = clock::timestamp();
                    new.context = RequestContext::clone(&context);
                    none.insert(new)
                }
            };
            notification.unique_id = Some(unique_id);
            Ok(Arc::new(notification.encode().map_err(payload_error)?))
        })?;
        Ok(draft)
    }

    /// A notification with a body that is ready.
    pub(super) fn ready(notifier: &Notifier, body: Vec<u8>, priority: Priority) -> Result<Self, SendError> {
        let mut draft = Self::begin(notifier, priority)?;
        draft.around = notifier.connections.settings.interceptors.before_body(Verb::Notify, &draft.target)?;
        let body = Arc::new(body);
        draft.encode(notifier, |_, _| Ok(Arc::clone(&body)))?;
        draft.topics.iter_mut().skip(1).for_each(|topic| topic.counted = 0);
        Ok(draft)
    }

    /// A notification with the targets of its topics.
    fn begin(notifier: &Notifier, priority: Priority) -> Result<Self, SendError> {
        let (options, settings) = (&notifier.options, &notifier.connections.settings);
        let started = clock::now();
        let bounded = |duration: Duration| duration.clamp(MIN_TIMEOUT, Ttl::MAX.into());
        let expires = deadline(started, bounded(options.time_to_live));
        let timeout = bounded(options.timeout.unwrap_or(settings.config.cast_timeout));
        let options = DeliveryOptions::new(expires.min(deadline(started, timeout)));
        let delivery = DeliveryOptions { expires, retries: notifier.options.retries, ..options };
        let exchange = notifier.options.exchange.as_ref().unwrap_or(&settings.config.control_exchange);
        let id = MessageId::random();
        let mut topics = Vec::new();
        for topic in &notifier.options.topics {
            let target = Arc::new(Target::new(exchange.clone(), priority.topic(topic)?).for_listeners());
            // A listener of two topics must not drop the second as a repetition of the first.
            let id = if topics.is_empty() { id } else { MessageId::random() };
            topics.push(TopicDraft { topic: topic.clone(), target, id, body: Arc::default(), counted: 0 });
        }
        let target = match topics.first() {
            Some(first) => Arc::clone(&first.target),
            None => Arc::new(Target::new(exchange.clone(), priority.topic(&Topic::new(DEFAULT_TOPIC)?)?)),
        };
        let mut flags = if notifier.options.retries > 0 { Flags::MAY_REPEAT } else { Flags::NONE };
        if notifier.options.until_stored {
            flags = flags.with(Flags::ANSWER_STORED);
        }
        let caller = settings.config.host.clone();
        Ok(Self { id, started, delivery, flags, caller, around: Around::default(), target, topics })
    }

    /// Encodes the body for each topic.
    fn encode(
        &mut self,
        notifier: &Notifier,
        mut body: impl FnMut(&Target, MessageId) -> Result<Arc<Vec<u8>>, SendError>,
    ) -> Result<(), SendError> {
        let limit = notifier.connections.settings.config.max_message_bytes;
        for topic in &mut self.topics {
            topic.body = body(&topic.target, topic.id)?;
            topic.counted = topic.body.len();
            if topic.counted > limit {
                let target = Box::new(Target::clone(&topic.target));
                return Err(SendError::TooLarge { size: topic.counted, limit, target });
            }
        }
        Ok(())
    }

    /// How long a notification waits for the directory: at most half of the time that is left, because
    /// the broker of this node can keep the notification without it.
    pub(super) fn lookup_until(&self, router: &Router) -> Instant {
        let now = clock::now();
        let left = self.delivery.deadline.saturating_duration_since(now);
        deadline(now, if router.has_own_broker() { left / 2 } else { left })
    }
}

/// The messages of a notification: one for each pool of each topic.
#[derive(Debug, Default)]
pub(super) struct Messages {
    parts: Vec<Part>,
    messages: Vec<(Message, Route, DeliveryOptions)>,
    /// Why there may be other pools.
    incomplete: Option<Arc<str>>,
}

impl Messages {
    /// Adds the messages of a topic to the pools that the directory lists.
    pub(super) fn add(
        &mut self,
        router: &Router,
        draft: &NotificationDraft,
        topic: &TopicDraft,
        listing: Listing,
    ) -> Result<(), SendError> {
        let (pools, doubt) = pools(router, &topic.target, draft.started, listing)?;
        if self.incomplete.is_none() {
            self.incomplete = doubt.map(|doubt| doubt.to_string().into());
        }
        let expected = |pool: &Option<_>| pool.clone().map_or(ExpectedReceivers::Unknown, ExpectedReceivers::Pool);
        self.parts.extend(pools.iter().map(|(pool, _)| Part::new(topic.topic.clone(), None, expected(pool))));
        self.messages.extend(pool_messages(pools, draft, topic));
        Ok(())
    }

    pub(super) fn start(self, started: Instant, around: Around) -> (Vec<Outbound>, GroupReceiver) {
        let (receiver, part_senders) = ResultGroup::start(started, self.parts, self.incomplete, around);
        let outbounds = self.messages.into_iter().zip(part_senders).map(|((message, route, delivery), part_sender)| {
            Outbound::new(Arc::new(message), route, delivery, ResultSender::Part(part_sender))
        });
        (outbounds.collect(), receiver)
    }
}

/// The pools of a topic, and the nodes that may take their messages. Also returns why there may be
/// other pools.
fn pools(
    router: &Router,
    target: &Target,
    started: Instant,
    listing: Listing,
) -> Result<(Vec<Pool>, Option<Doubt>), SendError> {
    let key = target.key();
    let Listing { placement, doubt } = listing;
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

/// The messages of one topic. They share the body, so only the first one counts its bytes.
fn pool_messages(
    pools: Vec<Pool>,
    draft: &NotificationDraft,
    topic: &TopicDraft,
) -> impl Iterator<Item = (Message, Route, DeliveryOptions)> {
    let &NotificationDraft { started, delivery, flags, ref caller, .. } = draft;
    let TopicDraft { target, id, body, counted, .. } = topic;
    let mut size = *counted;
    pools.into_iter().map(move |(pool, destinations)| {
        let mut header = Header::new(Kind::Notify, *id);
        header.flags = flags;
        header.key = Some(target.key());
        header.server.clone_from(&pool);
        header.node = Some(caller.clone());
        let header = header.encode();
        let bytes = std::mem::take(&mut size) + header.len();
        let mut target = Arc::clone(target);
        Arc::make_mut(&mut target).server = pool;
        let message = Message { id: *id, kind: Kind::Notify, target, header, body: Arc::clone(body), started };
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
