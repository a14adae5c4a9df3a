//! One connection to the primary: opened when needed, checked once, opened again after it broke.

use std::io;
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

/// The time limit for connecting, and again for each command.
pub(super) const COMMAND_TIMEOUT: Duration = Duration::from_secs(2);
/// The time limit for opening a connection: name lookup, Sentinels, TLS, and some commands.
pub(super) const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// The oldest version with streams and with scripts that replicate their effects.
const OLDEST: (u64, u64) = (5, 0);

const PRELUDE: &str = include_str!("prelude.lua");
const SCRIPTS: [&str; 3] = [include_str!("register.lua"), include_str!("withdraw.lua"), include_str!("read.lua")];

/// The scripts, in the order of [`SCRIPTS`].
#[derive(Debug, Clone, Copy)]
pub(super) enum Script {
    Register,
    Withdraw,
    Read,
}

/// Opens and keeps the connection to the primary.
pub(super) struct Connector {
    settings: Arc<RedisSettings>,
    session: Option<Session>,
    /// A connection that did not open in time. A thread opens it, because the system's name lookup
    /// has no time limit. There is one such thread at a time.
    opening: Option<Opening>,
    used: bool,
}

type Opening = Receiver<Result<Session, RedisFailure>>;

/// An open connection to a server that has passed the checks.
pub(super) struct Session {
    connection: Connection,
    scripts: [String; 3],
    /// The id of the server process.
    pub(super) instance: String,
    /// The start of the server process, by its own clock.
    pub(super) started: Duration,
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
}

impl RedisFailure {
    /// A wrong option of `[matchmaker_redis]`.
    pub(super) fn option(problem: String, option: &str) -> Self {
        Self::Misconfigured { problem, remedy: remedy(option) }
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
        Self { settings, session: None, opening: None, used: false }
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
        self.try_run(work).map_err(|failure| self.settings.explain(failure))
    }

