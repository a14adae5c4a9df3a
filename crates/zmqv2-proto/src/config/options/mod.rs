//! The table of options. One table in one place, however long it gets.

pub(crate) mod retired;
pub(crate) mod spec;
pub(crate) mod url;
pub(crate) mod value;

use crate::naming::{Exchange, NodeName, Zone};

use crate::config::options::spec::{Accepted, DEFAULT, OptionSpec, Parse, Preset, REDIS, RING, ZMQ};
use crate::config::settings::Secret;

/// What most entries share; an entry says only what is its own.
const SHARED: OptionSpec = OptionSpec {
    group: DEFAULT,
    groups: &[DEFAULT, ZMQ],
    name: "",
    preset: Preset::Unset(""),
    doc: "",
    allowed: "",
    reason: None,
    secret: false,
    parse: Parse::Text(|_, _| Ok(Accepted::AsWritten)),
};

const SPAN: &str = "0.001 to 4294967 seconds";
const SPAN_OR_ZERO: &str = "0 to 4294967 seconds (0 does not wait)";
const SENTINELS: &str = "host[:port], separated by commas; the port is 26379 by default";
const NAME: &str = "1 to 255 printable ASCII characters without spaces, '/' or '\\'";

/// Every option this version knows, in the order in which it is printed.
pub const OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        name: "rpc_zmq_bind_address",
        preset: Preset::Text("*"),
        doc: "Interface on which the broker of this node listens.",
        allowed: "* (all interfaces), an IP address of this machine, or a host name that has one",
        parse: Parse::Text(|draft, text| {
            draft.config.bind_address = value::host(text)?;
            Ok(Accepted::AsWritten)
        }),
        ..SHARED
    },
    OptionSpec {
        name: "rpc_zmq_matchmaker",
        preset: Preset::Text("local"),
        doc: "Where nodes find each other: local (one node), ring (a file lists the nodes) or redis (brokers register there).",
        allowed: "local, ring, redis",
        parse: Parse::Text(|draft, text| {
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
        parse: Parse::Integer { min: 0, max: 65535, set: |draft, n| draft.config.port = n as u16 },
        ..SHARED
    },
    OptionSpec {
        name: "rpc_zmq_contexts",
        preset: Preset::Text("1"),
        doc: "Number of libzmq I/O threads of a process.",
        allowed: "1 to 64",
        parse: Parse::Integer { min: 1, max: 64, set: |draft, n| draft.config.io_threads = n as u16 },
        ..SHARED
    },
    OptionSpec {
        name: "rpc_zmq_io_batch_bytes",
        preset: Preset::Text("65536"),
        doc: "Bytes that libzmq moves per system call at most; each connection that is used keeps a buffer of this size. Without effect on a libzmq that was built without its draft interface.",
        allowed: "8192 to 1048576",
        reason: Some("the default of libzmq, 8192, costs a system call for every few messages"),
        parse: Parse::Integer { min: 8192, max: 1 << 20, set: |draft, n| draft.config.io_batch_bytes = n as u32 },
        ..SHARED
    },
    OptionSpec {
        name: "rpc_zmq_high_water_mark",
        preset: Preset::Text("10000"),
        doc: "Messages that libzmq holds for one peer, in each direction; above it, an answer to a client that does not read is dropped and counted.",
        allowed: "10000 to 1000000",
        reason: Some("bounds what a peer that does not read can cost; backlogs and credit bound the rest"),
        parse: Parse::Integer { min: 10_000, max: 1_000_000, set: |draft, n| draft.config.high_water_mark = n as u32 },
        ..SHARED
    },
    OptionSpec {
        name: "rpc_zmq_busy_poll_us",
        preset: Preset::Text("0"),
        doc: "Microseconds for which a thread looks for the next message before it sleeps: a shorter way for single calls, for a processor that is busy meanwhile.",
        allowed: "0 to 10000",
        reason: Some("waking a thread costs more than handling a message; worth it only where processors are idle"),
        parse: Parse::Integer {
            min: 0,
            max: 10_000,
            set: |draft, n| draft.config.busy_poll = std::time::Duration::from_micros(n),
        },
        ..SHARED
    },
    OptionSpec {
        name: "rpc_zmq_adaptive_poll_us",
        preset: Preset::Text("100"),
        doc: "Microseconds for which the I/O thread of a broker or a client looks for the next message before it sleeps, as long as looking has found some lately; whoever else needs the processor goes first.",
        allowed: "0 to 10000",
        reason: Some(
            "a caller that waits for each answer is served faster, and where nothing comes, threads sleep as before",
        ),
        parse: Parse::Integer {
            min: 0,
            max: 10_000,
            set: |draft, n| draft.config.adaptive_poll = std::time::Duration::from_micros(n),
        },
        ..SHARED
    },
    OptionSpec {
        name: "rpc_zmq_window",
        preset: Preset::Text("256"),
        doc: "Most requests that a server takes at a time while its handlers are quick; what has not begun goes back to the broker when they are not. As many as there are workers are taken in any case.",
        allowed: "0 to 8192",
        reason: Some("many quick requests share a wake-up; more of them are lost, and reported, when the server dies"),
        parse: Parse::Integer { min: 0, max: 8192, set: |draft, n| draft.config.window = n as u16 },
        ..SHARED
    },
    OptionSpec {
        name: "rpc_zmq_topic_backlog",
        preset: Preset::Unset("10000 messages, because nothing is queued without bound"),
        doc: "Most messages that wait for a server in the backlog of one topic.",
        allowed: "1 to 10000000",
        parse: Parse::Integer { min: 1, max: 10_000_000, set: |draft, n| draft.config.topic_backlog = n as usize },
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
        parse: Parse::Text(|draft, text| {
            draft.config.ipc_dir = Some(value::socket_dir(text)?);
            Ok(Accepted::AsWritten)
        }),
        ..SHARED
    },
    OptionSpec {
        name: "rpc_zmq_host",
        preset: Preset::HostName,
        doc: "Name of this node in the directory; other nodes must be able to connect to it.",
        allowed: NAME,
        parse: Parse::Text(|draft, text| {
            draft.config.host = NodeName::new(text).map_err(|_| "not a name")?;
            Ok(Accepted::AsWritten)
        }),
        ..SHARED
    },
    OptionSpec {
        name: "rpc_zmq_zone",
        preset: Preset::Unset("all nodes are equally near"),
        doc: "Zone of this node, such as its rack: messages for any server of a topic go to nodes of the same zone first.",
        allowed: NAME,
        reason: Some(
            "a call between data centres costs more than one next door, and only an operator knows which is which",
        ),
        parse: Parse::Text(|draft, text| {
            draft.config.zone = Some(Zone::new(text).map_err(|_| "not a name")?);
            Ok(Accepted::AsWritten)
        }),
        ..SHARED
    },
    OptionSpec {
        name: "rpc_cast_timeout",
        preset: Preset::Text("30"),
        doc: "Seconds a cast may wait for a server before it expires.",
        allowed: SPAN,
        parse: Parse::Seconds { zero: false, set: |draft, span| draft.config.cast_timeout = span },
        ..SHARED
    },
    OptionSpec {
        name: "rpc_response_timeout",
        preset: Preset::Text("60"),
        doc: "Seconds a call waits for its reply.",
        allowed: SPAN,
        parse: Parse::Seconds { zero: false, set: |draft, span| draft.config.response_timeout = span },
        ..SHARED
    },
    OptionSpec {
        name: "rpc_thread_pool_size",
        preset: Preset::Text("64"),
        doc: "Number of threads that run handlers in a server.",
        allowed: "1 to 4096",
        parse: Parse::Integer { min: 1, max: 4096, set: |draft, n| draft.config.thread_pool_size = n as usize },
        ..SHARED
    },
    OptionSpec {
        name: "rpc_conn_pool_size",
        preset: Preset::Text("30"),
        doc: "Number of connections a client keeps open; the least recently used is closed above it.",
        allowed: "1 to 65536",
        parse: Parse::Integer { min: 1, max: 65536, set: |draft, n| draft.config.conn_pool_size = n as usize },
        ..SHARED
    },
    OptionSpec {
        name: "rpc_zmq_max_message_bytes",
        preset: Preset::Text("16777216"),
        doc: "Largest message in bytes; a larger one is refused at its sender.",
        allowed: "1024 to 1073741824",
        reason: Some("without a bound one message can take all memory of a broker that others depend on"),
        parse: Parse::Integer { min: 1024, max: 1 << 30, set: |draft, n| draft.config.max_message_bytes = n as usize },
        ..SHARED
    },
    OptionSpec {
        name: "rpc_zmq_backlog_bytes",
        preset: Preset::Text("268435456"),
        doc: "Bytes of all messages a broker holds; above it a sender is told that it is busy.",
        allowed: "1024 to 1099511627776, at least rpc_zmq_max_message_bytes",
        reason: Some(
            "a bound in messages per topic does not bound memory: messages differ in size, and \
             topics are many",
        ),
        parse: Parse::Integer {
            min: 1024,
            max: 1 << 40,
            set: |draft, n| draft.config.backlog_bytes = usize::try_from(n).unwrap_or(usize::MAX),
        },
        ..SHARED
    },
    OptionSpec {
        name: "rpc_zmq_drain_timeout",
        preset: Preset::Text("30"),
        doc: "Seconds a stopping broker or server waits for what is in flight.",
        allowed: SPAN_OR_ZERO,
        reason: Some(
            "a restart must neither lose what is being answered nor hang on a handler that never \
             ends",
        ),
        parse: Parse::Seconds { zero: true, set: |draft, span| draft.config.drain_timeout = span },
        ..SHARED
    },
    OptionSpec {
        name: "rpc_zmq_connect_timeout",
        preset: Preset::Text("1"),
        doc: "Seconds a client waits for a connection to a node before it tries another.",
        allowed: SPAN,
        reason: Some("one dead node must cost a caller this long, not the whole rpc_response_timeout"),
        parse: Parse::Seconds { zero: false, set: |draft, span| draft.config.connect_timeout = span },
        ..SHARED
    },
    OptionSpec {
        name: "rpc_zmq_notification_store",
        preset: Preset::Unset("in memory: what a broker keeps is lost when it ends"),
        doc: "File on a local disk in which a broker keeps notifications until they are handled.",
        allowed: "an absolute path in a directory that exists; each broker has its own",
        reason: Some(
            "a notification that was accepted must survive the broker where that is worth a write to the disk",
        ),
        parse: Parse::Text(|draft, text| {
            draft.config.notification_store = Some(value::absolute_path(text)?);
            Ok(Accepted::AsWritten)
        }),
        ..SHARED
    },
    OptionSpec {
        name: "rpc_zmq_max_deliveries",
        preset: Preset::Text("5"),
        doc: "How often a notification is delivered before it becomes a dead letter.",
        allowed: "1 to 65535",
        reason: Some("a notification that kills or defeats every listener would come back for ever"),
        parse: Parse::Integer { min: 1, max: 65535, set: |draft, n| draft.config.max_deliveries = n as u16 },
        ..SHARED
    },
    OptionSpec {
        groups: &[DEFAULT],
        name: "control_exchange",
        preset: Preset::Text("openstack"),
        doc: "Exchange of targets that name none.",
        allowed: NAME,
        parse: Parse::Text(|draft, text| {
            draft.config.control_exchange = Exchange::new(text).map_err(|_| "not a name")?;
            Ok(Accepted::AsWritten)
        }),
        ..SHARED
    },
    OptionSpec {
        groups: &[DEFAULT],
        name: "transport_url",
        preset: Preset::Unset("the matchmaker is the one of rpc_zmq_matchmaker"),
        doc: "Transport and matchmaker in one; a matchmaker named here overrides rpc_zmq_matchmaker.",
        allowed: "zmqv2:// or zmq:// (matchmaker from rpc_zmq_matchmaker), zmqv2+local://, \
                  zmqv2+ring:// or zmqv2+ring:///path/to/ring.json, zmqv2+redis://[user:password@]host[:port][/database] \
                  (zmqv2+rediss:// with TLS), zmqv2+sentinel://[user:password@]host[:port],.../group \
                  (zmqv2+sentinels:// with TLS)",
        parse: Parse::Text(|draft, text| {
            draft.url = url::transport_url(text)?;
            Ok(if url::has_password(text) { Accepted::Hidden } else { Accepted::AsWritten })
        }),
        ..SHARED
    },
    OptionSpec {
        groups: &[DEFAULT],
        name: "matchmaker_heartbeat_freq",
        preset: Preset::Text("300"),
        doc: "Seconds between two renewals of what a broker registered.",
        allowed: "0.001 to 4294967 seconds, less than matchmaker_heartbeat_ttl",
        parse: Parse::Seconds { zero: false, set: |draft, span| draft.config.heartbeat_freq = span },
        ..SHARED
    },
    OptionSpec {
        groups: &[DEFAULT],
        name: "matchmaker_heartbeat_ttl",
        preset: Preset::Text("600"),
        doc: "Seconds after which a registration that was not renewed ends.",
        allowed: "0.001 to 4294967 seconds, more than matchmaker_heartbeat_freq",
        parse: Parse::Seconds { zero: false, set: |draft, span| draft.config.heartbeat_ttl = span },
        ..SHARED
    },
    OptionSpec {
        group: REDIS,
        groups: &[REDIS],
        name: "host",
        preset: Preset::Text("127.0.0.1"),
        doc: "Host of Redis.",
        allowed: "a host name or an IP address",
        parse: Parse::Text(|draft, text| {
            draft.config.redis_host = value::host(text)?;
            Ok(Accepted::AsWritten)
        }),
        ..SHARED
    },
    OptionSpec {
        group: REDIS,
        groups: &[REDIS],
        name: "port",
        preset: Preset::Text("6379"),
        doc: "TCP port of Redis.",
        allowed: "1 to 65535",
        parse: Parse::Integer { min: 1, max: 65535, set: |draft, n| draft.config.redis_port = n as u16 },
        ..SHARED
    },
    OptionSpec {
        group: REDIS,
        groups: &[REDIS],
        name: "password",
        preset: Preset::Unset("no password"),
        doc: "Password of Redis.",
        allowed: "any text on one line",
        secret: true,
        parse: Parse::Text(|draft, text| {
            draft.config.redis_password = Some(Secret::new(text));
            Ok(Accepted::AsWritten)
        }),
        ..SHARED
    },
    OptionSpec {
        group: REDIS,
        groups: &[REDIS],
        name: "user",
        preset: Preset::Unset("the default user"),
        doc: "User of Redis 6 or later; needs a password.",
        allowed: "a name without spaces",
        reason: Some("Redis 6 and later tell users apart, and what each of them may do"),
        parse: Parse::Text(|draft, text| {
            draft.config.redis_user = Some(value::word(text)?);
            Ok(Accepted::AsWritten)
        }),
        ..SHARED
    },
    OptionSpec {
        group: REDIS,
        groups: &[REDIS],
        name: "database",
        preset: Preset::Text("0"),
        doc: "Number of the database in Redis.",
        allowed: "0 to 65535",
        reason: Some("a Redis that other programs use, too, keeps theirs apart by it"),
        parse: Parse::Integer { min: 0, max: 65535, set: |draft, n| draft.config.redis_database = n as u16 },
        ..SHARED
    },
    OptionSpec {
        group: REDIS,
        groups: &[REDIS],
        name: "tls",
        preset: Preset::Text("false"),
        doc: "Whether connections to Redis and to Sentinels are encrypted.",
        allowed: "true or false",
        reason: Some("who can read or change the directory can read or change where messages go"),
        parse: Parse::Text(|draft, text| {
            draft.config.redis_tls = value::boolean(text)?;
            Ok(Accepted::AsWritten)
        }),
        ..SHARED
    },
    OptionSpec {
        group: REDIS,
        groups: &[REDIS],
        name: "tls_ca_file",
        preset: Preset::Unset("the authorities that the system trusts"),
        doc: "PEM file of the authorities that may sign the certificate of Redis.",
        allowed: "an absolute path",
        reason: Some("most have an authority of their own for such servers"),
        parse: Parse::Text(|draft, text| {
            draft.config.redis_tls_ca_file = Some(value::absolute_path(text)?);
            Ok(Accepted::AsWritten)
        }),
        ..SHARED
    },
    OptionSpec {
        group: REDIS,
        groups: &[REDIS],
        name: "tls_cert_file",
        preset: Preset::Unset("no certificate"),
        doc: "PEM file of the certificate that Redis asks clients for; tls_key_file has its key.",
        allowed: "an absolute path",
        reason: Some("Redis asks clients for one unless told otherwise"),
        parse: Parse::Text(|draft, text| {
            draft.config.redis_tls_cert_file = Some(value::absolute_path(text)?);
            Ok(Accepted::AsWritten)
        }),
        ..SHARED
    },
    OptionSpec {
        group: REDIS,
        groups: &[REDIS],
        name: "tls_key_file",
        preset: Preset::Unset("no key"),
        doc: "PEM file of the key of tls_cert_file.",
        allowed: "an absolute path",
        reason: Some("it belongs to tls_cert_file"),
        parse: Parse::Text(|draft, text| {
            draft.config.redis_tls_key_file = Some(value::absolute_path(text)?);
            Ok(Accepted::AsWritten)
        }),
        ..SHARED
    },
    OptionSpec {
        group: REDIS,
        groups: &[REDIS],
        name: "sentinel_hosts",
        preset: Preset::Unset("Redis is at host and port"),
        doc: "Sentinels, which know where Redis is; host and port are not used then.",
        allowed: SENTINELS,
        reason: Some("without it the directory ends with the machine it is on; the last ZeroMQ driver had it, too"),
        parse: Parse::Text(|draft, text| {
            draft.config.redis_sentinel_hosts = value::sentinels(text)?;
            Ok(Accepted::AsWritten)
        }),
        ..SHARED
    },
    OptionSpec {
        group: REDIS,
        groups: &[REDIS],
        name: "sentinel_group_name",
        preset: Preset::Text("oslo-messaging-zeromq"),
        doc: "Name that the Sentinels have for the group of servers.",
        allowed: "a name without spaces",
        reason: Some("Sentinels may watch several groups; the last ZeroMQ driver had it, too"),
        parse: Parse::Text(|draft, text| {
            draft.config.redis_sentinel_group = value::word(text)?;
            Ok(Accepted::AsWritten)
        }),
        ..SHARED
    },
    OptionSpec {
        group: REDIS,
        groups: &[REDIS],
        name: "sentinel_password",
        preset: Preset::Unset("no password"),
        doc: "Password of the Sentinels.",
        allowed: "any text on one line",
        reason: Some("it is not always that of Redis"),
        secret: true,
        parse: Parse::Text(|draft, text| {
            draft.config.redis_sentinel_password = Some(Secret::new(text));
            Ok(Accepted::AsWritten)
        }),
        ..SHARED
    },
    OptionSpec {
        group: REDIS,
        groups: &[REDIS],
        name: "refresh_interval",
        preset: Preset::Text("10"),
        doc: "Seconds between two looks at what is remembered of Redis, at most; changes are mostly noticed at once.",
        allowed: SPAN,
        reason: Some("it weighs the load on Redis against how late a change is seen whose notice was missed"),
        parse: Parse::Seconds { zero: false, set: |draft, span| draft.config.redis_refresh = span },
        ..SHARED
    },
    OptionSpec {
        group: REDIS,
        groups: &[REDIS],
        name: "max_stale",
        preset: Preset::Text("86400"),
        doc: "Seconds for which remembered answers are used while Redis cannot be read.",
        allowed: SPAN,
        reason: Some("traffic is to survive an outage, but not to rely for ever on what nobody confirms"),
        parse: Parse::Seconds { zero: false, set: |draft, span| draft.config.redis_max_stale = span },
        ..SHARED
    },
    OptionSpec {
        group: RING,
        groups: &[RING],
        name: "ringfile",
        preset: Preset::Text("/etc/oslo/matchmaker_ring.json"),
        doc: "JSON file of the ring matchmaker: {\"topic\": [\"node\", ...]}.",
        allowed: "a path",
        parse: Parse::Text(|draft, text| {
            draft.config.ring_file = value::path(text)?;
            Ok(Accepted::AsWritten)
        }),
        ..SHARED
    },
];

#[cfg(test)]
mod tests;
