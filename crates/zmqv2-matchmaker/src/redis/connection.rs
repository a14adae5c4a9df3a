//! One connection to the primary: opened when needed, checked once, opened again after it broke.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use redis::{
    Client, ClientTlsConfig, Cmd, Connection, ConnectionAddr, ErrorKind, FromRedisValue, IntoConnectionInfo,
    RedisConnectionInfo, RedisError, ServerErrorKind, TlsCertificates, cmd,
};
use zmqv2_proto::TcpAddress;
use zmqv2_proto::config::Secret;

use super::sentinel;
use super::settings::{RedisLocation, RedisSettings, RedisTls};
use crate::api::MatchmakerError;
use crate::cached::now;

/// The time limit for connecting, and again for each command.
pub(super) const COMMAND_TIMEOUT: Duration = Duration::from_secs(2);
/// The time limit for opening a connection: name lookup, Sentinels, TLS, and some commands.
pub(super) const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// If opening a connection takes longer, the Sentinels are asked again whether it leads to the primary.
const SENTINELS_ARE_RIGHT_FOR: Duration = Duration::from_millis(500);

/// The oldest version with streams and with scripts that replicate their effects.
const OLDEST: (u64, u64) = (5, 0);

const PRELUDE: &str = include_str!("prelude.lua");
const SCRIPTS: [&str; 4] = [
    include_str!("register.lua"),
    include_str!("withdraw.lua"),
    include_str!("read.lua"),
    include_str!("check_in.lua"),
];

/// The scripts, in the order of [`SCRIPTS`].
#[derive(Debug, Clone, Copy)]
pub(super) enum Script {
    Register,
    Withdraw,
    Read,
    CheckIn,
}

/// Opens and keeps the connection to the primary.
pub(super) struct Connector {
    settings: Arc<RedisSettings>,
    session: Option<Session>,
    /// A connection that did not open in time. A thread opens it, because the system's name lookup
    /// has no time limit. There is one such thread at a time.
    opening: Option<Opening>,
    used: bool,
    /// Whether a connection was ever open. Until then, any option may be wrong.
    connected: bool,
}

type Opening = Receiver<Result<Session, RedisFailure>>;

/// An open connection to a server that has passed the checks.
pub(super) struct Session {
    connection: Connection,
    scripts: [String; SCRIPTS.len()],
    /// The id of the server process.
    pub(super) instance: String,
    /// The start of the server process, by its own clock.
    pub(super) started: Duration,
    /// The address of this machine from which it reaches the server.
    pub(super) own_ip: Option<IpAddr>,
    /// The server must confirm with every answer that it is still the primary.
    by_sentinel: bool,
}

/// The reason why an operation failed.
#[derive(Debug)]
pub(super) enum RedisFailure {
    /// The connection or a command failed.
    Failed(RedisError),
    /// The server, or an option, must be corrected.
    Misconfigured { problem: String, remedy: String },
    /// The server cannot be used now. This may pass.
    Unusable { problem: String, remedy: String },
}

impl RedisFailure {
    /// A wrong option of `[matchmaker_redis]`.
    pub(super) fn option(problem: String, option: &str) -> Self {
        Self::Misconfigured { problem, remedy: remedy(option) }
    }
}

impl RedisFailure {
    /// Whether the server has given a reason.
    fn is_answer(&self) -> bool {
        matches!(self, Self::Failed(error) if !error.is_io_error())
    }
}

impl From<RedisError> for RedisFailure {
    fn from(error: RedisError) -> Self {
        Self::Failed(error)
    }
}

/// The advice for a wrong option of `[matchmaker_redis]`.
pub(super) fn remedy(option: &str) -> String {
    format!("correct {option} in [matchmaker_redis], or transport_url")
}

impl Connector {
    pub(super) fn new(settings: Arc<RedisSettings>) -> Self {
        Self { settings, session: None, opening: None, used: false, connected: false }
    }

    /// Closes the connection if it was not used since the last call.
    pub(super) fn close_idle(&mut self) {
        if !std::mem::take(&mut self.used) {
            self.session = None;
        }
    }

    /// Runs `work` over the connection. If the connection was open before, and turns out to be
    /// closed or to lead to a former primary, runs `work` once more over a new one.
    pub(super) fn run<T>(
        &mut self,
        work: impl FnMut(&mut Session) -> Result<T, RedisFailure>,
    ) -> Result<T, MatchmakerError> {
        self.try_run(work).map_err(|failure| self.settings.explain(failure, self.connected))
    }

