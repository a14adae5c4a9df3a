//! The legacy driver: a receiver daemon on each of two nodes, because replies go back over a second
//! path.

use std::any::Any;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use zmqv2_tests::legacy::frames::Message;
use zmqv2_tests::legacy::{Client, Daemon, Failed, Help, Options, Server, Target};
use zmqv2_tests::measured_process::{Error, measure, one_by_one, serve_until_stdin_ends};
use zmqv2_tests::{Cluster, binary};

use crate::chain::Chain;
use crate::process::{MeasuredProcess, Role};
use crate::workload::{Pattern, Workload};

/// Time to make connections, and for the daemon's pauses after a new PUB socket.
const WARM_UP: Duration = Duration::from_millis(1_500);
/// Help that shows this driver at its best. Without a pause most replies are lost, and each loss
/// costs the whole timeout.
const HELP: Help = Help { shared_context: true, pause: Duration::from_millis(1) };
/// Short, so that a lost reply costs little.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(500);
const TOPIC: &str = "t";

#[expect(clippy::enum_variant_names, reason = "subcommands that stand beside those of other drivers")]
#[derive(Debug, Subcommand)]
pub(crate) enum Part {
    LegacyDaemon(Common),
    LegacyServe(Common),
    LegacyClient {
        callers: usize,
        payload: usize,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Common {
    #[arg(long = "set", value_name = "OPTION=VALUE")]
    set: Vec<String>,
}

pub(super) fn start(load: &Workload) -> anyhow::Result<Chain> {
    ensure!(load.pattern == Pattern::Call, "the legacy driver acknowledges nothing but calls");
    let cluster = Cluster::new(2, &[]);
    let place = [(TOPIC.to_owned(), Value::from(vec![cluster.node(1).host.as_str()]))];
    cluster.write_ring(place.into_iter().collect());
    let command = |words: &[&str], n: usize| {
        let node = cluster.node(n);
        let mut command = Command::new(binary("bench"));
        command.args(words);
        command.args(node.options().iter().flat_map(|pair| ["--set", pair]));
        command
    };
    let daemons = [0, 1].map(|n| MeasuredProcess::start("a legacy daemon", &mut command(&["legacy-daemon"], n)));
    let [near, far] = daemons;
    let (near, far) = (near?, far?);
    let server = MeasuredProcess::start("a legacy server", &mut command(&["legacy-serve"], 1))?;
    let words = ["legacy-client", &load.senders.to_string(), &load.payload.to_string()];
    let client = MeasuredProcess::start("a legacy client", &mut command(&words, 0))?;
    let others = vec![(Role::Broker, near.id()), (Role::Broker, far.id()), (Role::Server, server.id())];
    let kept: Vec<Box<dyn Any>> = vec![Box::new(cluster), Box::new(near), Box::new(far), Box::new(server)];
    Ok(Chain { client, others, kept })
}

impl Common {
    fn options(&self) -> Result<Options, Error> {
        Ok(Options { response_timeout: RESPONSE_TIMEOUT, ..Options::from_pairs(&self.set)? })
    }
}

impl Part {
    pub(super) fn run(&self) -> Result<(), Error> {
        match self {
            Self::LegacyDaemon(common) => {
                let _daemon = Daemon::start(common.options()?)?;
                serve_until_stdin_ends()
            }
            Self::LegacyServe(common) => {
                let echo = |message: &Message| Some(Ok(message.args["text"].clone()));
                let _server = Server::serve(common.options()?, TOPIC, Arc::new(echo))?;
                serve_until_stdin_ends()
            }
            Self::LegacyClient { callers, payload, common } => {
                let client = Client::new(common.options()?, HELP)?;
                let to = Target { topic: TOPIC.to_owned(), server: None };
                let message = Message::new("echo", json!({ "text": "x".repeat(*payload) }));
                let one = |_| {
                    // After a lost reply the caller calls again, and the time counts.
                    || loop {
                        match client.call(&to, &Map::new(), &message) {
                            Ok(answer) if answer == message.args["text"] => return Ok(()),
                            Ok(_) => return Err(Error::from("another payload came back")),
                            Err(Failed::Timeout(_)) => {}
                            Err(error) => return Err(error.into()),
                        }
                    }
                };
                let mut senders: Vec<_> = (0..*callers).map(one).collect();
                measure(WARM_UP, |span| one_by_one(&mut senders, span))
            }
        }
    }
}
