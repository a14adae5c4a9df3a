//! Targets, and the keys of their topics.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::naming::{Exchange, InvalidName, Namespace, ServerName, Topic, Version, shared_text};

/// The address of a message, or the offer of a server.
///
/// A client's target needs a topic; a server name restricts it to that server. A server's target
/// needs a topic and a server name. Namespace and version choose the interface.
///
/// ```
/// use zmqv2_proto::Target;
///
/// # fn main() -> Result<(), zmqv2_proto::InvalidName> {
/// let target = Target::topic("nova.compute")?.with_server("node-7")?;
/// assert_eq!(target.key().to_string(), "openstack/nova.compute");
/// assert_eq!(target.to_string(), "openstack/nova.compute at node-7");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Target {
    /// The scope of the topic. `None`: the configured one (option `control_exchange`).
    pub exchange: Option<Exchange>,
    /// The service.
    pub topic: Topic,
    /// Exactly this server of the topic. `None`: any server.
    pub server: Option<ServerName>,
    /// The interface's namespace. `None`: the unnamed one.
    pub namespace: Option<Namespace>,
    /// The interface's version. `None`: 1.0.
    pub version: Option<Version>,
    /// Whether the message is for every server of the topic.
    pub fanout: bool,
    /// The kind of receivers of the topic that is meant.
    pub receivers: ReceiverKind,
}

/// The default of the option `control_exchange`, as in the legacy driver.
pub const DEFAULT_EXCHANGE: &str = "openstack";

impl Target {
    /// A target for `topic` in the configured exchange (option `control_exchange`).
    ///
    /// # Errors
    /// [`InvalidName`] when `topic` is not a valid topic.
    pub fn topic(topic: impl AsRef<str>) -> Result<Self, InvalidName> {
        Ok(Self {
            topic: Topic::new(topic)?,
            exchange: None,
            server: None,
            namespace: None,
            version: None,
            fanout: false,
            receivers: ReceiverKind::default(),
        })
    }

    /// A target for `topic` in `exchange`.
    #[must_use]
    pub fn new(exchange: Exchange, topic: Topic) -> Self {
        let (server, namespace, version, fanout, receivers) = Default::default();
        Self { topic, exchange: Some(exchange), server, namespace, version, fanout, receivers }
    }

    /// The same target in another exchange.
    ///
    /// # Errors
    /// [`InvalidName`] when `exchange` is not a valid exchange.
    pub fn with_exchange(mut self, exchange: impl AsRef<str>) -> Result<Self, InvalidName> {
        self.exchange = Some(Exchange::new(exchange)?);
        Ok(self)
    }

    /// The same target, in `exchange` if it names none. Clients, servers and listeners apply the
    /// option `control_exchange` with it.
    #[must_use]
    pub fn with_default_exchange(mut self, exchange: &Exchange) -> Self {
        self.exchange.get_or_insert_with(|| exchange.clone());
        self
    }

    /// The same target at exactly this server.
    ///
    /// # Errors
    /// [`InvalidName`] when `server` is not a valid server name.
    pub fn with_server(mut self, server: impl AsRef<str>) -> Result<Self, InvalidName> {
        self.server = Some(ServerName::new(server)?);
        Ok(self)
    }

    /// The same target in another namespace.
    ///
    /// # Errors
    /// [`InvalidName`] when `namespace` is not a valid namespace.
    pub fn with_namespace(mut self, namespace: impl AsRef<str>) -> Result<Self, InvalidName> {
        self.namespace = Some(Namespace::new(namespace)?);
        Ok(self)
    }

    /// The same target in another version.
    #[must_use]
    pub fn with_version(mut self, version: Version) -> Self {
        self.version = Some(version);
        self
    }

    /// The same target, for notification listeners.
    #[must_use]
    pub fn for_listeners(mut self) -> Self {
        self.receivers = ReceiverKind::Listener;
        self
    }

    /// The key of this target's topic and kind of receiver. A target without an exchange is in [`DEFAULT_EXCHANGE`].
    #[must_use]
    pub fn key(&self) -> TopicKey {
        let key = TopicKey::join(self.exchange_name(), &self.topic);
        if self.receivers == ReceiverKind::Listener { key.for_listeners() } else { key }
    }

    fn exchange_name(&self) -> &str {
        self.exchange.as_ref().map_or(DEFAULT_EXCHANGE, Exchange::as_str)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.exchange_name(), self.topic)?;
        if let Some(server) = &self.server {
            write!(f, " at {server}")?;
        }
        Ok(())
    }
}

/// A kind of receiver. An RPC server of the topic `x.info`, and a listener for notifications of the
/// topic `x` with the priority info, whose topic is `x.info` as well, are two services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReceiverKind {
    /// RPC servers, which get calls, casts and fanouts.
    #[default]
    Server,
    /// Notification listeners.
    Listener,
}

/// The end of the keys of listeners.
const LISTENERS: &str = "/notify";

