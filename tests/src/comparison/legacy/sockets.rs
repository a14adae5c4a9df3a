//! Contexts and sockets with the options of the original: libzmq's defaults, and IPv6.

use std::time::Duration;

use zmq::{Context, Message, Socket, SocketType};

/// How long a closed socket may still send. The original waits for ever, which a test must not do.
const LINGER_MS: i32 = 1_000;
/// The longest path that libzmq accepts. It checks the length only after it has removed the file.
const MAX_ADDRESS_BYTES: usize = 107 + "ipc://".len();

/// Makes a context with this many I/O threads. A socket keeps its context alive. Most sockets of
/// the original have their own.
pub(super) fn context(io_threads: i32) -> Context {
    let context = Context::new();
    let _ = context.set_io_threads(io_threads);
    context
}

#[derive(Clone, Copy)]
pub(super) enum Side {
    Bind,
    Connect,
}

pub(super) fn open(context: &Context, kind: SocketType, address: &str, side: Side) -> zmq::Result<Socket> {
    if address.len() > MAX_ADDRESS_BYTES || address.contains('\0') {
        return Err(zmq::Error::EINVAL);
    }
    let socket = context.socket(kind)?;
    socket.set_ipv6(true)?;
    socket.set_linger(LINGER_MS)?;
    if kind == SocketType::SUB && matches!(side, Side::Connect) {
        // The caller subscribes before the socket connects.
        return Ok(socket);
    }
    attach(&socket, address, side)?;
    Ok(socket)
}

/// Opens a SUB socket that subscribes before it connects.
pub(super) fn subscriber(context: &Context, address: &str, filter: &[u8]) -> zmq::Result<Socket> {
    let socket = open(context, SocketType::SUB, address, Side::Connect)?;
    socket.set_subscribe(filter)?;
    attach(&socket, address, Side::Connect)?;
    Ok(socket)
}

fn attach(socket: &Socket, address: &str, side: Side) -> zmq::Result<()> {
    match side {
        Side::Bind => socket.bind(address),
        Side::Connect => socket.connect(address),
    }
}

/// Reads a message. `None`: none came within the socket's timeout. It does not poll first, so
/// reading a waiting message costs one receive.
pub(super) fn receive(socket: &Socket) -> zmq::Result<Option<Vec<Message>>> {
    let mut frames = Vec::new();
    loop {
        match socket.recv_msg(0) {
            Ok(frame) => {
                let more = frame.get_more();
                frames.push(frame);
                if !more {
                    return Ok(Some(frames));
                }
            }
            Err(zmq::Error::EAGAIN | zmq::Error::EINTR) if frames.is_empty() => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

/// Bounds every receive of a socket.
pub(super) fn set_patience(socket: &Socket, timeout: Duration) -> zmq::Result<()> {
    // Rounded up, because with 0 a receive would return at once.
    let millis = timeout.as_micros().div_ceil(1_000);
    socket.set_rcvtimeo(i32::try_from(millis).unwrap_or(i32::MAX))
}
