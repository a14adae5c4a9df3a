//! The receiving side: servers and listeners of notifications.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use serde_json::Value;
use zmq::{Context, PollEvents, Socket, SocketType};
use zmqv2_proto::{DISPATCHER_MODULE, Failure};

use super::client::notification_topic;
use super::frames::{self, Message, Notice, Received};
use super::sockets::{Side, context, open, subscriber};
use super::{Client, Help, Options};

/// How often a server that nothing comes to looks whether it shall stop.
const LOOK_MS: i64 = 50;

/// Runs a method; `None`: there is no such method.
pub type Handler = Arc<dyn Fn(&Message) -> Option<Result<Value, Box<Failure>>> + Send + Sync>;

/// Takes a notification.
pub type NoticeHandler = Arc<dyn Fn(&Notice) + Send + Sync>;

/// A running server or listener. Dropping it stops it: what it has received and not begun is lost.
pub struct Server {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    /// Serves a topic at this node: `<topic>.<host>`, for the topic as for the server, and fanouts of it. The original is
    /// given a server name as well, and replaces it by the host's.
    ///
    /// # Errors
    /// Sockets or files that are of no use.
    pub fn serve(options: Options, topic: &str, handler: Handler) -> std::io::Result<Self> {
        let bare = bare(topic);
        let own = context(options.contexts);
        let pull = consumer(&own, &options, bare)?;
        let address = options.ipc_address(&format!("fanout~{bare}"));
        let fanout = subscriber(&own, &address, b"").map_err(std::io::Error::other)?;
        Self::start(options, own, vec![pull, fanout], &Work::Methods(handler))
    }

    /// Hears notifications of these priorities. There are no pools: listeners of one node share, as servers do.
    ///
    /// # Errors
    /// Sockets or files that are of no use.
    pub fn listen(options: Options, wanted: &[(&str, &str)], handler: NoticeHandler) -> std::io::Result<Self> {
        let own = context(options.contexts);
        let mut sockets = Vec::new();
        for (topic, priority) in wanted {
            sockets.push(consumer(&own, &options, bare(&notification_topic(topic, priority)))?);
        }
        Self::start(options, own, sockets, &Work::Notices(handler))
    }

    fn start(options: Options, context: Context, sockets: Vec<Socket>, work: &Work) -> std::io::Result<Self> {
        let workers = options.thread_pool_size;
        let client = Arc::new(Client::new(options, Help::default())?);
        let stop = Arc::new(AtomicBool::new(false));
        // No room: what no worker is free for stays in libzmq's queues.
        let (hand, take) = bounded(0);
        let mut threads: Vec<_> = (0..workers)
            .map(|_| {
                let (client, work, take) = (Arc::clone(&client), work.clone(), take.clone());
                std::thread::spawn(move || run(&client, &work, &take))
            })
            .collect();
        let stopping = Arc::clone(&stop);
        threads.push(std::thread::spawn(move || consume(context, sockets, &hand, &stopping)));
        Ok(Self { stop, threads })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Topic and topic at server are one: all that follows the first dot is cut off.
fn bare(topic: &str) -> &str {
    topic.split('.').next().unwrap_or(topic)
}

fn consumer(context: &Context, options: &Options, bare: &str) -> std::io::Result<Socket> {
    let address = options.ipc_address(&format!("{bare}.{}", options.host));
    open(context, SocketType::PULL, &address, Side::Connect, None).map_err(std::io::Error::other)
}

/// Reads until it shall stop, or until a message comes that cannot be read: the original's thread ends with an exception.
fn consume(context: Context, sockets: Vec<Socket>, hand: &Sender<Received>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let mut items: Vec<_> = sockets.iter().map(|socket| socket.as_poll_item(PollEvents::POLLIN)).collect();
        if !matches!(zmq::poll(&mut items, LOOK_MS), Ok(1..)) {
            continue;
        }
        let ready: Vec<_> = items.iter().map(zmq::PollItem::is_readable).collect();
        for (socket, _) in sockets.iter().zip(ready).filter(|(_, ready)| *ready) {
            let Ok(message) = socket.recv_multipart(0) else { continue };
            let Ok(received) = frames::read(&message) else {
                log::error!("legacy: a message that cannot be read ends the server");
                return;
            };
            if hand.send(received).is_err() {
                return;
            }
        }
    }
    drop((sockets, context));
}

#[derive(Clone)]
enum Work {
    Methods(Handler),
    Notices(NoticeHandler),
}

fn run(client: &Client, work: &Work, take: &Receiver<Received>) {
    for received in take {
        match (work, received) {
            (Work::Methods(handler), Received::Call(context, message, msg_id, topic)) => {
                client.reply(&topic, &context, &msg_id, &dispatch(handler, &message));
            }
            (Work::Methods(handler), Received::Cast(_, message)) => {
                if let Err(failure) = dispatch(handler, &message) {
                    log::error!("legacy: {}: {failure}", message.method);
                }
            }
            (Work::Notices(handler), Received::Notice(_, notice)) => handler(&notice),
            (_, other) => log::error!("legacy: of no use here: {other:?}"),
        }
    }
}

fn dispatch(handler: &Handler, message: &Message) -> Result<Value, Box<Failure>> {
    handler(message).unwrap_or_else(|| {
        let text = format!("Endpoint does not support RPC method {}", message.method);
        Err(Box::new(Failure::new(DISPATCHER_MODULE, "NoSuchMethod", text)))
    })
}