/// Exchange, topic and kind of receiver in one key. It is written `exchange/topic` for RPC servers,
/// and `exchange/topic/notify` for notification listeners. In a header it is always written
/// `exchange/topic`, because the kind of message tells the kind of receiver.
///
/// `/` cannot occur in a name, so two different services never share a key.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicKey(Arc<str>);

impl TopicKey {
    /// Joins the two names.
    #[must_use]
    pub fn new(exchange: &Exchange, topic: &Topic) -> Self {
        Self::join(exchange.as_str(), topic)
    }

    fn join(exchange: &str, topic: &Topic) -> Self {
        Self([exchange, "/", topic.as_str()].concat().into())
    }

    /// Reads the key of RPC servers, as it stands in a header or a ring file. [`FromStr`] reads those
    /// of listeners too.
    ///
    /// [`FromStr`]: std::str::FromStr
    ///
    /// # Errors
    /// [`InvalidName`] when `text` is not two names with one `/` between them.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let (exchange, topic) = text
            .split_once('/')
            .ok_or_else(|| InvalidName::new("topic key", text, "it has no '/' between exchange and topic"))?;
        Exchange::check(exchange)?;
        Topic::check(topic)?;
        Ok(Self(text.into()))
    }

    fn parse_any(text: &str) -> Result<Self, InvalidName> {
        match text.strip_suffix(LISTENERS) {
            Some(name) if name.contains('/') => Self::parse(name).map(|key| key.for_listeners()),
            _ => Self::parse(text),
        }
    }

    /// The key of the listeners of this topic.
    #[must_use]
    pub fn for_listeners(&self) -> Self {
        Self([self.name(), LISTENERS].concat().into())
    }

    /// The key of the RPC servers of this topic.
    #[must_use]
    pub fn for_servers(&self) -> Self {
        if self.receivers() == ReceiverKind::Server { self.clone() } else { Self(self.name().into()) }
    }

    /// The kind of receiver.
    #[must_use]
    pub fn receivers(&self) -> ReceiverKind {
        if self.name().len() == self.0.len() { ReceiverKind::Server } else { ReceiverKind::Listener }
    }

    /// `exchange/topic`, without the kind of receiver.
    #[must_use]
    pub fn name(&self) -> &str {
        // `e/notify` is a topic of its own.
        self.0.strip_suffix(LISTENERS).filter(|name| name.contains('/')).unwrap_or(&self.0)
    }

    /// The key as text, with the kind of receiver.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The topic's name.
    #[must_use]
    pub fn topic(&self) -> &str {
        self.name().split_once('/').map_or("", |(_, topic)| topic)
    }

    /// The exchange's name.
    #[must_use]
    pub fn exchange(&self) -> &str {
        self.0.split_once('/').map_or("", |(exchange, _)| exchange)
    }
}

shared_text!(TopicKey, TopicKey::parse_any);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exchange_is_part_of_the_key() {
        let one = Target::topic("t").unwrap();
        let other = Target::topic("t").unwrap().with_exchange("nova").unwrap();
        assert_ne!(one.key(), other.key());
        assert_eq!(TopicKey::parse("nova/t").unwrap(), other.key());
        assert_eq!((other.key().exchange(), other.key().topic()), ("nova", "t"));
    }

    #[test]
    fn a_default_exchange_applies_only_to_targets_that_name_none() {
        let configured = Exchange::new("nova").unwrap();
        let target = Target::topic("t").unwrap();
        assert_eq!((target.key().as_str(), target.to_string().as_str()), ("openstack/t", "openstack/t"));
        assert_eq!(target.clone().with_default_exchange(&configured).key().as_str(), "nova/t");
        let named = target.with_exchange("openstack").unwrap().with_default_exchange(&configured);
        assert_eq!(named.key().as_str(), "openstack/t");
    }

    #[test]
    fn the_kind_of_receiver_is_part_of_the_key() {
        let servers = Target::topic("x.info").unwrap();
        let listeners = servers.clone().for_listeners().key();
        assert_ne!(servers.key(), listeners);
        assert_eq!((listeners.as_str(), listeners.name()), ("openstack/x.info/notify", "openstack/x.info"));
        assert_eq!((listeners.exchange(), listeners.topic()), ("openstack", "x.info"));
        assert_eq!((listeners.receivers(), listeners.for_servers()), (ReceiverKind::Listener, servers.key()));
        assert_eq!(listeners.as_str().parse::<TopicKey>().unwrap(), listeners);
        // In a header the text is never the key of listeners.
        assert!(TopicKey::parse(listeners.as_str()).is_err());
        let odd = TopicKey::parse("e/notify").unwrap();
        assert_eq!((odd.receivers(), odd.topic(), odd.name()), (ReceiverKind::Server, "notify", "e/notify"));
        assert_eq!(odd.for_listeners().as_str().parse::<TopicKey>().unwrap().for_servers(), odd);
    }

    #[test]
    fn keys_without_exactly_two_names_are_refused() {
        for text in ["", "t", "/t", "e/", "e/t/x", "e/..", "e/a b"] {
            assert!(TopicKey::parse(text).is_err(), "{text:?}");
        }
    }
}
