//! The sending side.

use std::time::Duration;

use zmq::{Context, DONTWAIT, Message, SNDMORE, Socket, SocketType};

use crate::measured_process::{Error, Window, measure, one_by_one, serve_until_stdin_ends, windowed};
use crate::open;

/// Time to make connections and touch memory.
const WARM_UP: Duration = Duration::from_millis(300);
/// A lost answer ends the run by a timeout.
const PATIENCE_MS: i32 = 20_000;
/// libzmq allows 1,023 sockets by default, and the binding cannot raise that.
const SOCKETS_PER_CONTEXT: usize = 1_000;

/// Threads that call and wait.
pub(crate) fn call(front: &str, threads: usize, payload: usize) -> Result<(), Error> {
    let (context, payload) = (Context::new(), vec![b'x'; payload]);
    let mut senders = Vec::new();
    for _ in 0..threads {
        let (socket, payload, mut answer) = (connected(&context, SocketType::REQ, front)?, &payload, Message::new());
        senders.push(move || {
            socket.send(payload, 0)?;
            Ok(socket.recv(&mut answer, 0)?)
        });
    }
    measure(WARM_UP, |span| one_by_one(&mut senders, span))
}

/// One socket that keeps messages in flight, in groups that end together.
pub(crate) fn window(front: &str, size: usize, payload: usize, group: usize) -> Result<(), Error> {
    let context = Context::new();
    let socket = connected(&context, SocketType::DEALER, front)?;
    let mut pipeline = Pipeline { socket, payload: vec![b'x'; payload], group, part: 0 };
    measure(WARM_UP, |span| windowed(&mut pipeline, size, span))
}

/// Connections that do nothing.
pub(crate) fn hold(front: &str, count: usize) -> Result<(), Error> {
    let mut context = Context::new();
    let mut sockets = Vec::new();
    for n in 0..count {
        if n % SOCKETS_PER_CONTEXT == SOCKETS_PER_CONTEXT - 1 {
            context = Context::new();
        }
        let socket = connected(&context, SocketType::REQ, front)?;
        socket.send("x", 0)?;
        socket.recv_msg(0)?;
        sockets.push(socket);
    }
    serve_until_stdin_ends()
}

fn connected(context: &Context, kind: SocketType, front: &str) -> Result<Socket, zmq::Error> {
    let socket = open(context, kind)?;
    socket.set_rcvtimeo(PATIENCE_MS)?;
    socket.set_sndtimeo(PATIENCE_MS)?;
    socket.connect(front)?;
    Ok(socket)
}

struct Pipeline {
    socket: Socket,
    payload: Vec<u8>,
    group: usize,
    /// The number of answers of an unfinished group.
    part: usize,
}

impl Pipeline {
    fn receive(&self, flags: i32) -> Result<bool, zmq::Error> {
        let mut frame = Message::new();
        loop {
            match self.socket.recv(&mut frame, flags) {
                Ok(()) if frame.get_more() => {}
                Ok(()) => return Ok(true),
                Err(zmq::Error::EAGAIN) if flags == DONTWAIT => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }
}

impl Window for Pipeline {
    fn send(&mut self) -> Result<(), Error> {
        for _ in 0..self.group {
            self.socket.send("", SNDMORE)?;
            self.socket.send(&self.payload, 0)?;
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<usize, Error> {
        let mut settled = 0;
        while settled == 0 {
            self.receive(0)?;
            self.part += 1;
            while self.receive(DONTWAIT)? {
                self.part += 1;
            }
            settled = self.part / self.group;
            self.part %= self.group;
        }
        Ok(settled)
    }
}
