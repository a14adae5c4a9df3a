//! Options of the last ZeroMQ driver (8.1) that have no effect here.

use crate::config::options::spec::{DEFAULT, ZMQ};

/// An option that is accepted, with a warning that says why it is not needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retired {
    /// Its name in a file, in group `DEFAULT` or `oslo_messaging_zmq`.
    pub name: &'static str,
    /// Why it is not needed.
    pub reason: &'static str,
}

const fn retired(name: &'static str, reason: &'static str) -> Retired {
    Retired { name, reason }
}

const KEEPALIVE: &str = "heartbeats of the connection find a dead peer sooner than TCP does";
const LEASES: &str = "registrations are leases: matchmaker_heartbeat_freq renews them and \
                      matchmaker_heartbeat_ttl ends them";
const ACKS: &str = "every message is acknowledged; a cast waits up to rpc_cast_timeout for it and a \
                    call up to rpc_response_timeout for its reply";
const ONE_PORT: &str = "a node listens on the one port of its broker, rpc_zmq_port";
const ONE_PATH: &str = "messages always go through the broker of the destination node";

/// Every retired option.
pub(crate) const RETIRED: &[Retired] = &[
    retired("zmq_linger", "a sender knows the outcome of each message before it closes; rpc_cast_timeout is the bound"),
    retired("zmq_target_expire", LEASES),
    retired("zmq_target_update", LEASES),
    retired(
        "zmq_immediate",
        "a message is only sent over a connection that is up; rpc_zmq_connect_timeout is the bound",
    ),
    retired("zmq_tcp_keepalive", KEEPALIVE),
    retired("zmq_tcp_keepalive_idle", KEEPALIVE),
    retired("zmq_tcp_keepalive_cnt", KEEPALIVE),
    retired("zmq_tcp_keepalive_intvl", KEEPALIVE),
    retired(
        "zmq_failover_connections",
        "when one node cannot be reached within rpc_zmq_connect_timeout, the next one is tried",
    ),
    retired(
        "rpc_message_ttl",
        "a message carries the time for which its sender waits: rpc_cast_timeout or rpc_response_timeout",
    ),
    retired("rpc_use_acks", ACKS),
    retired("rpc_ack_timeout_base", ACKS),
    retired("rpc_ack_timeout_multiplier", ACKS),
    retired("rpc_retry_attempts", "the number of retries is an argument of the call (retry)"),
    retired("rpc_poll_timeout", "nothing polls: loops wait for an event or the next deadline"),
    retired("subscribe_on", "there are no subscriptions: the matchmaker names the nodes of a fanout"),
    retired("use_pub_sub", "a fanout is one acknowledged message to each node, without PUB and SUB"),
    retired("use_router_proxy", ONE_PATH),
    retired("use_dynamic_connections", "connections are always opened on demand; rpc_conn_pool_size is the bound"),
    retired("rpc_zmq_min_port", ONE_PORT),
    retired("rpc_zmq_max_port", ONE_PORT),
    retired("rpc_zmq_bind_port_retries", ONE_PORT),
    retired("rpc_zmq_serialization", "bodies are JSON, as in the legacy driver"),
];

/// The retired option `name` of `group`.
pub(crate) fn find(group: &str, name: &str) -> Option<&'static Retired> {
    let known = group == DEFAULT || group == ZMQ;
    RETIRED.iter().find(|retired| known && retired.name == name)
}
