//! RabbitMQ: calls by direct reply-to, its fastest way.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use clap::Subcommand;
use futures_lite::StreamExt;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use zmqv2_tests::measured_process::Error;
use zmqv2_tests::{Cluster, binary};

use super::async_callers;
use crate::chain::Chain;
use crate::process::{Daemon, MeasuredProcess, Role};
use crate::workload::Workload;

pub(super) const SERVER: &str = "rabbitmq-server";
/// The program of the package. The one on the path changes the user first.
const PROGRAM: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
const QUEUE: &str = "echo";
const REPLY_TO: &str = "amq.rabbitmq.reply-to";
const PORT: u16 = 5672;

#[derive(Debug, Subcommand)]
pub(crate) enum Part {
    RabbitServe { url: String },
    RabbitClient { url: String, callers: usize, payload: usize },
}

/// The broker. It takes many seconds to start, so it is kept for a whole row.
#[derive(Default)]
pub(super) struct KeptServer(RefCell<Option<Rc<Broker>>>);

struct Broker {
    daemon: Daemon,
    url: String,
    epmd_port: String,
    _cluster: Cluster,
}

impl KeptServer {
    pub(super) fn start(&self, load: &Workload) -> anyhow::Result<Chain> {
        let running = self.0.borrow().clone();
        let broker = match running {
            Some(broker) => broker,
            None => Rc::clone(self.0.borrow_mut().insert(Rc::new(Broker::start()?))),
        };
        let url = broker.url.clone();
        let server =
            MeasuredProcess::start("a RabbitMQ server", Command::new(binary("bench")).args(["rabbit-serve", &url]))?;
        let (callers, payload) = (load.senders.to_string(), load.payload.to_string());
        let words = ["rabbit-client", &url, &callers, &payload];
        let client = MeasuredProcess::start("a RabbitMQ client", Command::new(binary("bench")).args(words))?;
        let others = vec![(Role::Broker, broker.daemon.id()), (Role::Server, server.id())];
        Ok(Chain { client, others, kept: vec![Box::new(broker), Box::new(server)] })
    }

    pub(super) fn stop(&self) {
        self.0.borrow_mut().take();
    }
}

impl Broker {
    fn start() -> anyhow::Result<Self> {
        let cluster = Cluster::new(1, &[]);
        let node = cluster.node(0);
        let (dir, host) = (node.ipc_dir.clone(), node.host.clone());
        File::create(dir.join("plugins")).context("a list of no plugins")?;
        // Each uses the cluster's own loopback address, so that every port is free.
        let epmd_port = free_port()?;
        let mut command = Command::new(PROGRAM);
        command.current_dir(&dir).stdout(Stdio::null()).stderr(Stdio::null());
        command.env("HOME", &dir).env("RABBITMQ_NODENAME", format!("bench{}@localhost", std::process::id()));
        command.env("RABBITMQ_NODE_IP_ADDRESS", &host).env("RABBITMQ_NODE_PORT", PORT.to_string());
        command.env("RABBITMQ_DIST_PORT", free_port()?);
        command.env("RABBITMQ_MNESIA_BASE", dir.join("db")).env("RABBITMQ_LOG_BASE", dir.join("log"));
        command.env("RABBITMQ_ENABLED_PLUGINS_FILE", dir.join("plugins"));
        command.env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}");
        command.env("ERL_EPMD_ADDRESS", "127.0.0.1").env("ERL_EPMD_PORT", &epmd_port);
        let daemon = Daemon::start(SERVER, &mut command, &format!("{host}:{PORT}"))?;
        Ok(Self { daemon, url: format!("amqp://{host}:{PORT}/%2f"), epmd_port, _cluster: cluster })
    }
}

/// The name service that it starts would stay behind otherwise.
impl Drop for Broker {
    fn drop(&mut self) {
        self.daemon.kill();
        let mut epmd = Command::new("epmd");
        let _ = epmd.args(["-port", &self.epmd_port, "-kill"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

fn free_port() -> anyhow::Result<String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").context("a free port")?;
    Ok(listener.local_addr()?.port().to_string())
}

impl Part {
    pub(super) fn run(&self) -> Result<(), Error> {
        let runtime = Runtime::new()?;
        match self {
            Self::RabbitServe { url } => {
                let (connection, channel) = runtime.block_on(connect(url))?;
                let mut requests = runtime.block_on(async {
                    let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
                    channel.queue_declare(QUEUE.into(), options, FieldTable::default()).await?;
                    consume(&channel, QUEUE).await
                })?;
                async_callers::serve(&runtime, async move {
                    let _kept = connection;
                    while let Some(request) = requests.next().await {
                        let request = request?;
                        let (to, id) = (request.properties.reply_to(), request.properties.correlation_id());
                        if let Some((to, id)) = to.as_ref().zip(id.as_ref()) {
                            let properties = BasicProperties::default().with_correlation_id(id.clone());
                            publish(&channel, to.clone(), &request.data, properties).await?;
                        }
                    }
                    Ok(())
                })
            }
            Self::RabbitClient { url, callers, payload } => {
                let (connection, channel) = runtime.block_on(connect(url))?;
                let open: Arc<Mutex<HashMap<String, oneshot::Sender<()>>>> = Arc::default();
                let mut replies = runtime.block_on(consume(&channel, REPLY_TO))?;
                let waiting = Arc::clone(&open);
                runtime.spawn(async move {
                    while let Some(Ok(reply)) = replies.next().await {
                        let id = reply.properties.correlation_id().as_ref().map(ToString::to_string);
                        let caller = id.and_then(|id| lock(&waiting).remove(&id));
                        caller.map(|caller| caller.send(()));
                    }
                });
                let (payload, next) = (Arc::new(vec![b'x'; *payload]), Arc::new(AtomicU64::new(0)));
                let done = async_callers::callers(&runtime, *callers, move || {
                    let (channel, open, payload, next) = (channel.clone(), open.clone(), payload.clone(), next.clone());
                    async move {
                        let id = next.fetch_add(1, Ordering::Relaxed).to_string();
                        let (tell, told) = oneshot::channel();
                        lock(&open).insert(id.clone(), tell);
                        let properties =
                            BasicProperties::default().with_correlation_id(id.into()).with_reply_to(REPLY_TO.into());
                        publish(&channel, QUEUE.into(), &payload, properties).await?;
                        Ok(told.await?)
                    }
                });
                drop(connection);
                done
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn connect(url: &str) -> Result<(Connection, Channel), Error> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    Ok((connection, channel))
}

async fn consume(channel: &Channel, queue: &str) -> Result<lapin::Consumer, Error> {
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    Ok(channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await?)
}

async fn publish(channel: &Channel, to: ShortString, body: &[u8], properties: BasicProperties) -> Result<(), Error> {
    channel.basic_publish("".into(), to, BasicPublishOptions::default(), body, properties).await?;
    Ok(())
}
