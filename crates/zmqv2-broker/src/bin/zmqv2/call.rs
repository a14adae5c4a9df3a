//! `zmqv2 call` and `zmqv2 ping`.

use std::time::Duration;

use clap::Args;
use serde_json::value::RawValue;
use zmqv2_broker::cli::{CommonFlags, Exit, Failure};
use zmqv2_client::{Answered, CallError, RpcClient};
use zmqv2_proto::{Reason, RequestContext, Target, Version};

/// Whom to call.
#[derive(Debug, Args)]
struct TargetFlags {
    /// The topic: the service's name
    topic: String,
    /// Exactly this server of the topic
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
    /// The exchange that scopes the topic (default: option control_exchange)
    #[arg(long, value_name = "NAME")]
    exchange: Option<String>,
    /// Seconds until the call is given up (default: option rpc_response_timeout)
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct CallFlags {
    #[command(flatten)]
    target: TargetFlags,
    /// The method
    method: String,
    /// Its arguments, as JSON
    #[arg(default_value = "{}")]
    args: String,
    /// The interface's namespace
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// The interface's version
    #[arg(long, value_name = "MAJOR.MINOR")]
    version: Option<Version>,
    /// Say on stderr who answered, and how long it took
    #[arg(long, short)]
    verbose: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PingFlags {
    #[command(flatten)]
    target: TargetFlags,
}

/// A positive number of seconds.
fn seconds(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a number of seconds above 0 and up to 4294967");
    let seconds: f64 = text.parse().map_err(|_| wrong())?;
    let span = Duration::try_from_secs_f64(seconds).map_err(|_| wrong())?;
    if span.is_zero() || seconds > 4_294_967.0 { Err(wrong()) } else { Ok(span) }
}

impl TargetFlags {
    fn client(
        &self,
        common: &CommonFlags,
        adjust: impl FnOnce(Target) -> anyhow::Result<Target>,
    ) -> Result<RpcClient, Failure> {
        let setup = common.setup(log::LevelFilter::Warn)?;
        let target = || -> anyhow::Result<Target> {
            let exchange = self.exchange.as_deref().unwrap_or(setup.config.control_exchange.as_str());
            let target = Target::topic(&self.topic)?.with_exchange(exchange)?;
            adjust(match &self.server {
                Some(server) => target.with_server(server)?,
                None => target,
            })
        };
        let target = target().map_err(Failure::usage)?;
        let mut builder = RpcClient::builder(target).config(setup.config);
        if let Some(timeout) = self.timeout {
            builder = builder.timeout(timeout);
        }
        builder.build().map_err(Failure::usage)
    }
}

pub(crate) fn call(common: &CommonFlags, flags: &CallFlags) -> Result<(), Failure> {
    let args: Box<RawValue> = serde_json::from_str(&flags.args)
        .map_err(|error| Failure::usage(anyhow::anyhow!("the arguments are not JSON: {error}: {}", flags.args)))?;
    let client = flags.target.client(common, |mut target| {
        if let Some(namespace) = &flags.namespace {
            target = target.with_namespace(namespace)?;
        }
        target.version = flags.version;
        Ok(target)
    })?;
    let answered: Answered<Box<RawValue>> =
        client.call_detailed(&RequestContext::new(), &flags.method, &args).map_err(failure)?;
    println!("{}", answered.value.get());
    if flags.verbose {
        eprintln!("{}", who(&answered));
    }
    Ok(())
}

pub(crate) fn ping(common: &CommonFlags, flags: &PingFlags) -> Result<(), Failure> {
    let client = flags.target.client(common, Ok)?;
    let answered = client.ping().map_err(failure)?;
    println!("pong, {}", who(&answered));
    Ok(())
}

fn who<R>(answered: &Answered<R>) -> String {
    let Answered { server, node, elapsed, .. } = answered;
    format!("answered by {server} at node {node} in {:.3} ms", elapsed.as_secs_f64() * 1e3)
}

/// The exit code of a call that failed. A refusal's reason comes first in the text, for whoever reads it by machine.
fn failure(error: CallError) -> Failure {
    match error {
        CallError::Refused { refusal, target, node, after, .. } => {
            let node = node.map_or_else(String::new, |node| format!(" by node {node}"));
            let millis = after.as_secs_f64() * 1e3;
            Failure::new(Exit::Refused, anyhow::anyhow!("{refusal} ({target} was refused{node} after {millis:.1} ms)"))
        }
        CallError::TooLarge { .. } => Failure::new(Exit::Refused, anyhow::anyhow!("{}: {error}", Reason::TooLarge)),
        CallError::Remote(_) => Failure::new(Exit::Remote, error),
        CallError::Timeout { .. } => Failure::new(Exit::Timeout, anyhow::anyhow!("Timeout: {error}")),
        CallError::Unreachable { .. } => {
            let hint = "is zmqv2-broker running there?";
            Failure::new(Exit::Timeout, anyhow::anyhow!("Unreachable: {error}; {hint}"))
        }
        CallError::ConnectionLost { .. } => {
            Failure::new(Exit::Timeout, anyhow::anyhow!("ConnectionLost: {error}; the request may have run"))
        }
        CallError::DirectorySilent { .. } => Failure::new(Exit::Timeout, error),
        CallError::InvalidName(_) | CallError::VersionCap { .. } | CallError::Directory { .. } => Failure::usage(error),
        _ => Failure::new(Exit::Failed, error),
    }
}
