//! Redis servers and Sentinels that tests start, on free ports of this machine.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use redis::{Commands, Connection, FromRedisValue};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::{Process, eventually, skip};

/// The longest that a command may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A Redis server with its own directory. By default it saves nothing to disk.
#[derive(Debug)]
pub struct Redis {
    process: Option<Process>,
    port: u16,
    options: Vec<String>,
    dir: TempDir,
}

/// Whether Redis is installed. If not, prints that `test` is skipped.
pub fn installed(test: &str) -> bool {
    for program in ["redis-server", "redis-sentinel"] {
        if Command::new(program).arg("--version").output().is_err() {
            skip(test, &format!("{program} is not installed (apt-get install redis-server redis-sentinel)"));
            return false;
        }
    }
    true
}

/// A port of 127.0.0.1 that stays free for the servers of this process until it ends, also while none
/// of them runs.
///
/// No other test takes it: each claims its port at another address of the loopback network. The system
/// gives it to nobody who asks for any port: those ports begin at 32768.
pub fn free_port() -> u16 {
    const FIRST: u16 = 20_000;
    const COUNT: u32 = 10_000;
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(100);
    let mut ports = (0..COUNT).map(|_| {
        let number = start.wrapping_add(CALLS.fetch_add(1, Ordering::Relaxed)) % COUNT;
        FIRST + u16::try_from(number).expect("a port")
    });
    let claimed = ports.find_map(|port| {
        let claim = TcpListener::bind(("127.255.255.1", port)).ok()?;
        // Another program may listen there.
        TcpListener::bind(("127.0.0.1", port)).ok()?;
        // The system ends the claim with this process.
        std::mem::forget(claim);
        Some(port)
    });
    claimed.expect("a free port")
}

impl Redis {
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with more options, such as `--requirepass secret`.
    #[must_use]
    pub fn start_with(options: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("zr").tempdir().expect("a temporary directory");
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let mut redis = Self { process: None, port: free_port(), options, dir };
        redis.restart();
        redis
    }

    /// Starts the server again at the same port, after a kill.
    pub fn restart(&mut self) {
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--save", "", "--appendonly", "no"]);
        command.arg("--dir").arg(self.dir.path()).args(&self.options);
        self.process = Some(Process::start(&format!("redis at {}", self.port), &mut command));
        eventually("redis answers", || self.try_connection().is_ok_and(|mut redis| answers(&mut redis)));
    }

    /// Sends `kill -9`: the server loses everything that was not saved to disk.
    pub fn kill9(&mut self) {
        self.process.take().expect("a running redis").kill9();
    }

    pub fn signal(&self, signal: Signal) {
        self.process.as_ref().expect("a running redis").signal(signal);
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Options that name this server, as `option=value`.
    pub fn settings(&self) -> Vec<String> {
        vec![
            "rpc_zmq_matchmaker=redis".into(),
            "matchmaker_redis.host=127.0.0.1".into(),
            format!("matchmaker_redis.port={}", self.port),
        ]
    }

    pub fn connection(&self) -> Connection {
        self.try_connection().expect("a connection")
    }

    fn try_connection(&self) -> redis::RedisResult<Connection> {
        connect(self.port)
    }

    pub fn run<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query(&mut self.connection()).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// Pretends that brokers could renew all day, so that lists count as complete. A broker must
    /// have checked in.
    pub fn pretend_renewals_worked(&self) {
        let script = "local last, run, rest = string.match(redis.call('GET', KEYS[1]), '^(%d+) %d+ (%S+) (.*)$') \
                      local since = string.format('%.0f', tonumber(last) - 86400000) \
                      redis.call('SET', KEYS[1], table.concat({last, since, run, rest}, ' '))";
        let () = self.run(&["EVAL", script, "1", "zmqv2:renewals"]);
    }

    /// How often a command was called since the statistics were reset.
    pub fn calls(&self, command: &str) -> u64 {
        let stats: String = self.run(&["INFO", "commandstats"]);
        let start = format!("cmdstat_{command}:calls=");
        let line = stats.lines().find_map(|line| line.strip_prefix(&start)).unwrap_or("0,");
        line.split(',').next().and_then(|number| number.parse().ok()).expect("a number")
    }

    /// How many other connections the server has.
    pub fn clients(&self) -> usize {
        let list: String = self.run(&["CLIENT", "LIST"]);
        // One of the lines is this connection.
        list.lines().count() - 1
    }

    /// A number from `INFO`.
    pub fn info(&self, name: &str) -> u64 {
        info(&mut self.connection(), name).parse().unwrap_or_else(|_| panic!("{name} is no number"))
    }
}

fn connect(port: u16) -> redis::RedisResult<Connection> {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}/"))?;
    let connection = client.get_connection_with_timeout(ANSWER_WITHIN)?;
    connection.set_read_timeout(Some(ANSWER_WITHIN))?;
    Ok(connection)
}

