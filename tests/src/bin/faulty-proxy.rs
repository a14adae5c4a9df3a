//! A proxy between clients and a broker. It forwards frames in both directions and makes one kind
//! of error, which the checker must find.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use zmqv2_broker::cli::{Failure, finish};
use zmqv2_proto::bundle::Bundled;
use zmqv2_proto::control::broker_socket;
use zmqv2_proto::transport::{Frame, Received, Role, Socket, Transport, TransportOptions};
use zmqv2_proto::{Address, Flags, Header, Kind, MessageId, NodeName, Reason, Request, ServerName, TcpAddress};

/// The proxy waits for one socket, and checks the other at this interval.
const LOOK_AT_ANSWERS: Duration = Duration::from_millis(1);
/// The error affects every tenth request, acknowledgement or reply.
const EVERY: u64 = 10;

/// The error that it makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Nothing
    None,
    /// Acknowledges casts by itself, and drops every tenth of them
    EarlyAck,
    /// Says of notifications that they are stored, and drops every tenth of them
    EarlyStored,
    /// Delivers every tenth fanout to one server only, and acknowledges it for the other one
    LoseCopy,
    /// Delivers every tenth request twice, without the flag that marks a repeat
    NoDedup,
    /// Delivers every tenth request twice, each time as another message
    Renumber,
    /// Exchanges the bodies of replies, pair by pair
    SwapReplies,
    /// Drops every tenth acknowledgement
    DropAcks,
    /// Delivers every tenth cast after the one that follows it
    Reorder,
    /// Refuses every tenth request as if there were no server, and delivers it all the same
    FalseRefusal,
    /// Delivers, after every tenth request, one that nobody has sent
    Forge,
}

/// Forwards messages between clients and a broker, with errors
#[derive(Debug, Parser)]
struct Arguments {
    #[arg(long)]
    mode: Mode,
    /// Where clients connect, such as 127.0.0.1:9501
    #[arg(long)]
    listen: TcpAddress,
    /// The socket directory of the real broker
    #[arg(long, value_name = "DIR")]
    broker: PathBuf,
    /// The server or pool that its own acknowledgements name
    #[arg(long)]
    server: ServerName,
    /// The server that gets every fanout
    #[arg(long, default_value = "other")]
    other: ServerName,
    /// The node that its own acknowledgements name
    #[arg(long)]
    node: NodeName,
}

/// A message: the path back, an empty frame, header and body.
type Frames = Vec<Frame>;

fn main() -> ExitCode {
    finish(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let transport = Transport::new(TransportOptions::default());
    let mut front = transport.socket(Role::Router)?;
    let mut link = transport.socket(Role::Dealer)?;
    front.bind(&Address::Tcp(arguments.listen.clone()))?;
    link.connect(&broker_socket(&arguments.broker)?)?;
    // A link sends only while it is connected.
    while !link.readiness()?.writable {
        link.wait(None, None)?;
    }
    eprintln!("ready");
    let mut proxy = FaultyProxy { arguments, requests: 0, answers: 0, late: None, kept: None };
    let mut frames = Vec::new();
    loop {
        let mut idle = true;
        while front.receive(&mut frames)? == Received::Message {
            idle = false;
            for message in unbundle(std::mem::take(&mut frames)) {
                let (onward, back) = proxy.request(message);
                send(&link, onward)?;
                send(&front, back)?;
            }
        }
        while link.receive(&mut frames)? == Received::Message {
            idle = false;
            for message in unbundle(std::mem::take(&mut frames)) {
                send(&front, proxy.answer(message))?;
            }
        }
        // Reading one socket may have consumed the event of the other.
        if idle && !front.readiness()?.readable && !link.readiness()?.readable {
            front.wait(Some(LOOK_AT_ANSWERS), None)?;
        }
    }
}

/// Splits a bundle into messages, each with the return path in front. Any other message stays as it
/// is.
fn unbundle(mut frames: Frames) -> Vec<Frames> {
    let Some(only) = frames.pop() else { return Vec::new() };
    let Some(bundled) = Bundled::of(&only) else {
        frames.push(only);
        return vec![frames];
    };
    let path = |(header, body)| frames.iter().map(|frame| &frame[..]).chain([header, body]).map(Frame::from).collect();
    bundled.filter_map(Result::ok).map(path).collect()
}

fn send(socket: &Socket, messages: Vec<Frames>) -> Result<(), Failure> {
    for message in messages {
        socket.send(message)?;
    }
    Ok(())
}

struct FaultyProxy<'a> {
    arguments: &'a Arguments,
    requests: u64,
    answers: u64,
    /// A cast that is held back behind the next one.
    late: Option<Frames>,
    /// A reply whose body is exchanged with that of the next one.
    kept: Option<Frames>,
}

