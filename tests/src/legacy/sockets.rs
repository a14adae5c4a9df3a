//! Contexts and sockets with the options of the original: libzmq's defaults, and IPv6.

use std::time::Duration;

use zmq::{Context, Socket, SocketType};

use super::frames::Frames;

/// How long a socket that is closed may still send. The original waits for ever, which a test must not.
const LINGER_MS: i32 = 1_000;
/// libzmq takes no longer path, and notices only after it has removed the file.
const MAX_ADDRESS_BYTES: usize = 107 + "ipc://".len();

/// A context with so many I/O threads.
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

/// Opens a socket. `timeout` bounds every send of it.
pub(super) fn open(
    context: &Context,
    kind: SocketType,
    address: &str,
    side: Side,
    timeout: Option<Duration>,
) -> zmq::Result<Socket> {
    if address.len() > MAX_ADDRESS_BYTES || address.contains('\0') {
        return Err(zmq::Error::EINVAL);
    }
    let socket = context.socket(kind)?;
    socket.set_ipv6(true)?;
    socket.set_linger(LINGER_MS)?;
    if let Some(timeout) = timeout {
        socket.set_sndtimeo(i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX))?;
    }
    if kind == SocketType::SUB && matches!(side, Side::Connect) {
        // The caller subscribes before anything can come.
        return Ok(socket);
    }
    attach(&socket, address, side)?;
    Ok(socket)
}

/// A SUB socket that has subscribed before it connects.
pub(super) fn subscriber(context: &Context, address: &str, filter: &[u8]) -> zmq::Result<Socket> {
    let socket = open(context, SocketType::SUB, address, Side::Connect, None)?;
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

/// Waits until a message is there and reads it; `None` after `timeout`.
pub(super) fn receive(socket: &Socket, timeout: Duration) -> zmq::Result<Option<Frames>> {
    let deadline = crate::now() + timeout;
    loop {
        // Rounded up: 0 would return at once, again and again.
        let left = deadline.saturating_duration_since(crate::now()).as_micros().div_ceil(1_000);
        match socket.poll(zmq::POLLIN, i64::try_from(left).unwrap_or(i64::MAX)) {
            Ok(0) => return Ok(None),
            Ok(_) => return socket.recv_multipart(0).map(Some),
            Err(zmq::Error::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}