    /// [`run`](Self::run) without the explanation of a failure.
    fn try_run<T>(&mut self, mut work: impl FnMut(&mut Session) -> Result<T, RedisFailure>) -> Result<T, RedisFailure> {
        self.used = true;
        let again = self.session.is_some() || self.opening.is_some();
        match self.attempt(&mut work) {
            // A silent or absent server would let another attempt wait in vain too.
            Err(RedisFailure::Failed(error)) if again && !error.is_timeout() && !error.is_connection_refusal() => {
                log::debug!("opening a new connection to redis: {error}");
                self.attempt(&mut work)
            }
            done => done,
        }
    }

    fn attempt<T>(
        &mut self,
        work: &mut impl FnMut(&mut Session) -> Result<T, RedisFailure>,
    ) -> Result<T, RedisFailure> {
        let mut session = self.session.take().map_or_else(|| self.open(), Ok)?;
        self.connected = true;
        let done = work(&mut session)?;
        self.session = Some(session);
        Ok(done)
    }

    fn open(&mut self) -> Result<Session, RedisFailure> {
        let opening = match self.opening.take() {
            Some(opening) => opening,
            None => {
                let (done, opening) = mpsc::channel();
                let settings = Arc::clone(&self.settings);
                // The receiver may be gone.
                let open = move || drop(done.send(Session::open(&settings)));
                std::thread::Builder::new().name("zmqv2-redis".to_owned()).spawn(open).map_err(RedisError::from)?;
                opening
            }
        };
        match opening.recv_timeout(OPEN_TIMEOUT) {
            Ok(opened) => opened,
            Err(RecvTimeoutError::Timeout) => {
                self.opening = Some(opening);
                Err(RedisError::from(io::Error::from(io::ErrorKind::TimedOut)).into())
            }
            Err(RecvTimeoutError::Disconnected) => {
                Err(RedisError::from(io::Error::other("the thread that connects panicked")).into())
            }
        }
    }
}

impl Session {
    fn open(settings: &Arc<RedisSettings>) -> Result<Self, RedisFailure> {
        let (sentinels, group, password) = match &settings.location {
            RedisLocation::Server(address) => return Self::open_at(settings, address, false),
            RedisLocation::Sentinel { sentinels, group, password } => (sentinels, group, password),
        };
        let mut failure = None;
        let ask = || sentinel::primaries(settings, sentinels, group, password.as_ref());
        for address in ask()? {
            let asked = now();
            match Self::open_at(settings, &address, true) {
                // A server that hung and was replaced meanwhile still believes that it is the primary.
                Ok(_)
                    if now().saturating_duration_since(asked) > SENTINELS_ARE_RIGHT_FOR
                        && ask()?.first() != Some(&address) =>
                {
                    let problem = "it was replaced while it did not answer";
                    failure = Some(RedisError::from((ErrorKind::Server(ServerErrorKind::ReadOnly), problem)).into());
                }
                Ok(session) => return Ok(session),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        Err(failure.unwrap_or_else(|| RedisError::from((ErrorKind::EmptySentinelList, "no Sentinel")).into()))
    }

    fn open_at(settings: &RedisSettings, address: &TcpAddress, by_sentinel: bool) -> Result<Self, RedisFailure> {
        let mut connection = connect(address, settings.tls.as_ref())?;
        // All in one round trip: the server may be far away.
        let mut batch = Batch::default();
        batch.login(settings.user.as_deref(), settings.password.as_ref());
        if settings.database != 0 {
            batch.add_unanswered(cmd("SELECT").arg(settings.database));
        }
        batch.add(cmd("INFO").arg("server"));
        batch.add(&cmd("TIME"));
        batch.add(&cmd("ROLE"));
        for text in SCRIPTS {
            batch.add(cmd("SCRIPT").arg("LOAD").arg(format!("{PRELUDE}{text}")));
        }
        let mut answers = batch.send(&mut connection)?;
        let info: String = answers.next()?;
        check_version(&info)?;
        let (instance, started) = process_of(&info, answers.next()?);
        check_role(answers.next()?, by_sentinel)?;
        let mut scripts = [const { String::new() }; SCRIPTS.len()];
        for hash in &mut scripts {
            *hash = answers.next()?;
        }
        Ok(Self { connection, scripts, instance, started, own_ip: own_ip(address), by_sentinel })
    }

    pub(super) fn run<T: FromRedisValue>(
        &mut self,
        script: Script,
        keys: &[String],
        arguments: &[String],
    ) -> Result<T, RedisFailure> {
        self.ask(self.call(script, keys, arguments))
    }

    /// Sends a command, and returns its answer.
    pub(super) fn ask<T: FromRedisValue>(&mut self, command: Cmd) -> Result<T, RedisFailure> {
        if !self.by_sentinel {
            return Ok(command.query(&mut self.connection)?);
        }
        let [answer] = self.ask_all([command])?.try_into().map_err(|_| too_few())?;
        T::from_redis_value(answer).map_err(|error| RedisError::from(error).into())
    }

    /// Sends commands together, and returns their answers after one round trip. An error of any
    /// command is the result.
    pub(super) fn ask_all(
        &mut self,
        commands: impl IntoIterator<Item = Cmd>,
    ) -> Result<Vec<redis::Value>, RedisFailure> {
        let mut all = redis::pipe();
        if self.by_sentinel {
            all.cmd("ROLE");
        }
        for command in commands {
            all.add_command(command);
        }
        let mut answers: Vec<redis::Value> = all.query(&mut self.connection)?;
        if self.by_sentinel {
            let rest = answers.split_off(1.min(answers.len()));
            check_role(answers.pop().unwrap_or(redis::Value::Nil), true)?;
            return Ok(rest);
        }
        Ok(answers)
    }

    /// The command that runs a script.
    pub(super) fn call(&self, script: Script, keys: &[String], arguments: &[String]) -> Cmd {
        let mut call = cmd("EVALSHA");
        call.arg(&self.scripts[script as usize]).arg(keys.len()).arg(keys).arg(arguments);
        call
    }

    /// Sends a command that may block in Redis for `wait`.
    pub(super) fn wait<T: FromRedisValue>(&mut self, command: &Cmd, wait: Duration) -> Result<T, RedisFailure> {
        self.connection.set_read_timeout(Some(wait + COMMAND_TIMEOUT))?;
        let answer = command.query(&mut self.connection)?;
        self.connection.set_read_timeout(Some(COMMAND_TIMEOUT))?;
        Ok(answer)
    }
}

fn too_few() -> RedisFailure {
    RedisError::from((ErrorKind::UnexpectedReturnType, "it answered another number of commands")).into()
}

/// Commands that are sent together, so that all their answers come after one round trip.
#[derive(Default)]
pub(super) struct Batch {
    packed: Vec<u8>,
    /// How many answers at the start only matter if they are errors.
    unanswered: usize,
}

/// The answers to a [`Batch`], in the order of its commands.
pub(super) struct Answers<'a>(&'a mut Connection);

impl Batch {
    pub(super) fn login(&mut self, user: Option<&str>, password: Option<&Secret>) {
        if let Some(password) = password {
            self.add_unanswered(cmd("AUTH").arg(user).arg(password.expose()));
        }
    }

