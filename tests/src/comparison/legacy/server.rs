//! The receiving side: servers and listeners of notifications.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use serde_json::Value;
use zmq::{Socket, SocketType};
use zmqv2_proto::{DISPATCHER_MODULE, Failure};

use super::client::notification_topic;
use super::frames::{self, Message, Notice, Received, Unreadable};
use super::sockets::{Side, context, open, receive, set_patience, subscriber};
use super::{Client, Help, Matchmaker, Options};

/// How often an idle server checks whether it should stop.
const LOOK: Duration = Duration::from_millis(50);

/// Runs a method; `None`: there is no such method.
pub type Handler = Arc<dyn Fn(&Message) -> Option<Result<Value, Box<Failure>>> + Send + Sync>;

/// Takes a notification.
pub type NoticeHandler = Arc<dyn Fn(&Notice) + Send + Sync>;

/// A running server or listener. Dropping it stops it, and loses messages that it has received and
/// not begun.
pub struct Server {
    stop: Arc<AtomicBool>,
    // Nothing is sent on this channel. Dropping it ends the heartbeat.
    heart: Option<Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    /// Serves a topic at this node: `<topic>.<host>`, for the topic and for the server, and its
    /// fanouts. The original also takes a server name, and replaces it by the name of the host.
    pub fn serve(options: Options, topic: &str, handler: Handler) -> std::io::Result<Self> {
        let bare = bare(topic);
        let own = context(options.contexts);
        let fanout = subscriber(&own, &options.ipc_address(&format!("fanout~{bare}")), b"");
        let sockets = vec![consumer(&options, bare)?, fanout.map_err(std::io::Error::other)?];
        let registered = vec![topic.to_owned(), format!("{topic}.{}", options.host)];
        let opened = vec![format!("{bare}.{}", options.host), format!("fanout~{bare}")];
        Self::start(options, sockets, &Work::Methods(handler), Known { registered, opened })
    }

    /// Listens to notifications of these priorities. There are no pools: listeners of one node
    /// share them, as servers do.
    pub fn listen(options: Options, wanted: &[(&str, &str)], handler: NoticeHandler) -> std::io::Result<Self> {
        let (mut sockets, mut known) = (Vec::new(), Known::default());
        for (topic, priority) in wanted {
            let topic = notification_topic(topic, priority);
            sockets.push(consumer(&options, bare(&topic))?);
            known.opened.push(format!("{}.{}", bare(&topic), options.host));
            known.registered.push(topic);
        }
        Self::start(options, sockets, &Work::Notices(handler), known)
    }

    fn start(options: Options, sockets: Vec<Socket>, work: &Work, known: Known) -> std::io::Result<Self> {
        let (workers, host, pulse) = (options.thread_pool_size, options.host.clone(), options.heartbeat_freq);
        let matchmaker = Matchmaker::open(&options)?;
        let client = Arc::new(Client::new(options, Help::default())?);
        let stop = Arc::new(AtomicBool::new(false));
        // The channel has no room, so a message without a free worker stays in libzmq's queues.
        let (hand, take) = bounded(0);
        let mut threads: Vec<_> = (0..workers)
            .map(|_| {
                let (client, work, take) = (Arc::clone(&client), work.clone(), take.clone());
                std::thread::spawn(move || run(&client, &work, &take))
            })
            .collect();
        for socket in sockets {
            set_patience(&socket, LOOK).map_err(std::io::Error::other)?;
            let (hand, stop) = (hand.clone(), Arc::clone(&stop));
            threads.push(std::thread::spawn(move || consume(&socket, &hand, &stop)));
        }
        let (heart, beats) = bounded(0);
        // Registered before this returns, because the next message may ask.
        known.registered.iter().for_each(|topic| matchmaker.register(topic, &host));
        threads.push(std::thread::spawn(move || known.keep(&matchmaker, &host, pulse, &beats)));
        Ok(Self { stop, heart: Some(heart), threads })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.heart.take());
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Writes to the directory.
#[derive(Default)]
struct Known {
    /// Registers, at the start and by each heartbeat.
    registered: Vec<String>,
    /// Removes the topics of the sockets at the end. These are other keys, so a stopped server
    /// stays visible until it expires.
    opened: Vec<String>,
}

impl Known {
    fn keep(&self, matchmaker: &Matchmaker, host: &str, pulse: Duration, beats: &Receiver<()>) {
        while beats.recv_timeout(pulse) == Err(RecvTimeoutError::Timeout) {
            self.registered.iter().for_each(|topic| matchmaker.register(topic, host));
        }
        self.opened.iter().for_each(|topic| matchmaker.unregister(topic, host));
    }
}

/// A topic and a topic at a server are the same: the topic is cut at its first dot.
fn bare(topic: &str) -> &str {
    topic.split('.').next().unwrap_or(topic)
}

/// A socket with its own context, as all sockets of a server.
fn consumer(options: &Options, bare: &str) -> std::io::Result<Socket> {
    let (own, address) = (context(options.contexts), options.ipc_address(&format!("{bare}.{}", options.host)));
    open(&own, SocketType::PULL, &address, Side::Connect).map_err(std::io::Error::other)
}

/// Reads a socket until the server stops, or until frames come that are not a message: then nothing
/// reads this socket any more.
fn consume(socket: &Socket, hand: &Sender<Received>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let message = match receive(socket) {
            Ok(Some(message)) => message,
            Ok(None) => continue,
            Err(error) => return log::error!("legacy: cannot read: {error}"),
        };
        let message: Vec<Vec<u8>> = message.iter().map(|frame| frame.to_vec()).collect();
        match frames::read(&message) {
            Ok(received) => {
                if hand.send(received).is_err() {
                    return;
                }
            }
            Err(Unreadable::Envelope) => log::error!("legacy: envelope version unsupported or unknown"),
            Err(Unreadable::Message) => log::error!("legacy: a message that is of no use"),
            Err(Unreadable::Frames) => return log::error!("legacy: a message that cannot be read ends its reader"),
        }
    }
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
