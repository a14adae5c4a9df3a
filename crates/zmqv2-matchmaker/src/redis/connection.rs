//! One connection to the primary: opened when needed, checked once, opened again when it broke.

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
use super::settings::{RedisAt, RedisSettings, RedisTls};
use crate::api::MatchmakerError;

/// Within this a connection stands, and within this again every command is answered.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// Within this a connection is ready for use, whatever it takes: names, Sentinels, TLS, and some commands.
pub(super) const OPEN_WITHIN: Duration = Duration::from_secs(5);

/// Streams, and scripts that replicate what they did rather than themselves, came with it.
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

/// A way to the primary.
pub(super) struct Connector {
    settings: Arc<RedisSettings>,
    session: Option<Session>,
    /// One that was not there in time. Nothing bounds how long the system looks for a name, so a thread does it; one at a time.
    opening: Option<Opening>,
    used: bool,
}

type Opening = Receiver<Result<Session, RedisFailure>>;

/// An open connection, whose other end is known to be of use.
pub(super) struct Session {
    connection: Connection,
    scripts: [String; 3],
    about: ServerInfo,
    /// The other end has to say with every answer that it is still the primary.
    by_sentinel: bool,
}

/// What a server says of itself.
struct ServerInfo {
    /// Another one for each process.
    instance: String,
    /// When it started, by its clock.
    started: Duration,
}

/// Why something did not work.
#[derive(Debug)]
pub(super) enum RedisFailure {
    /// The connection or a command failed.
    Failed(RedisError),
    /// The other end is not what is needed.
    Misconfigured { problem: String, remedy: String },
}

impl From<RedisError> for RedisFailure {
    fn from(error: RedisError) -> Self {
        Self::Failed(error)
    }
}

impl From<redis::ParsingError> for RedisFailure {
    fn from(error: redis::ParsingError) -> Self {
        Self::Failed(error.into())
    }
}

/// What to change when an option of `[matchmaker_redis]` is wrong.
pub(super) fn remedy(option: &str) -> String {
    format!("correct {option} in [matchmaker_redis], or transport_url")
}

impl Connector {
    pub(super) fn new(settings: Arc<RedisSettings>) -> Self {
        Self { settings, session: None, opening: None, used: false }
    }

    /// Closes the connection if it was not used since the last time.
    pub(super) fn rest(&mut self) {
        if !std::mem::take(&mut self.used) {
            self.session = None;
        }
    }

    /// Does `work`, which may be repeated, over the connection. One that was open before may have been closed by the other
    /// end, or lead to a primary of yesterday: then over a new one.
    pub(super) fn run<T>(
        &mut self,
        work: impl FnMut(&mut Session) -> Result<T, RedisFailure>,
    ) -> Result<T, MatchmakerError> {
        self.try_run(work).map_err(|failure| self.settings.explain(failure))
    }

    /// The same, with the failure itself.
    pub(super) fn try_run<T>(
        &mut self,
        mut work: impl FnMut(&mut Session) -> Result<T, RedisFailure>,
    ) -> Result<T, RedisFailure> {
        self.used = true;
        let again = self.session.is_some() || self.opening.is_some();
        match self.attempt(&mut work) {
            Err(RedisFailure::Failed(error)) if again && !timed_out(&error) => {
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
        let mut session = match self.session.take() {
            Some(session) => session,
            None => self.open()?,
        };
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
                // Nobody may wait for it any more.
                let open = move || drop(done.send(Session::open(&settings)));
                std::thread::Builder::new().name("zmqv2-redis".to_owned()).spawn(open).map_err(RedisError::from)?;
                opening
            }
        };
        match opening.recv_timeout(OPEN_WITHIN) {
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
        let (sentinels, group, password) = match &settings.at {
            RedisAt::Server(address) => return Self::open_at(settings, address, false),
            RedisAt::Sentinel { sentinels, group, password } => (sentinels, group, password),
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
        let login = Credentials { user: settings.user.as_deref(), password: settings.password.as_ref() };
        let mut connection = connect(address, &login, settings.database, settings.tls.as_ref())?;
        let about = check_server(&mut connection)?;
        check_role(cmd("ROLE").query(&mut connection)?, by_sentinel)?;
        let mut scripts = [const { String::new() }; 3];
        for (hash, text) in scripts.iter_mut().zip(SCRIPTS) {
            *hash = cmd("SCRIPT").arg("LOAD").arg(format!("{PRELUDE}{text}")).query(&mut connection)?;
        }
        Ok(Self { connection, scripts, about, by_sentinel })
    }

    /// Another text for each process that answers.
    pub(super) fn instance(&self) -> &str {
        &self.about.instance
    }

    /// When that process started, by its clock.
    pub(super) fn started(&self) -> Duration {
        self.about.started
    }

    /// Runs a script.
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
        Ok(T::from_redis_value(answer)?)
    }

    /// Sends a command that is answered within `wait`, and some.
    pub(super) fn wait<T: FromRedisValue>(&mut self, command: &Cmd, wait: Duration) -> Result<T, RedisFailure> {
        self.connection.set_read_timeout(Some(wait + PATIENCE))?;
        let answer = command.query(&mut self.connection)?;
        self.connection.set_read_timeout(Some(PATIENCE))?;
        Ok(answer)
    }
}

/// How this side says who it is.
pub(super) struct Credentials<'a> {
    pub(super) user: Option<&'a str>,
    pub(super) password: Option<&'a Secret>,
}

