//! The table of options. It stays in one file, however long it gets.

pub(crate) mod retired;
pub(crate) mod spec;
pub(crate) mod url;
pub(crate) mod value;

use std::time::Duration;

use crate::config::options::spec::{Accepted, DEFAULT, OptionSpec, Parse, Preset, REDIS, RING, ZMQ};

/// The fields that most entries share.
const SHARED: OptionSpec = OptionSpec {
    group: DEFAULT,
    groups: &[DEFAULT, ZMQ],
    name: "",
    preset: Preset::Unset(""),
    doc: "",
    allowed: "",
    reason: None,
    secret: false,
    parse: Parse::Text(|_, _| Ok(())),
};
const DEFAULT_ONLY: OptionSpec = OptionSpec { groups: &[DEFAULT], ..SHARED };
const OF_REDIS: OptionSpec = OptionSpec { group: REDIS, groups: &[REDIS], ..SHARED };

const SPAN: &str = "0.001 to 4294967 seconds";
const SPAN_OR_ZERO: &str = "0 to 4294967 seconds (0 does not wait)";
const SENTINELS: &str = "host[:port], separated by commas; the default port is 26379";
const NAME: &str = "1 to 255 printable ASCII characters without spaces, '/' or '\\'";

/// Every option of this version, in the order in which it is printed.
pub const OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        name: "rpc_zmq_bind_address",
        preset: Preset::Text("*"),
        doc: "Interface on which the broker of this node listens.",
        allowed: "* (all interfaces), an IP address of this machine (fe80::1%eth0 too), one of its interfaces such as \
                  eth0, or a host name that has one",
        parse: Parse::Text(|config, text| value::bind_address(text).map(|it| config.bind_address = it)),
        ..SHARED
    },
    OptionSpec {
        name: "rpc_zmq_matchmaker",
        preset: Preset::Text("local"),
        doc: "How nodes find each other: local (one node), ring (a file lists the nodes) or redis \
              (brokers register there).",
        allowed: "local, ring, redis",
        parse: Parse::Special(|draft, text| {
            let (kind, accepted) = value::matchmaker(text)?;
            draft.config.matchmaker = kind;
            Ok(accepted)
        }),
        ..SHARED
    },
    OptionSpec {
        name: "rpc_zmq_port",
        preset: Preset::Text("9501"),
        doc: "TCP port on which every broker listens.",
        allowed: "0 to 65535 (0 picks a free port)",
        parse: Parse::Integer { min: 0, max: 65535, set: |config, n| config.port = n as u16 },
        ..SHARED
    },
    OptionSpec {
        name: "rpc_zmq_log_level",
        preset: Preset::Unset("info for a broker and zmqv2 serve, warn for the other commands"),
        doc: "Level of the log that the programs write to stderr; SIGHUP takes over a new value.",
        allowed: "off, error, warn, info, debug, trace",
        reason: Some("a running daemon can show more, or less"),
        parse: Parse::Text(|config, text| value::log_level(text).map(|it| config.log_level = Some(it))),
        ..SHARED
    },
    OptionSpec {
        name: "rpc_zmq_contexts",
        preset: Preset::Text("1"),
        doc: "Number of libzmq I/O threads in a process.",
        allowed: "1 to 64",
        parse: Parse::Integer { min: 1, max: 64, set: |config, n| config.io_threads = n as u16 },
        ..SHARED
    },
    OptionSpec {
        name: "rpc_zmq_io_batch_bytes",
        preset: Preset::Text("65536"),
        doc: "Most bytes that libzmq moves in one system call; each active connection has a buffer \
              of this size. No effect on a libzmq that was built without its draft interface.",
        allowed: "8192 to 1048576",
        reason: Some("the default of libzmq, 8192, costs a system call for every few messages"),
        parse: Parse::Integer { min: 8192, max: 1 << 20, set: |config, n| config.io_batch_bytes = n as u32 },
        ..SHARED
    },
    OptionSpec {
        name: "rpc_zmq_high_water_mark",
        preset: Preset::Text("10000"),
        doc: "Most messages that libzmq holds for one peer in each direction; above it, answers to \
              a client that does not read are dropped and counted.",
        allowed: "10000 to 1000000",
        reason: Some("it bounds the memory for a peer that does not read"),
        parse: Parse::Integer { min: 10_000, max: 1_000_000, set: |config, n| config.high_water_mark = n as u32 },
        ..SHARED
    },
    OptionSpec {
        name: "rpc_zmq_busy_poll_us",
        preset: Preset::Text("0"),
        doc: "Microseconds for which a thread polls for the next message before it sleeps. Single \
              calls get faster, and a processor is busy meanwhile.",
        allowed: "0 to 10000",
        reason: Some("waking a thread costs more than handling a message; use it only where processors are idle"),
        parse: Parse::Integer { min: 0, max: 10_000, set: |config, n| config.busy_poll = Duration::from_micros(n) },
        ..SHARED
    },
    OptionSpec {
        name: "rpc_zmq_adaptive_poll_us",
        preset: Preset::Text("100"),
        doc: "Microseconds for which the I/O thread of a broker or client polls before it sleeps, \
              as long as recent polls found messages; other threads get the processor first.",
        allowed: "0 to 10000",
        reason: Some("a caller that waits for each answer is served faster, and idle threads still sleep"),
        parse: Parse::Integer { min: 0, max: 10_000, set: |config, n| config.adaptive_poll = Duration::from_micros(n) },
        ..SHARED
    },
    OptionSpec {
        name: "rpc_zmq_window",
        preset: Preset::Text("256"),
        doc: "Most requests that a server takes at once while its handlers are quick; when one is \
              slow, requests that have not begun go back to the broker. A server always takes one \
              request per worker.",
        allowed: "0 to 8192",
        reason: Some(
            "many quick requests share one wake-up; more of them are lost, and reported, when the server dies",
        ),
        parse: Parse::Integer { min: 0, max: 8192, set: |config, n| config.window = n as u16 },
        ..SHARED
    },
    OptionSpec {
        name: "rpc_zmq_topic_backlog",
        preset: Preset::Unset("10000 messages, because nothing is queued without bound"),
        doc: "Most messages that wait for a server in the backlog of one topic.",
        allowed: "1 to 10000000",
        parse: Parse::Integer { min: 1, max: 10_000_000, set: |config, n| config.topic_backlog = n as usize },
        ..SHARED
    },
    OptionSpec {
        name: "rpc_zmq_ipc_dir",
        preset: Preset::Unset(
            "/var/run/openstack if this process can write there, else $XDG_RUNTIME_DIR/zmqv2, \
             else zmqv2-<uid> in the temporary directory",
        ),
        doc: "Directory of the sockets between the processes of this node.",
        allowed: "an absolute path of at most 74 bytes",
        parse: Parse::Text(|config, text| value::socket_dir(text).map(|it| config.ipc_dir = Some(it))),
        ..SHARED
    },
    OptionSpec {
        name: "rpc_zmq_host",
        preset: Preset::HostName,
        doc: "Name of this node in the directory; other nodes must be able to connect to it.",
        allowed: NAME,
        parse: Parse::Text(|config, text| value::node_name(text).map(|it| config.host = it)),
        ..SHARED
    },
    OptionSpec {
        name: "rpc_zmq_zone",
        preset: Preset::Unset("all nodes are equally near"),
        doc: "Zone of this node, such as its rack; messages for any server of a topic go to nodes \
              of the same zone first.",
        allowed: NAME,
        reason: Some("a call between data centres costs more than one inside, and only an operator knows the places"),
        parse: Parse::Text(|config, text| value::name(text).map(|it| config.zone = Some(it))),
        ..SHARED
    },
    OptionSpec {
        name: "rpc_cast_timeout",
        preset: Preset::Text("30"),
        doc: "Seconds a cast may wait for a server before it expires.",
        allowed: SPAN,
        parse: Parse::Seconds { zero: false, set: |config, span| config.cast_timeout = span },
        ..SHARED
    },
    OptionSpec {
        name: "rpc_response_timeout",
        preset: Preset::Text("60"),
        doc: "Seconds a call waits for its reply.",
        allowed: SPAN,
        parse: Parse::Seconds { zero: false, set: |config, span| config.response_timeout = span },
        ..SHARED
    },
    OptionSpec {
        name: "rpc_thread_pool_size",
        preset: Preset::Text("64"),
        doc: "Number of threads that run handlers in a server.",
        allowed: "1 to 4096",
        parse: Parse::Integer { min: 1, max: 4096, set: |config, n| config.thread_pool_size = n as usize },
        ..SHARED
    },
    OptionSpec {
        name: "rpc_conn_pool_size",
        preset: Preset::Text("30"),
        doc: "Most connections that a client keeps open; above it, the least recently used is closed.",
        allowed: "1 to 65536",
        parse: Parse::Integer { min: 1, max: 65536, set: |config, n| config.conn_pool_size = n as usize },
        ..SHARED
    },
    OptionSpec {
        name: "rpc_zmq_max_message_bytes",
        preset: Preset::Text("16777216"),
        doc: "Largest message in bytes; the sender gets an error for a larger one.",
        allowed: "1024 to 1073741824",
        reason: Some("without a bound, one message can take all memory of a broker"),
        parse: Parse::Integer { min: 1024, max: 1 << 30, set: |config, n| config.max_message_bytes = n as usize },
        ..SHARED
    },
    OptionSpec {
        name: "rpc_zmq_backlog_bytes",
        preset: Preset::Text("268435456"),
        doc: "Most bytes of all messages that a broker holds; above it, it refuses requests with Busy.",
        allowed: "1024 to 1099511627776, at least rpc_zmq_max_message_bytes",
        reason: Some("a bound in messages per topic does not bound the memory of a broker"),
        parse: Parse::Integer {
            min: 1024,
            max: 1 << 40,
            set: |config, n| config.backlog_bytes = usize::try_from(n).unwrap_or(usize::MAX),
        },
        ..SHARED
    },
    OptionSpec {
        name: "rpc_zmq_unread_bytes",
        preset: Preset::Text("536870912"),
        doc: "Most bytes of answers that a broker holds for clients that have not read them yet. One client may hold a quarter of what is free.",
        allowed: "1024 to 1099511627776; the broker uses at least five times rpc_zmq_max_message_bytes",
        reason: Some("libzmq bounds the answers that a client does not read in messages, not in bytes"),
        parse: Parse::Integer {
            min: 1024,
            max: 1 << 40,
            set: |config, n| config.unread_bytes = usize::try_from(n).unwrap_or(usize::MAX),
        },
        ..SHARED
    },
    OptionSpec {
        name: "rpc_zmq_drain_timeout",
        preset: Preset::Text("30"),
        doc: "Seconds a stopping broker or server waits for requests in flight.",
        allowed: SPAN_OR_ZERO,
        reason: Some("a restart must neither lose requests in flight nor hang on a handler that never ends"),
        parse: Parse::Seconds { zero: true, set: |config, span| config.drain_timeout = span },
        ..SHARED
    },
    OptionSpec {
        name: "rpc_zmq_connect_timeout",
        preset: Preset::Text("1"),
        doc: "Seconds a client waits for a connection to a node before it tries another.",
        allowed: SPAN,
        reason: Some("one dead node must cost a caller this long, not the whole rpc_response_timeout"),
        parse: Parse::Seconds { zero: false, set: |config, span| config.connect_timeout = span },
        ..SHARED
    },
    OptionSpec {
        name: "rpc_zmq_notification_store",
        preset: Preset::Unset("in memory; notifications are lost when the broker ends"),
        doc: "File on a local disk in which a broker keeps notifications until they are handled.",
        allowed: "an absolute path in a directory that exists; each broker has its own",
        reason: Some("accepted notifications can survive the end of a broker, at the cost of disk writes"),
        parse: Parse::Text(|config, text| value::absolute_path(text).map(|it| config.notification_store = Some(it))),
        ..SHARED
    },
    OptionSpec {
        name: "rpc_zmq_max_deliveries",
        preset: Preset::Text("5"),
        doc: "How often a notification is delivered before it becomes a dead letter.",
        allowed: "1 to 65535",
        reason: Some("a notification that no listener can handle would come back for ever"),
        parse: Parse::Integer { min: 1, max: 65535, set: |config, n| config.max_deliveries = n as u16 },
        ..SHARED
    },
    OptionSpec {
        name: "control_exchange",
        preset: Preset::Text("openstack"),
        doc: "Exchange of every client, server, notifier and listener whose target names none.",
        allowed: NAME,
        parse: Parse::Text(|config, text| value::name(text).map(|it| config.control_exchange = it)),
        ..DEFAULT_ONLY
    },
    OptionSpec {
        name: "transport_url",
        preset: Preset::Unset("the matchmaker is that of rpc_zmq_matchmaker"),
        doc: "Transport and matchmaker in one; a matchmaker named here overrides rpc_zmq_matchmaker.",
        allowed: "zmqv2:// or zmq:// (matchmaker from rpc_zmq_matchmaker), zmqv2+local://, \
                  zmqv2+ring:// or zmqv2+ring:///path/to/ring.json, zmqv2+redis://[user:password@]host[:port][/database] \
                  (zmqv2+rediss:// with TLS), zmqv2+sentinel://[user:password@]host[:port],.../group \
                  (zmqv2+sentinels:// with TLS)",
        parse: Parse::Special(|draft, text| {
            draft.url = url::transport_url(text)?;
            Ok(if url::has_password(text) { Accepted::Hidden } else { Accepted::AsWritten })
        }),
        ..DEFAULT_ONLY
    },
    OptionSpec {
        name: "matchmaker_heartbeat_freq",
        preset: Preset::Text("300"),
        doc: "Seconds between two renewals of the registrations of a broker.",
        allowed: "0.001 to 4294967 seconds, less than matchmaker_heartbeat_ttl",
        parse: Parse::Seconds { zero: false, set: |config, span| config.heartbeat_freq = span },
        ..DEFAULT_ONLY
    },
    OptionSpec {
        name: "matchmaker_heartbeat_ttl",
        preset: Preset::Text("600"),
        doc: "Seconds after which a registration ends unless it is renewed.",
        allowed: "0.001 to 4294967 seconds, more than matchmaker_heartbeat_freq",
        parse: Parse::Seconds { zero: false, set: |config, span| config.heartbeat_ttl = span },
        ..DEFAULT_ONLY
    },
    OptionSpec {
        name: "host",
        preset: Preset::Text("127.0.0.1"),
        doc: "Host of Redis.",
        allowed: "a host name or an IP address",
        parse: Parse::Text(|config, text| value::host(text).map(|it| config.redis_host = it)),
        ..OF_REDIS
    },
    OptionSpec {
        name: "port",
        preset: Preset::Text("6379"),
        doc: "TCP port of Redis.",
        allowed: "1 to 65535",
        parse: Parse::Integer { min: 1, max: 65535, set: |config, n| config.redis_port = n as u16 },
        ..OF_REDIS
    },
    OptionSpec {
        name: "password",
        preset: Preset::Unset("no password"),
        doc: "Password of Redis.",
        allowed: "any text on one line",
        secret: true,
        parse: Parse::Text(|config, text| value::secret(text).map(|it| config.redis_password = Some(it))),
        ..OF_REDIS
    },
    OptionSpec {
        name: "user",
        preset: Preset::Unset("the default user"),
        doc: "User of Redis 6 or later; needs a password.",
        allowed: "a name without spaces",
        reason: Some("Redis 6 and later has users with different rights"),
        parse: Parse::Text(|config, text| value::word(text).map(|it| config.redis_user = Some(it))),
        ..OF_REDIS
    },
    OptionSpec {
        name: "database",
        preset: Preset::Text("0"),
        doc: "Number of the database in Redis.",
        allowed: "0 to 65535",
        reason: Some("it keeps the directory apart from other programs that use the same Redis"),
        parse: Parse::Integer { min: 0, max: 65535, set: |config, n| config.redis_database = n as u16 },
        ..OF_REDIS
    },
    OptionSpec {
        name: "tls",
        preset: Preset::Text("false"),
        doc: "Whether connections to Redis and to Sentinels are encrypted.",
        allowed: "true or false",
        reason: Some("a stranger who can change the directory can change where messages go"),
        parse: Parse::Boolean(|config, it| config.redis_tls = it),
        ..OF_REDIS
    },
    OptionSpec {
        name: "tls_ca_file",
        preset: Preset::Unset("the authorities that the system trusts"),
        doc: "PEM file of the authorities that may sign the certificate of Redis.",
        allowed: "an absolute path",
        reason: Some("many sites have their own authority for such servers"),
        parse: Parse::Text(|config, text| value::absolute_path(text).map(|it| config.redis_tls_ca_file = Some(it))),
        ..OF_REDIS
    },
    OptionSpec {
        name: "tls_cert_file",
        preset: Preset::Unset("no certificate"),
        doc: "PEM file of the certificate that Redis asks clients for; needs tls_key_file.",
        allowed: "an absolute path",
        reason: Some("by default, Redis with TLS asks clients for a certificate"),
        parse: Parse::Text(|config, text| value::absolute_path(text).map(|it| config.redis_tls_cert_file = Some(it))),
        ..OF_REDIS
    },
    OptionSpec {
        name: "tls_key_file",
        preset: Preset::Unset("no key"),
        doc: "PEM file of the key of tls_cert_file.",
        allowed: "an absolute path",
        reason: Some("it belongs to tls_cert_file"),
        parse: Parse::Text(|config, text| value::absolute_path(text).map(|it| config.redis_tls_key_file = Some(it))),
        ..OF_REDIS
    },
    OptionSpec {
        name: "sentinel_hosts",
        preset: Preset::Unset("Redis is at host and port"),
        doc: "Sentinels that know the address of Redis; host and port are then not used.",
        allowed: SENTINELS,
        reason: Some("without it, the directory ends with its machine; the last ZeroMQ driver had it too"),
        parse: Parse::List(|config, text| value::sentinels(text).map(|it| config.redis_sentinel_hosts = it)),
        ..OF_REDIS
    },
    OptionSpec {
        name: "sentinel_group_name",
        preset: Preset::Text("oslo-messaging-zeromq"),
        doc: "Name of the group of Redis servers that the Sentinels watch.",
        allowed: "a name without spaces",
        reason: Some("Sentinels may watch several groups; the last ZeroMQ driver had it too"),
        parse: Parse::Text(|config, text| value::word(text).map(|it| config.redis_sentinel_group = it)),
        ..OF_REDIS
    },
    OptionSpec {
        name: "sentinel_password",
        preset: Preset::Unset("no password"),
        doc: "Password of the Sentinels.",
        allowed: "any text on one line",
        reason: Some("it may differ from the password of Redis"),
        secret: true,
        parse: Parse::Text(|config, text| value::secret(text).map(|it| config.redis_sentinel_password = Some(it))),
        ..OF_REDIS
    },
    OptionSpec {
        name: "refresh_interval",
        preset: Preset::Text("10"),
        doc: "Most seconds between two reads of the remembered topics; most changes are noticed at once.",
        allowed: SPAN,
        reason: Some("a short one loads Redis, a long one delays a change whose notice was missed"),
        parse: Parse::Seconds { zero: false, set: |config, span| config.redis_refresh = span },
        ..OF_REDIS
    },
    OptionSpec {
        name: "max_stale",
        preset: Preset::Text("86400"),
        doc: "Seconds for which remembered answers are used while Redis cannot be read.",
        allowed: SPAN,
        reason: Some("traffic survives an outage, but old answers must not count for ever"),
        parse: Parse::Seconds { zero: false, set: |config, span| config.redis_max_stale = span },
        ..OF_REDIS
    },
    OptionSpec {
        group: RING,
        groups: &[RING],
        name: "ringfile",
        preset: Preset::Text("/etc/oslo/matchmaker_ring.json"),
        doc: "JSON file of the ring matchmaker: {\"topic\": [\"node\", ...]}.",
        allowed: "a path",
        parse: Parse::Text(|config, text| value::path(text).map(|it| config.ring_file = it)),
        ..SHARED
    },
];

#[cfg(test)]
mod tests;
