//! NATS: a client and a server of its request-reply pattern, and the NATS server between them.

use std::process::{Command, Stdio};

use bytes::Bytes;
use clap::Subcommand;
use futures_lite::StreamExt;
use tokio::runtime::Runtime;
use zmqv2_tests::measured_process::Error;
use zmqv2_tests::{Cluster, binary};

use super::async_callers;
use crate::chain::Chain;
use crate::process::{Daemon, MeasuredProcess, Role};
use crate::workload::Workload;

pub(super) const SERVER: &str = "nats-server";
const SUBJECT: &str = "echo";

#[derive(Debug, Subcommand)]
pub(crate) enum Part {
    NatsServe { url: String },
    NatsClient { url: String, callers: usize, payload: usize },
}

pub(super) fn start(load: &Workload) -> anyhow::Result<Chain> {
    let cluster = Cluster::new(1, &[]);
    let address = format!("{}:4222", cluster.node(0).host);
    let mut command = Command::new(SERVER);
    command.args(["-a", &cluster.node(0).host, "-p", "4222"]).stderr(Stdio::null());
    let broker = Daemon::start(SERVER, &mut command, &address)?;
    let url = format!("nats://{address}");
    let server = MeasuredProcess::start("a NATS server", Command::new(binary("bench")).args(["nats-serve", &url]))?;
    let (callers, payload) = (load.senders.to_string(), load.payload.to_string());
    let words = ["nats-client", &url, &callers, &payload];
    let client = MeasuredProcess::start("a NATS client", Command::new(binary("bench")).args(words))?;
    let others = vec![(Role::Broker, broker.id()), (Role::Server, server.id())];
    Ok(Chain { client, others, kept: vec![Box::new(cluster), Box::new(broker), Box::new(server)] })
}

impl Part {
    pub(super) fn run(&self) -> Result<(), Error> {
        let runtime = Runtime::new()?;
        match self {
            Self::NatsServe { url } => {
                let client = runtime.block_on(async_nats::connect(url))?;
                let mut requests = runtime.block_on(client.subscribe(SUBJECT))?;
                runtime.block_on(client.flush())?;
                async_callers::serve(&runtime, async move {
                    while let Some(request) = requests.next().await {
                        if let Some(reply) = request.reply {
                            client.publish(reply, request.payload).await?;
                        }
                    }
                    Ok(())
                })
            }
            Self::NatsClient { url, callers, payload } => {
                let client = runtime.block_on(async_nats::connect(url))?;
                let payload = Bytes::from(vec![b'x'; *payload]);
                async_callers::callers(&runtime, *callers, move || {
                    let (client, payload) = (client.clone(), payload.clone());
                    async move {
                        client.request(SUBJECT, payload).await?;
                        Ok(())
                    }
                })
            }
        }
    }
}
