//! The receiver daemon of a node.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, unbounded};
use zmq::{Message, Socket, SocketType};

use super::Options;
use super::sockets::{Side, context, open, receive, set_patience};

/// How long the daemon stops after it has made a PUB socket, "before we can have any faith in it".
/// Everything else waits as well.
const FAITH: Duration = Duration::from_millis(500);
/// How often an idle daemon checks whether it should stop.
const LOOK: Duration = Duration::from_millis(LOOK_MS as u64);
const LOOK_MS: i32 = 50;

/// A running daemon: PULL on TCP, and a PUSH or PUB on IPC for each topic. Dropping it stops it,
/// and loses its messages.
pub struct Daemon {
    stop: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Daemon {
    /// Starts the daemon of this node. It receives messages when this returns.
    pub fn start(options: Options) -> std::io::Result<Self> {
        std::fs::create_dir_all(&options.ipc_dir)?;
        let address = format!("tcp://{}:{}", options.bind_address, options.port);
        // Each socket has its own context, with its own threads.
        let own = context(options.contexts);
        let pull = open(&own, SocketType::PULL, &address, Side::Bind).map_err(std::io::Error::other)?;
        set_patience(&pull, LOOK).map_err(std::io::Error::other)?;
        let stop = Arc::new(AtomicBool::new(false));
        let forwarder = Forwarder { options, topics: HashMap::new(), stop: Arc::clone(&stop) };
        let reader = Some(std::thread::spawn(move || forwarder.run(&pull)));
        Ok(Self { stop, reader })
    }

    /// Whether it has ended by an error.
    pub fn has_ended(&self) -> bool {
        self.reader.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits until a message that it cannot read ends it.
    pub fn wait(mut self) {
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

struct Forwarder {
    options: Options,
    topics: HashMap<String, Sender<Vec<Message>>>,
    stop: Arc<AtomicBool>,
}

impl Forwarder {
    fn run(mut self, pull: &Socket) {
        while !self.stop.load(Ordering::Relaxed) {
            match receive(pull) {
                Ok(Some(frames)) => {
                    if self.forward(frames).is_none() {
                        log::error!("legacy: a message that cannot be read ends the daemon");
                        return;
                    }
                }
                Ok(None) => {}
                Err(error) => log::error!("legacy: cannot read: {error}"),
            }
        }
    }

    /// `None`: the message has no topic.
    fn forward(&mut self, frames: Vec<Message>) -> Option<()> {
        let topic = std::str::from_utf8(frames.get(1)?).ok()?;
        let (kind, topic) = if topic.starts_with("fanout~") {
            (SocketType::PUB, topic.split('.').next()?)
        } else if is_for_replies(topic) {
            (SocketType::PUB, topic)
        } else {
            (SocketType::PUSH, topic)
        };
        let topic = topic.to_owned();
        if !self.topics.contains_key(&topic) {
            match self.publisher(&topic, kind) {
                Ok(queue) => drop(self.topics.insert(topic.clone(), queue)),
                Err(error) => log::error!("legacy: topic socket file creation failed: {error}"),
            }
        }
        // The message is dropped, and nobody is told.
        if let Some(Err(TrySendError::Full(_))) = self.topics.get(&topic).map(|queue| queue.try_send(frames)) {
            log::error!("legacy: local per-topic backlog buffer full for topic {topic}, dropping message");
        }
        Some(())
    }

    /// Makes the queue of a topic, and its socket.
    fn publisher(&self, topic: &str, kind: SocketType) -> std::io::Result<Sender<Vec<Message>>> {
        if topic.contains(['/', '\\']) {
            return Err(std::io::Error::other("topic contained dangerous characters"));
        }
        let address = self.options.ipc_address(topic);
        let own = context(self.options.contexts);
        let socket = open(&own, kind, &address, Side::Bind).map_err(std::io::Error::other)?;
        socket.set_sndtimeo(LOOK_MS).map_err(std::io::Error::other)?;
        let (put, get) = self.options.topic_backlog.map_or_else(unbounded, bounded);
        let stop = Arc::clone(&self.stop);
        std::thread::spawn(move || publish(&socket, &get, &stop));
        if kind == SocketType::PUB {
            have_faith();
        }
        Ok(put)
    }
}

/// Replies to all callers of a node have one topic; each caller filters for its own.
fn is_for_replies(topic: &str) -> bool {
    topic.starts_with("zmq_replies")
}

/// A PUSH socket waits for room at a server, and a PUB socket drops messages without room. Frames
/// are moved, not copied.
fn publish(socket: &Socket, queue: &Receiver<Vec<Message>>, stop: &AtomicBool) {
    for frames in queue {
        let mut frames = frames.into_iter();
        let Some(first) = frames.next() else { continue };
        let flag = |rest: usize| if rest > 0 { zmq::SNDMORE } else { 0 };
        // After the first frame, the id, the others follow without waiting.
        let sent = loop {
            match socket.send(&*first, flag(frames.len())) {
                Err(zmq::Error::EAGAIN | zmq::Error::EINTR) if stop.load(Ordering::Relaxed) => return,
                Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => {}
                other => break other,
            }
        };
        let sent = sent.and_then(|()| {
            while let Some(frame) = frames.next() {
                socket.send(frame, flag(frames.len()))?;
            }
            Ok(())
        });
        if let Err(error) = sent {
            log::error!("legacy: cannot forward: {error}");
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the original does")]
fn have_faith() {
    std::thread::sleep(FAITH);
}
