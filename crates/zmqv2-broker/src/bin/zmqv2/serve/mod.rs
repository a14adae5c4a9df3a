//! `zmqv2 serve`.

use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};
use zmqv2_broker::cli::{CommonFlags, Failure, Reloader, SignalHandler, StateReport, tell};
use zmqv2_proto::config::resolve_ipc_dir;
use zmqv2_proto::{Reply, Version};
use zmqv2_server::{HandlerError, Incoming, Methods, RpcServer, RpcServerBuilder, reply};

mod process_groups;
mod running;
pub(crate) mod shell_command;

use crate::send::target::{set_if_given, target_of};
use process_groups::ProcessGroups;
use shell_command::ShellCommand;

/// The help about signals.
const SIGNALS: &str = "SIGTERM or SIGINT: finishes what runs, and ends. SIGHUP: reads the configuration again, and takes \
over the level of the log. SIGUSR2: writes the state to the log. SIGUSR1: nothing.";

#[derive(Debug, Args)]
#[command(after_help = SIGNALS)]
pub(crate) struct ServeFlags {
    /// The topic: the service's name
    topic: String,
    /// This server's name (default: the node's name)
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
    /// The exchange that scopes the topic (default: option control_exchange)
    #[arg(long, value_name = "NAME")]
    exchange: Option<String>,
    /// How many requests run at the same time (default: option rpc_thread_pool_size)
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Run this shell command per request: the request as JSON on stdin, the reply on stdout
    #[arg(long, value_name = "COMMAND")]
    exec: Option<String>,
    /// The namespace of the methods echo, sleep and fail
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// The version of the methods echo, sleep and fail
    #[arg(long, value_name = "MAJOR.MINOR", default_value = "1.0")]
    version: Version,
}

pub(crate) fn run(common: &CommonFlags, flags: &ServeFlags) -> Result<(), Failure> {
    let setup = common.setup(log::LevelFilter::Info)?;
    let signals = SignalHandler::install()?;
    let config = &setup.config;
    let groups = flags.exec.as_ref().map(|_| ProcessGroups::start()).transpose()?;
    let builder = || -> anyhow::Result<RpcServerBuilder> {
        let mut target = target_of(&flags.topic, flags.exchange.as_deref())?;
        if let Some(server) = &flags.server {
            target = target.with_server(server)?;
        }
        // A server binds sockets. If it starts before the broker, it creates their directory.
        let builder = RpcServer::builder(target).ipc_dir(resolve_ipc_dir(config)?).config(config.clone());
        let builder = match flags.exec.clone().zip(groups.clone()) {
            Some((line, groups)) => {
                builder.endpoint(ShellCommand { line, max_bytes: config.max_message_bytes, groups })
            }
            None => builder.endpoint(built_in(flags)?),
        };
        Ok(set_if_given(builder, flags.workers, RpcServerBuilder::workers))
    };
    let server = Arc::new(builder().and_then(|builder| Ok(builder.start()?)).map_err(Failure::usage)?);
    let (stop, stopped) = crossbeam_channel::bounded(1);
    let reloader = Reloader::new(common, &setup, None);
    let about = json!({ "target": server.target().to_string(), "instance": server.instance() });
    let (state, reported) = (StateReport::new(about), Arc::clone(&server));
    // The channel has room for one: a second signal while stopping changes nothing.
    let stop = move || _ = stop.try_send(());
    signals.handle(stop, move || reloader.reload(), move || state.write(reported.is_ready()))?;
    let waiting = Arc::clone(&server);
    std::thread::Builder::new().name("ready".to_owned()).spawn(move || {
        say_ready(|span| waiting.wait_ready(span), format_args!("ready: {} takes requests", waiting.target()));
    })?;
    // The signal thread has the sender and never ends, so this receives.
    let _ = stopped.recv();
    let stopped = server.stop();
    // Commands that did not end in time do not outlive the service.
    if let Some(groups) = groups {
        groups.end();
    }
    log::info!("{} has taken {}", server.target(), server.counters());
    Ok(stopped?)
}

/// Waits until a server or listener is ready, and prints a line then.
pub(crate) fn say_ready<E: Display>(wait_ready: impl Fn(Duration) -> Result<(), E>, line: impl Display) {
    while let Err(error) = wait_ready(Duration::from_secs(5)) {
        log::warn!("{error}");
    }
    tell(line);
}

fn built_in(flags: &ServeFlags) -> anyhow::Result<Methods> {
    let methods = Methods::new()
        .version(flags.version)
        .raw("echo", |incoming| Ok(Reply::Result(incoming.request.args.clone())))?
        .raw("sleep", sleep)?
        .raw("fail", fail)?;
    Ok(match &flags.namespace {
        Some(namespace) => methods.namespace(namespace)?,
        None => methods,
    })
}

/// The longest sleep beyond the caller's deadline. The answer is then too late in any case.
const OVERSLEEP: Duration = Duration::from_millis(500);

/// `sleep 0.5`, `sleep {"seconds": 0.5}`. It ends soon after the caller's deadline.
fn sleep(incoming: &Incoming) -> Result<Reply, HandlerError> {
    let args: Value = incoming.args()?;
    let seconds = args.as_f64().or_else(|| args.get("seconds")?.as_f64()).unwrap_or(1.0);
    let span = Duration::try_from_secs_f64(seconds).map_err(|_| {
        HandlerError::new("zmqv2.tool", "InvalidArguments", format!("cannot sleep for {seconds} seconds"))
    })?;
    let span = span.min(incoming.deadline.saturating_duration_since(now()) + OVERSLEEP);
    // A timer that fires once: waiting is the purpose of this method.
    let _ = crossbeam_channel::after(span).recv();
    reply(&serde_json::json!({ "slept_s": span.as_secs_f64() }))
}

/// `fail`, `fail "why"`, `fail {"message": "why"}`.
fn fail(incoming: &Incoming) -> Result<Reply, HandlerError> {
    let args: Value = incoming.args()?;
    let message = args.as_str().or_else(|| args.get("message")?.as_str()).unwrap_or("failed as asked");
    Err(HandlerError::new("zmqv2.tool", "Failed", message))
}

#[expect(clippy::disallowed_methods, reason = "the tool measures and waits")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