    fn add_unanswered(&mut self, command: &Cmd) {
        self.unanswered += 1;
        self.add(command);
    }

    pub(super) fn add(&mut self, command: &Cmd) {
        self.packed.extend(command.get_packed_command());
    }

    /// Sends the commands. An error of the first ones is returned at once.
    pub(super) fn send(self, connection: &mut Connection) -> Result<Answers<'_>, RedisFailure> {
        let sent = connection.send_packed_command(&self.packed);
        let mut answers = Answers(connection);
        if let Err(error) = sent {
            // A server that refuses a connection says why before it closes the connection.
            return Err(answers.next::<redis::Value>().err().filter(RedisFailure::is_answer).unwrap_or(error.into()));
        }
        for _ in 0..self.unanswered {
            let _: redis::Value = answers.next()?;
        }
        Ok(answers)
    }
}

impl Answers<'_> {
    pub(super) fn next<T: FromRedisValue>(&mut self) -> Result<T, RedisFailure> {
        let answer = self.0.recv_response()?.extract_error()?;
        T::from_redis_value(answer).map_err(|error| RedisError::from(error).into())
    }
}

/// The address of this machine from which packets to `server` would start. Sends none.
fn own_ip(server: &TcpAddress) -> Option<IpAddr> {
    let servers = (server.host(), server.port()).to_socket_addrs().ok()?;
    let from = |server: SocketAddr| {
        let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect(server).ok()?;
        socket.local_addr().ok()
    };
    servers.filter_map(from).map(|own| own.ip()).next()
}

/// Connects without a login. Every wait of the connection is bounded.
pub(super) fn connect(address: &TcpAddress, tls: Option<&RedisTls>) -> Result<Connection, RedisFailure> {
    let connection = client(address, tls)?.get_connection_with_timeout(COMMAND_TIMEOUT)?;
    connection.set_read_timeout(Some(COMMAND_TIMEOUT))?;
    connection.set_write_timeout(Some(COMMAND_TIMEOUT))?;
    Ok(connection)
}

