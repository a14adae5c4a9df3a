//! The flags of every command that sends: target, interface and message.

use std::time::Duration;

use clap::Args;
use serde_json::value::RawValue;
use zmqv2_broker::cli::{CommonFlags, Failure, hold_warnings_of_directory};
use zmqv2_client::{ClientError, Notifier, NotifierBuilder, RpcClient, RpcClientBuilder};
use zmqv2_proto::{Config, InvalidName, Target, Version};

#[derive(Debug, Args)]
pub(crate) struct TopicFlags {
    /// The topic: the service's name
    pub(crate) topic: String,
    /// The exchange that scopes the topic (default: option control_exchange)
    #[arg(long, value_name = "NAME")]
    exchange: Option<String>,
    /// Seconds until a message is given up (default: option rpc_response_timeout for calls,
    /// rpc_cast_timeout for others)
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct TargetFlags {
    #[command(flatten)]
    pub(crate) topic: TopicFlags,
    /// Only this server of the topic
    #[arg(long, value_name = "NAME")]
    pub(crate) server: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct MessageFlags {
    /// The method
    pub(crate) method: String,
    /// Its arguments, as JSON
    #[arg(default_value = "{}")]
    pub(crate) args: String,
    #[command(flatten)]
    pub(crate) interface: InterfaceFlags,
    /// Wait for a server if there is none, instead of a refusal with NoRoute
    #[arg(long)]
    pub(crate) wait_for_ready: bool,
}

#[derive(Debug, Default, Args)]
pub(crate) struct InterfaceFlags {
    /// The interface's namespace
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// The interface's version
    #[arg(long, value_name = "MAJOR.MINOR")]
    version: Option<Version>,
}

pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a number of seconds above 0 and up to 4294967");
    let seconds: f64 = text.parse().map_err(|_| wrong())?;
    let span = Duration::try_from_secs_f64(seconds).map_err(|_| wrong())?;
    if span.is_zero() || seconds > 4_294_967.0 { Err(wrong()) } else { Ok(span) }
}

pub(crate) fn set_if_given<B, V>(builder: B, flag: Option<V>, set: impl FnOnce(B, V) -> B) -> B {
    match flag {
        Some(value) => set(builder, value),
        None => builder,
    }
}

pub(crate) fn parse_json(text: &str) -> Result<Box<RawValue>, Failure> {
    serde_json::from_str(text).map_err(|error| Failure::usage(format!("the arguments are not JSON: {error}: {text}")))
}

impl MessageFlags {
    /// The arguments. The command ends soon, unless it waits for a server: so its error comes
    /// instead of a warning of the directory with the same words.
    pub(crate) fn parsed(&self) -> Result<Box<RawValue>, Failure> {
        if !self.wait_for_ready {
            hold_warnings_of_directory();
        }
        parse_json(&self.args)
    }
}

impl TopicFlags {
    pub(crate) fn client(&self, common: &CommonFlags, interface: &InterfaceFlags) -> Result<RpcClient, Failure> {
        self.client_with(common, interface, |_| {}, |builder| builder)
    }

    /// The same, with changes to the configuration and to the client.
    pub(crate) fn client_with(
        &self,
        common: &CommonFlags,
        interface: &InterfaceFlags,
        configure: impl FnOnce(&mut Config),
        build: impl FnOnce(RpcClientBuilder) -> RpcClientBuilder,
    ) -> Result<RpcClient, Failure> {
        let mut config = common.setup(log::LevelFilter::Warn)?.config;
        configure(&mut config);
        let target = self.target(interface).map_err(Failure::usage)?;
        let builder = build(RpcClient::builder(target).config(config));
        let client = builder.build().map_err(not_built)?.prepare();
        Ok(set_if_given(client, self.timeout, RpcClient::timeout))
    }

    /// A notifier of the topic. The default publisher is the tool at this node.
    pub(crate) fn notifier(
        &self,
        common: &CommonFlags,
        publisher: Option<&str>,
        build: impl FnOnce(NotifierBuilder) -> NotifierBuilder,
    ) -> Result<Notifier, Failure> {
        let config = common.setup(log::LevelFilter::Warn)?.config;
        let publisher = publisher.map_or_else(|| format!("zmqv2.{}", config.host), str::to_owned);
        let target = self.target(&InterfaceFlags::default()).map_err(Failure::usage)?;
        let builder = || -> anyhow::Result<NotifierBuilder> {
            let notifier = Notifier::builder(publisher).topics([target.topic.as_str()])?.config(config);
            Ok(set_if_given(notifier, target.exchange, NotifierBuilder::exchange))
        };
        let builder = build(builder().map_err(Failure::usage)?);
        set_if_given(builder, self.timeout, NotifierBuilder::timeout).build().map_err(not_built)
    }

    fn target(&self, interface: &InterfaceFlags) -> anyhow::Result<Target> {
        let mut target = target_of(&self.topic, self.exchange.as_deref())?;
        if let Some(namespace) = &interface.namespace {
            target = target.with_namespace(namespace)?;
        }
        target.version = interface.version;
        Ok(target)
    }
}

fn not_built(error: ClientError) -> Failure {
    match error {
        ClientError::Directory(error) => Failure::directory(error),
        error => Failure::usage(error),
    }
}

/// A topic in this exchange, or without one in the configured exchange.
pub(crate) fn target_of(topic: &str, exchange: Option<&str>) -> Result<Target, InvalidName> {
    let target = Target::topic(topic)?;
    match exchange {
        Some(exchange) => target.with_exchange(exchange),
        None => Ok(target),
    }
}

impl TargetFlags {
    pub(crate) fn client(&self, common: &CommonFlags, interface: &InterfaceFlags) -> Result<RpcClient, Failure> {
        self.at_server(self.topic.client(common, interface)?)
    }

    /// Limits the client to the server that the flag names.
    pub(crate) fn at_server(&self, client: RpcClient) -> Result<RpcClient, Failure> {
        match &self.server {
            Some(server) => client.server(server).map_err(Failure::usage),
            None => Ok(client),
        }
    }
}
