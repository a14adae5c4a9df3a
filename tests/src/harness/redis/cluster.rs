//! Three nodes whose directory is in Redis, with leases of a few seconds.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use zmqv2_client::{RequestContext, RpcClient};
use zmqv2_matchmaker::{MatchmakerError, RedisDirectory, RedisSettings, RemoteDirectory};
use zmqv2_proto::Target;

use crate::redis_server::Redis;
use crate::{Cluster, Node, Process, Traffic, echo, eventually, now, wait_until};

/// How long a registration lives.
pub const LEASE: Duration = Duration::from_secs(3);
/// How often it is renewed.
pub const RENEW_EVERY: Duration = Duration::from_secs(1);
/// How often clients ask the directory.
pub const REFRESH: Duration = Duration::from_secs(2);
/// How much longer than promised a busy machine may take.
pub const SLACK: Duration = Duration::from_secs(5);
pub const SERVERS: [&str; 3] = ["s0", "s1", "s2"];

/// Three nodes with a broker and a server each.
#[derive(Debug)]
pub struct RedisCluster {
    pub cluster: Cluster,
    pub brokers: Vec<Process>,
    _servers: Vec<Process>,
    /// One client at each node. They know the topic from the start.
    clients: Vec<RpcClient>,
}

impl RedisCluster {
    /// Starts the nodes. `directory` has the options that name the directory.
    #[must_use]
    pub fn start(directory: &[String]) -> Self {
        let mut options = directory.to_vec();
        options.push(format!("matchmaker_heartbeat_ttl={}", LEASE.as_secs()));
        options.push(format!("matchmaker_heartbeat_freq={}", RENEW_EVERY.as_secs()));
        options.push(format!("refresh_interval={}", REFRESH.as_secs()));
        let cluster = Cluster::with_directory(3, &options);
        let brokers = cluster.nodes().iter().map(Node::broker).collect();
        let servers = cluster.nodes().iter().zip(SERVERS).map(|(node, name)| node.serve("t", name, &[])).collect();
        let clients: Vec<_> =
            cluster.nodes().iter().map(|node| node.client(Target::topic("t").expect("a topic"))).collect();
        for client in &clients {
            eventually("a server answers", || echo(client, "known").is_ok());
        }
        Self { cluster, brokers, _servers: servers, clients }
    }

    /// Starts messages of every kind from every node.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        Traffic::start(&self.cluster, "t", &SERVERS)
    }

    /// The directory itself, without a cache.
    pub fn directory(&self) -> RedisDirectory {
        directory_of(&self.cluster)
    }

    /// Waits until the directory has all servers again, and returns the time since `since`.
    pub fn wait_registered(&self, since: Instant) -> Duration {
        let directory = self.directory();
        eventually("all are registered again", || {
            registered(&directory)
                .is_ok_and(|names| SERVERS.iter().all(|server| names.iter().any(|name| name == server)))
        });
        since.elapsed()
    }

    /// Starts one more server. Waits until the old clients at every node can reach it.
    #[must_use]
    pub fn a_new_server_is_visible_soon(&self) -> Process {
        let late = self.cluster.node(1).serve("t", "late", &[]);
        let ready = now();
        std::thread::scope(|scope| {
            for (number, client) in self.clients.iter().enumerate() {
                scope.spawn(move || {
                    let named = client.prepare().server("late").expect("a name");
                    let is_visible = || named.call::<Value>(&RequestContext::new(), "echo", &1).is_ok();
                    eventually("a new server is visible", is_visible);
                    let took = ready.elapsed();
                    println!("a new server was visible to client {number} {took:?} after it was ready");
                    assert!(took < REFRESH + SLACK, "{took:?}");
                });
            }
        });
        late
    }
}

/// The directory of a cluster, without a cache.
pub fn directory_of(cluster: &Cluster) -> RedisDirectory {
    RedisDirectory::new(RedisSettings::new(&cluster.node(0).config()).expect("settings"), LEASE)
}

/// Names of the servers that are registered.
pub fn registered(directory: &RedisDirectory) -> Result<Vec<String>, MatchmakerError> {
    let topics = directory.list()?.topics;
    let servers = topics.iter().flat_map(|topic| &topic.servers);
    Ok(servers.filter_map(|server| server.server.as_ref()).map(ToString::to_string).collect())
}

/// Stops Redis for `time` and then lets it continue. No message may fail.
pub fn redis_hangs(time: Duration) {
    let redis = Redis::start();
    let nodes = RedisCluster::start(&redis.settings());
    let traffic = nodes.traffic();
    redis.signal(Signal::STOP);
    wait_until(now() + time);
    traffic.wait(200);
    redis.signal(Signal::CONT);
    let took = nodes.wait_registered(now());
    println!("all servers were registered again {took:?} after Redis continued");
    let _late = nodes.a_new_server_is_visible_soon();
    // After this time the clients trust an empty answer again, and remove missing servers.
    wait_until(now() + LEASE + RENEW_EVERY);
    traffic.wait(200);
    traffic.stop().assert_clean();
}