/// What connects to this address. Does no I/O except reading the files of TLS.
pub(super) fn client(address: &TcpAddress, tls: Option<&RedisTls>) -> Result<Client, RedisFailure> {
    let redis = RedisConnectionInfo::default().set_skip_set_lib_name();
    let (host, port) = (address.host().to_owned(), address.port());
    let Some(tls) = tls else {
        return Ok(Client::open(ConnectionAddr::Tcp(host, port).into_connection_info()?.set_redis_settings(redis))?);
    };
    // For the whole process. An error means that the process already has a provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let secure = ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None };
    let files = TlsCertificates {
        client_tls: client_certificate(tls)?,
        root_cert: tls.ca_file.as_deref().map(|file| certificates(file, "tls_ca_file")).transpose()?,
    };
    Client::build_with_tls(secure.into_connection_info()?.set_redis_settings(redis), files).map_err(|error| {
        let problem = format!("the certificates cannot be used: {error}");
        RedisFailure::option(problem, "tls_ca_file, tls_cert_file or tls_key_file")
    })
}

fn client_certificate(tls: &RedisTls) -> Result<Option<ClientTlsConfig>, RedisFailure> {
    match (&tls.cert_file, &tls.key_file) {
        (None, None) => Ok(None),
        (Some(cert), Some(key)) => Ok(Some(ClientTlsConfig {
            client_cert: certificates(cert, "tls_cert_file")?,
            client_key: bytes(key, "tls_key_file")?,
        })),
        _ => {
            let problem = "a certificate needs its key, and a key its certificate".to_owned();
            Err(RedisFailure::option(problem, "tls_cert_file and tls_key_file"))
        }
    }
}

/// A PEM file with at least one certificate. The library takes a file without one, and trusts nobody.
fn certificates(file: &Path, option: &str) -> Result<Vec<u8>, RedisFailure> {
    const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
    let pem = bytes(file, option)?;
    if !pem.windows(BEGIN.len()).any(|part| part == BEGIN) {
        let problem = format!("{} has no certificate: a PEM file with BEGIN CERTIFICATE is expected", file.display());
        return Err(RedisFailure::option(problem, option));
    }
    Ok(pem)
}

fn bytes(file: &Path, option: &str) -> Result<Vec<u8>, RedisFailure> {
    let failed = |error| RedisFailure::option(format!("cannot read {}: {error}", file.display()), option);
    std::fs::read(file).map_err(failed)
}

/// The value of a line of `INFO`.
fn line<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

fn check_version(info: &str) -> Result<(), RedisFailure> {
    let version = line(info, "redis_version").unwrap_or("unknown");
    let mut numbers = version.split('.').map(|number| number.parse::<u64>().unwrap_or(0));
    let number = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if number < OLDEST {
        let (major, minor) = OLDEST;
        return Err(RedisFailure::Misconfigured {
            problem: format!("its version is {version}, {major}.{minor} or later is needed"),
            remedy: format!("update it, or name another server: {}", remedy("host")),
        });
    }
    Ok(())
}

/// An id of the server process, and its start by its own clock.
fn process_of(info: &str, (now, _): (u64, u32)) -> (String, Duration) {
    // Without an uptime, the server counts as old.
    let up = line(info, "uptime_in_seconds").and_then(|seconds| seconds.parse().ok()).unwrap_or(now);
    let id = line(info, "run_id").filter(|id| !id.is_empty()).unwrap_or("-");
    (id.to_owned(), Duration::from_secs(now.saturating_sub(up)))
}

/// Checks the answer to `ROLE`. A replica may have old data and takes no writes.
fn check_role(role: redis::Value, by_sentinel: bool) -> Result<(), RedisFailure> {
    let role = match role {
        redis::Value::Array(parts) => {
            parts.into_iter().next().map(String::from_redis_value).transpose().map_err(RedisError::from)?
        }
        _ => None,
    };
    match role.as_deref() {
        Some("master") => Ok(()),
        // A failover may be under way, so the next attempt asks the Sentinels again.
        _ if by_sentinel => Err(RedisFailure::Failed(RedisError::from((
            ErrorKind::Server(ServerErrorKind::ReadOnly),
            "it is not the primary any more",
        )))),
        role => Err(RedisFailure::Unusable {
            problem: format!("it is not a primary but a {}", role.unwrap_or("server of an unknown role")),
            remedy: format!("name the primary, or sentinel_hosts: {}", remedy("host and port")),
        }),
    }
}