impl FaultyProxy<'_> {
    /// The messages for the broker in place of a client's message, and the answers that clients get
    /// at once.
    fn request(&mut self, frames: Frames) -> (Vec<Frames>, Vec<Frames>) {
        let Some(header) = header(&frames) else { return (vec![frames], Vec::new()) };
        if !header.kind.is_request() {
            return (vec![frames], Vec::new());
        }
        self.requests += 1;
        let chosen = self.requests.is_multiple_of(EVERY);
        match self.arguments.mode {
            Mode::EarlyAck if header.kind == Kind::Cast => {
                let back = vec![self.answer_to(&frames, &header, Kind::Ack)];
                (if chosen { Vec::new() } else { vec![frames] }, back)
            }
            Mode::EarlyStored if header.kind == Kind::Notify => {
                let back = vec![self.answer_to(&frames, &header, Kind::Stored)];
                (if chosen { Vec::new() } else { vec![frames] }, back)
            }
            Mode::LoseCopy if chosen && header.kind == Kind::Fanout => {
                // The broker's own acknowledgement follows as the last one.
                let mut ack = self.answer_to(&frames, &header, Kind::Ack);
                change(&mut ack, |header| header.count = 1);
                let mut to_one = frames;
                change(&mut to_one, |header| {
                    (header.kind, header.server) = (Kind::Cast, Some(self.arguments.other.clone()));
                });
                (vec![to_one], vec![ack])
            }
            Mode::Renumber if chosen => {
                let mut again = header.clone();
                again.id = MessageId::random();
                let again = with_header(&frames, &again);
                (vec![frames, again], Vec::new())
            }
            Mode::NoDedup if chosen => {
                let mut unflagged = header;
                unflagged.flags = Flags::NONE;
                (vec![with_header(&frames, &unflagged), with_header(&frames, &unflagged)], Vec::new())
            }
            Mode::Reorder if chosen && header.kind == Kind::Cast => {
                (self.late.replace(frames).into_iter().collect(), Vec::new())
            }
            Mode::Reorder => (std::iter::once(frames).chain(self.late.take()).collect(), Vec::new()),
            Mode::FalseRefusal if chosen => {
                let refusal = self.answer_to(&frames, &header, Kind::Refusal);
                (vec![frames], vec![refusal])
            }
            Mode::Forge if chosen => {
                let forged = forge(&frames, &header);
                (std::iter::once(frames).chain(forged).collect(), Vec::new())
            }
            _ => (vec![frames], Vec::new()),
        }
    }

    /// The messages for clients in place of the broker's message.
    fn answer(&mut self, frames: Frames) -> Vec<Frames> {
        let Some(header) = header(&frames) else { return vec![frames] };
        let of_interest = match self.arguments.mode {
            Mode::EarlyAck if header.kind == Kind::Ack => return Vec::new(),
            Mode::EarlyStored if matches!(header.kind, Kind::Ack | Kind::Stored) => return Vec::new(),
            Mode::DropAcks => header.kind == Kind::Ack,
            Mode::SwapReplies => header.kind == Kind::Reply,
            _ => false,
        };
        if !of_interest {
            return vec![frames];
        }
        self.answers += 1;
        if let Some(mut kept) = self.kept.take() {
            let mut frames = frames;
            std::mem::swap(kept.last_mut().expect("a body"), frames.last_mut().expect("a body"));
            return vec![kept, frames];
        }
        let chosen = self.answers.is_multiple_of(EVERY);
        match self.arguments.mode {
            Mode::SwapReplies if chosen => self.kept = Some(frames),
            Mode::DropAcks if chosen => {}
            _ => return vec![frames],
        }
        Vec::new()
    }

    /// Makes a false answer.
    fn answer_to(&self, frames: &Frames, request: &Header, kind: Kind) -> Frames {
        let mut header = Header::new(kind, request.id);
        header.tag = request.tag;
        header.server = matches!(kind, Kind::Ack | Kind::Stored).then(|| self.arguments.server.clone());
        header.node = Some(self.arguments.node.clone());
        header.reason = (kind == Kind::Refusal).then_some(Reason::NoRoute);
        let mut answer = with_header(frames, &header);
        *answer.last_mut().expect("a body") = Frame::new();
        answer
    }
}

/// The last frame but one, if it is a header.
fn header(frames: &[Frame]) -> Option<Header> {
    let at = frames.len().checked_sub(2)?;
    Header::decode(&frames[at]).ok()
}

/// Changes the header of a message that has one.
fn change(frames: &mut Frames, how: impl FnOnce(&mut Header)) {
    if let Some(mut changed) = header(frames) {
        how(&mut changed);
        *frames = with_header(frames, &changed);
    }
}

/// Copies a message with another header.
fn with_header(frames: &Frames, header: &Header) -> Frames {
    let at = frames.len() - 2;
    let copy =
        |(n, frame): (usize, &Frame)| if n == at { Frame::from(header.encode()) } else { Frame::from(&frame[..]) };
    frames.iter().enumerate().map(copy).collect()
}

/// Makes a request in the name of the same client, with a number that the client has not used.
fn forge(frames: &Frames, header: &Header) -> Option<Frames> {
    let request = Request::decode(frames.last()?).ok()?;
    let (client, number, padding): (String, u64, String) = request.args().ok()?;
    let forged = Request::new(request.method.clone(), &(client, number + 1_000_000_000, padding)).ok()?;
    let mut own = header.clone();
    own.id = MessageId::random();
    let mut copy = with_header(frames, &own);
    *copy.last_mut()? = Frame::from(forged.encode().ok()?);
    Some(copy)
}
