//! Options of the last ZeroMQ driver (8.1) that have no effect here.

use crate::config::options::spec::{DEFAULT, REDIS, ZMQ};

/// An option that is accepted, with a warning that says why it is not needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retired {
    /// The name in a file, in group `DEFAULT`, `oslo_messaging_zmq` or `matchmaker_redis`.
    pub name: &'static str,
    /// The reason why the option is not needed.
    pub reason: &'static str,
}

/// Every retired option, by reason.
pub(crate) const RETIRED: &[(&[&str], &str)] = &[
    (&["zmq_linger"], "a sender knows the outcome of each message before it closes; rpc_cast_timeout is the bound"),
    (
        &["zmq_target_expire", "zmq_target_update"],
        "registrations are leases: matchmaker_heartbeat_freq renews them and matchmaker_heartbeat_ttl ends them",
    ),
    (&["zmq_immediate"], "a message is only sent over a connection that is up; rpc_zmq_connect_timeout is the bound"),
    (
        &["zmq_tcp_keepalive", "zmq_tcp_keepalive_idle", "zmq_tcp_keepalive_cnt", "zmq_tcp_keepalive_intvl"],
        "heartbeats of the connection find a dead peer sooner than TCP does",
    ),
    (
        &["zmq_failover_connections"],
        "when one node cannot be reached within rpc_zmq_connect_timeout, the next one is tried",
    ),
    (
        &["rpc_message_ttl"],
        "a message carries the time for which its sender waits: rpc_cast_timeout or rpc_response_timeout",
    ),
    (
        &["rpc_use_acks", "rpc_ack_timeout_base", "rpc_ack_timeout_multiplier"],
        "every message is acknowledged; a cast waits up to rpc_cast_timeout for it and a call up to \
         rpc_response_timeout for its reply",
    ),
    (&["rpc_retry_attempts"], "the number of retries is an argument of the call (retry)"),
    (&["rpc_poll_timeout"], "nothing polls: loops wait for an event or the next deadline"),
    (&["subscribe_on"], "there are no subscriptions: the matchmaker names the nodes of a fanout"),
    (&["use_pub_sub"], "a fanout is one acknowledged message to each node, without PUB and SUB"),
    (&["use_router_proxy"], "messages always go through the broker of the destination node"),
    (&["use_dynamic_connections"], "connections are always opened on demand; rpc_conn_pool_size is the bound"),
    (
        &["rpc_zmq_min_port", "rpc_zmq_max_port", "rpc_zmq_bind_port_retries"],
        "a node listens on the one port of its broker, rpc_zmq_port",
    ),
    (&["rpc_zmq_concurrency"], "there are no green threads: a server has rpc_thread_pool_size threads"),
    (&["rpc_backend"], "transport_url names the driver"),
    (&["rpc_zmq_serialization"], "bodies are JSON, as in the legacy driver"),
];

/// The same in the group `matchmaker_redis`.
pub(crate) const RETIRED_OF_REDIS: &[(&[&str], &str)] = &[(
    &["wait_timeout", "check_timeout", "socket_timeout"],
    "requests to Redis have fixed bounds of a few seconds, and a lost connection is opened again",
)];

/// The retired option `name` of `group`.
pub(crate) fn find(group: &str, name: &str) -> Option<Retired> {
    let table = match group {
        DEFAULT | ZMQ => RETIRED,
        REDIS => RETIRED_OF_REDIS,
        _ => return None,
    };
    let (names, reason) = table.iter().find(|(names, _)| names.contains(&name))?;
    let name = names.iter().find(|known| **known == name)?;
    Some(Retired { name, reason })
}