    /// [`run`](Self::run) without the explanation of a failure.
    pub(super) fn try_run<T>(
        &mut self,
        mut work: impl FnMut(&mut Session) -> Result<T, RedisFailure>,
    ) -> Result<T, RedisFailure> {
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
        for address in sentinel::primaries(settings, sentinels, group, password.as_ref())? {
            match Self::open_at(settings, &address, true) {
                Ok(session) => return Ok(session),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        Err(failure.unwrap_or_else(|| RedisError::from((ErrorKind::EmptySentinelList, "no Sentinel")).into()))
    }

    fn open_at(settings: &RedisSettings, address: &TcpAddress, by_sentinel: bool) -> Result<Self, RedisFailure> {
        let login = (settings.user.as_deref(), settings.password.as_ref());
        let mut connection = connect(address, login, settings.database, settings.tls.as_ref())?;
        let (instance, started) = check_server(&mut connection)?;
        check_role(cmd("ROLE").query(&mut connection)?, by_sentinel)?;
        let mut scripts = [const { String::new() }; 3];
        for (hash, text) in scripts.iter_mut().zip(SCRIPTS) {
            *hash = cmd("SCRIPT").arg("LOAD").arg(format!("{PRELUDE}{text}")).query(&mut connection)?;
        }
        Ok(Self { connection, scripts, instance, started, by_sentinel })
    }

    pub(super) fn run<T: FromRedisValue>(
        &mut self,
        script: Script,
        keys: &[String],
        arguments: &[String],
    ) -> Result<T, RedisFailure> {
        let mut call = cmd("EVALSHA");
        call.arg(&self.scripts[script as usize]).arg(keys.len()).arg(keys).arg(arguments);
        self.ask(call)
    }

    /// Sends a command, and returns its answer.
    pub(super) fn ask<T: FromRedisValue>(&mut self, command: Cmd) -> Result<T, RedisFailure> {
        if !self.by_sentinel {
            return Ok(command.query(&mut self.connection)?);
        }
        let mut both = redis::pipe();
        both.cmd("ROLE").add_command(command);
        let (role, answer): (redis::Value, redis::Value) = both.query(&mut self.connection)?;
        check_role(role, true)?;
        T::from_redis_value(answer).map_err(|error| RedisError::from(error).into())
    }

    /// Sends a command that may block in Redis for `wait`.
    pub(super) fn wait<T: FromRedisValue>(&mut self, command: &Cmd, wait: Duration) -> Result<T, RedisFailure> {
        self.connection.set_read_timeout(Some(wait + COMMAND_TIMEOUT))?;
        let answer = command.query(&mut self.connection)?;
        self.connection.set_read_timeout(Some(COMMAND_TIMEOUT))?;
        Ok(answer)
    }
}

/// Connects with user and password. Every wait of the connection is bounded.
pub(super) fn connect(
    address: &TcpAddress,
    login: (Option<&str>, Option<&Secret>),
    database: u16,
    tls: Option<&RedisTls>,
) -> Result<Connection, RedisFailure> {
    let connection = client(address, login, database, tls)?.get_connection_with_timeout(COMMAND_TIMEOUT)?;
    connection.set_read_timeout(Some(COMMAND_TIMEOUT))?;
    connection.set_write_timeout(Some(COMMAND_TIMEOUT))?;
    Ok(connection)
}

/// Reads the files of TLS. Connects to nothing.
pub(super) fn client(
    address: &TcpAddress,
    (user, password): (Option<&str>, Option<&Secret>),
    database: u16,
    tls: Option<&RedisTls>,
) -> Result<Client, RedisFailure> {
    let mut redis = RedisConnectionInfo::default().set_db(i64::from(database)).set_skip_set_lib_name();
    if let Some(user) = user {
        redis = redis.set_username(user);
    }
    if let Some(password) = password {
        redis = redis.set_password(password.expose());
    }
    let (host, port) = (address.host().to_owned(), address.port());
    Ok(match tls {
        None => Client::open(ConnectionAddr::Tcp(host, port).into_connection_info()?.set_redis_settings(redis))?,
        Some(tls) => {
            // For the whole process. An error means that the process already has a provider.
            let _ = rustls::crypto::ring::default_provider().install_default();
            let secure = ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None };
            Client::build_with_tls(
                secure.into_connection_info()?.set_redis_settings(redis),
                TlsCertificates {
                    client_tls: client_certificate(tls)?,
                    root_cert: tls.ca_file.as_deref().map(|file| pem(file, "tls_ca_file")).transpose()?,
                },
            )
            .map_err(|error| {
                let problem = format!("the certificates cannot be used: {error}");
                RedisFailure::option(problem, "tls_ca_file, tls_cert_file or tls_key_file")
            })?
        }
    })
}

fn client_certificate(tls: &RedisTls) -> Result<Option<ClientTlsConfig>, RedisFailure> {
    match (&tls.cert_file, &tls.key_file) {
        (None, None) => Ok(None),
        (Some(cert), Some(key)) => Ok(Some(ClientTlsConfig {
            client_cert: pem(cert, "tls_cert_file")?,
            client_key: pem(key, "tls_key_file")?,
        })),
        _ => {
            let problem = "a certificate needs its key, and a key its certificate".to_owned();
            Err(RedisFailure::option(problem, "tls_cert_file and tls_key_file"))
        }
    }
}

fn pem(file: &std::path::Path, option: &str) -> Result<Vec<u8>, RedisFailure> {
    let failed = |error| RedisFailure::option(format!("cannot read {}: {error}", file.display()), option);
    std::fs::read(file).map_err(failed)
}

/// Checks the version. Returns an id of the server process, and its start by its own clock.
fn check_server(connection: &mut Connection) -> Result<(String, Duration), RedisFailure> {
    let info: String = cmd("INFO").arg("server").query(connection)?;
    let line = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let version = line("redis_version").unwrap_or("unknown");
    let mut numbers = version.split('.').map(|number| number.parse::<u64>().unwrap_or(0));
    let number = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if number < OLDEST {
        let (major, minor) = OLDEST;
        return Err(RedisFailure::Misconfigured {
            problem: format!("its version is {version}, {major}.{minor} or later is needed"),
            remedy: format!("update it, or name another server: {}", remedy("host")),
        });
    }
    let (now, _): (u64, u32) = cmd("TIME").query(connection)?;
    // Without an uptime, the server counts as old.
    let up = line("uptime_in_seconds").and_then(|seconds| seconds.parse().ok()).unwrap_or(now);
    Ok((line("run_id").unwrap_or_default().to_owned(), Duration::from_secs(now.saturating_sub(up))))
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
        role => Err(RedisFailure::Misconfigured {
            problem: format!("it is not a primary but a {}", role.unwrap_or("server of an unknown role")),
            remedy: format!("name the primary, or sentinel_hosts: {}", remedy("host and port")),
        }),
    }
}