/// A connection whose every wait is bounded.
pub(super) fn connect(
    address: &TcpAddress,
    login: &Credentials<'_>,
    database: u16,
    tls: Option<&RedisTls>,
) -> Result<Connection, RedisFailure> {
    let mut redis = RedisConnectionInfo::default().set_db(i64::from(database)).set_skip_set_lib_name();
    if let Some(user) = login.user {
        redis = redis.set_username(user);
    }
    if let Some(password) = login.password {
        redis = redis.set_password(password.expose());
    }
    let (host, port) = (address.host().to_owned(), address.port());
    let client = match tls {
        None => Client::open(ConnectionAddr::Tcp(host, port).into_connection_info()?.set_redis_settings(redis))?,
        Some(tls) => {
            // For the whole process, as its documentation says; fails when it has one already, which is as good.
            let _ = rustls::crypto::ring::default_provider().install_default();
            let secure = ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None };
            Client::build_with_tls(
                secure.into_connection_info()?.set_redis_settings(redis),
                TlsCertificates {
                    client_tls: client_certificate(tls)?,
                    root_cert: tls.ca_file.as_deref().map(|file| pem(file, "tls_ca_file")).transpose()?,
                },
            )
            .map_err(|error| RedisFailure::Misconfigured {
                problem: format!("the certificates cannot be used: {error}"),
                remedy: remedy("tls_ca_file, tls_cert_file or tls_key_file"),
            })?
        }
    };
    let connection = client.get_connection_with_timeout(PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    Ok(connection)
}

fn client_certificate(tls: &RedisTls) -> Result<Option<ClientTlsConfig>, RedisFailure> {
    match (&tls.cert_file, &tls.key_file) {
        (None, None) => Ok(None),
        (Some(cert), Some(key)) => Ok(Some(ClientTlsConfig {
            client_cert: pem(cert, "tls_cert_file")?,
            client_key: pem(key, "tls_key_file")?,
        })),
        _ => Err(RedisFailure::Misconfigured {
            problem: "a certificate needs its key, and a key its certificate".to_owned(),
            remedy: remedy("tls_cert_file and tls_key_file"),
        }),
    }
}

fn pem(file: &std::path::Path, option: &str) -> Result<Vec<u8>, RedisFailure> {
    std::fs::read(file).map_err(|error| RedisFailure::Misconfigured {
        problem: format!("cannot read {}: {error}", file.display()),
        remedy: remedy(option),
    })
}

fn check_server(connection: &mut Connection) -> Result<ServerInfo, RedisFailure> {
    let info: String = cmd("INFO").arg("server").query(connection)?;
    let line = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let version = line("redis_version").unwrap_or("unknown");
    let mut numbers = version.split('.').map(|number| number.parse::<u64>().unwrap_or(0));
    let number = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if number >= OLDEST {
        let (now, _): (u64, u32) = cmd("TIME").query(connection)?;
        // One that does not say it may have been there for ever.
        let up = line("uptime_in_seconds").and_then(|seconds| seconds.parse().ok()).unwrap_or(now);
        let started = Duration::from_secs(now.saturating_sub(up));
        return Ok(ServerInfo { instance: line("run_id").unwrap_or_default().to_owned(), started });
    }
    let (major, minor) = OLDEST;
    Err(RedisFailure::Misconfigured {
        problem: format!("its version is {version}, {major}.{minor} or later is needed"),
        remedy: format!("update it, or name another one: {}", remedy("host")),
    })
}

/// The answer to `ROLE`. What a replica says may be old, and it takes nothing.
fn check_role(role: redis::Value, by_sentinel: bool) -> Result<(), RedisFailure> {
    let role = match role {
        redis::Value::Array(parts) => parts.into_iter().next().map(String::from_redis_value).transpose()?,
        _ => None,
    };
    match role.as_deref() {
        Some("master") => Ok(()),
        // Sentinel has not told all of them yet, or this one is alone; the next attempt asks again.
        _ if by_sentinel => Err(RedisFailure::Failed(RedisError::from((
            ErrorKind::Server(ServerErrorKind::ReadOnly),
            "it is not the primary any more",
        )))),
        role => Err(RedisFailure::Misconfigured {
            problem: format!("it is no primary but a {}", role.unwrap_or("stranger")),
            remedy: format!("name the primary, or sentinel_hosts: {}", remedy("host and port")),
        }),
    }
}

/// Whether the other end is silent, so that another attempt would take as long.
fn timed_out(error: &RedisError) -> bool {
    error.is_timeout() || error.is_connection_refusal()
}