/// Whether the server answers. A demand for a password is also an answer.
fn answers(redis: &mut Connection) -> bool {
    match redis::cmd("PING").query::<String>(redis) {
        Ok(_) => true,
        Err(error) => error.code() == Some("NOAUTH"),
    }
}

fn info(redis: &mut Connection, name: &str) -> String {
    let text: String = redis::cmd("INFO").arg("everything").query(redis).expect("an answer");
    let start = format!("{name}:");
    let line = text.lines().find_map(|line| line.strip_prefix(&start)).unwrap_or_else(|| panic!("no {name} in INFO"));
    line.trim().to_owned()
}

/// The name of the servers' group at the Sentinels.
pub const GROUP: &str = "zmqv2-tests";

/// A primary, a replica and three Sentinels. The Sentinels promote the replica when the primary is
/// gone.
#[derive(Debug)]
pub struct Sentinels {
    /// The servers. Either one may be the primary.
    pub servers: [Redis; 2],
    sentinels: Vec<(Process, u16)>,
    // Removed last.
    _dir: TempDir,
}

impl Sentinels {
    /// Starts all of them, and waits until they know each other.
    #[must_use]
    pub fn start() -> Self {
        let primary = Redis::start_with(&["--repl-diskless-sync-delay", "0"]);
        let port = primary.port().to_string();
        let replica =
            Redis::start_with(&["--repl-diskless-sync-delay", "0", "--replicaof", &format!("127.0.0.1 {port}")]);
        let dir = tempfile::Builder::new().prefix("zr").tempdir().expect("a temporary directory");
        let start = |n: usize| {
            let own = free_port();
            let file: PathBuf = dir.path().join(format!("sentinel-{n}.conf"));
            let text = format!(
                "bind 127.0.0.1\nport {own}\ndir {}\nsentinel monitor {GROUP} 127.0.0.1 {port} 2\n\
                 sentinel down-after-milliseconds {GROUP} 1000\nsentinel failover-timeout {GROUP} 5000\n",
                dir.path().display()
            );
            std::fs::write(&file, text).expect("a file");
            let process = Process::start(&format!("sentinel {n}"), Command::new("redis-sentinel").arg(&file));
            (process, own)
        };
        let sentinels: Vec<_> = (0..3).map(start).collect();
        let all = Self { servers: [primary, replica], sentinels, _dir: dir };
        eventually("the replica has all data of the primary", || {
            info(&mut all.servers[1].connection(), "master_link_status") == "up"
        });
        eventually("the sentinels know each other and the replica", || all.know_each_other());
        all
    }

    fn know_each_other(&self) -> bool {
        self.sentinels.iter().all(|(_, port)| {
            let Ok(mut sentinel) = connect(*port) else { return false };
            let mut count = |what: &str| -> usize {
                let list: redis::RedisResult<Vec<redis::Value>> =
                    redis::cmd("SENTINEL").arg(what).arg(GROUP).query(&mut sentinel);
                list.map_or(0, |list| list.len())
            };
            count("sentinels") == 2 && count("replicas") == 1
        })
    }

    /// Options that name the Sentinels, as `option=value`.
    pub fn settings(&self) -> Vec<String> {
        let ports: Vec<_> = self.sentinels.iter().map(|(_, port)| format!("127.0.0.1:{port}")).collect();
        vec![format!("transport_url=zmqv2+sentinel://{}/{GROUP}", ports.join(","))]
    }

    /// The index of the server that all Sentinels call the primary.
    pub fn primary(&self) -> Option<usize> {
        let mut named = self.sentinels.iter().map(|(_, port)| {
            let mut sentinel = connect(*port).ok()?;
            let named: Option<(String, u16)> =
                redis::cmd("SENTINEL").arg("get-master-addr-by-name").arg(GROUP).query(&mut sentinel).ok()?;
            self.servers.iter().position(|server| Some(server.port()) == named.as_ref().map(|(_, port)| *port))
        });
        let first = named.next()??;
        named.all(|other| other == Some(first)).then_some(first)
    }

    /// Waits until all Sentinels and the server itself say that it is the primary.
    pub fn wait_primary(&self, index: usize) {
        eventually("the replica is the primary", || {
            self.primary() == Some(index) && info(&mut self.servers[index].connection(), "role") == "master"
        });
    }

    /// Sends a signal to both servers.
    pub fn signal_servers(&self, signal: Signal) {
        self.servers.iter().for_each(|server| server.signal(signal));
    }
}

pub fn keys(redis: &Redis) -> Vec<String> {
    let mut keys: Vec<String> = redis.connection().keys("*").expect("keys");
    keys.sort_unstable();
    keys
}
