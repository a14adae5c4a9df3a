//! A peer that writes ZMTP 3.0 byte by byte, so that it can send frames that no ZeroMQ library
//! would send.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::PATIENCE;

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

/// A connection after the handshake. Every read of it has a deadline.
pub struct Zmtp {
    stream: Box<dyn Stream>,
}

impl std::fmt::Debug for Zmtp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Zmtp").finish_non_exhaustive()
    }
}

/// The greeting of a peer without security.
pub fn greeting() -> Vec<u8> {
    let mut bytes = vec![0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 3, 0];
    bytes.extend_from_slice(b"NULL");
    bytes.resize(64, 0);
    bytes
}

/// The READY command of a socket of `kind`, such as `DEALER`.
pub fn ready(kind: &str) -> Vec<u8> {
    let mut body = b"\x05READY\x0bSocket-Type".to_vec();
    body.extend_from_slice(&(kind.len() as u32).to_be_bytes());
    body.extend_from_slice(kind.as_bytes());
    let mut bytes = vec![COMMAND, body.len() as u8];
    bytes.append(&mut body);
    bytes
}

pub fn message(frames: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (at, frame) in frames.iter().enumerate() {
        let more = if at + 1 < frames.len() { MORE } else { 0 };
        match u8::try_from(frame.len()) {
            Ok(length) => bytes.extend_from_slice(&[more, length]),
            Err(_) => {
                bytes.push(more | LONG);
                bytes.extend_from_slice(&(frame.len() as u64).to_be_bytes());
            }
        }
        bytes.extend_from_slice(frame);
    }
    bytes
}

impl Zmtp {
    pub fn tcp(address: impl ToSocketAddrs, kind: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Self::shake_hands(Box::new(stream), kind)
    }

    pub fn ipc(path: impl AsRef<Path>, kind: &str) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Self::shake_hands(Box::new(stream), kind)
    }

    fn shake_hands(stream: Box<dyn Stream>, kind: &str) -> io::Result<Self> {
        let mut peer = Self { stream };
        peer.stream.write_all(&greeting())?;
        peer.stream.write_all(&ready(kind))?;
        let theirs = peer.read(64)?;
        if theirs[0] != 0xff || theirs[9] & 1 == 0 {
            return Err(io::Error::other("not a ZMTP greeting"));
        }
        match peer.frame()? {
            (flags, body) if flags & COMMAND != 0 && body.starts_with(b"\x05READY") => Ok(peer),
            (flags, _) => Err(io::Error::other(format!("no READY but a frame with flags {flags}"))),
        }
    }

    pub fn send(&mut self, frames: &[&[u8]]) -> io::Result<()> {
        self.stream.write_all(&message(frames))
    }

    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Waits for the next message, and skips heartbeats.
    pub fn receive(&mut self) -> io::Result<Vec<Vec<u8>>> {
        let mut frames = Vec::new();
        loop {
            let (flags, body) = self.frame()?;
            if flags & COMMAND != 0 {
                continue;
            }
            frames.push(body);
            if flags & MORE == 0 {
                return Ok(frames);
            }
        }
    }

    fn frame(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let flags = self.read(1)?[0];
        let length = if flags & LONG == 0 {
            u64::from(self.read(1)?[0])
        } else {
            u64::from_be_bytes(self.read(8)?.try_into().map_err(|_| io::Error::other("eight bytes"))?)
        };
        Ok((flags, self.read(usize::try_from(length).map_err(io::Error::other)?)?))
    }

    fn read(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}
