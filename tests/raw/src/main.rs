//! Raw libzmq chains, without any logic: what libzmq itself can do.
//!
//! ```text
//! zmqv2-raw proxy FRONT BACK                                   ROUTER and DEALER around zmq_proxy
//! zmqv2-raw serve BACK THREADS echo|ack                        REP sockets that answer with the request, or with an empty frame
//! zmqv2-raw call FRONT THREADS PAYLOAD                         REQ sockets, one for each thread
//! zmqv2-raw window FRONT SIZE PAYLOAD GROUP                    one DEALER with SIZE groups of GROUP messages in flight
//! zmqv2-raw hold FRONT COUNT                                   REQ sockets that are connected, and silent
//! ```

mod client;
#[path = "../../src/measure/measured_process.rs"]
mod measured_process;

use std::process::ExitCode;

use measured_process::{Error, serve_until_stdin_ends};
use zmq::{Context, Socket, SocketType};

/// 1,000 clients that connect at once overflow libzmq's default.
const LISTEN_BACKLOG: i32 = 4_096;
/// With libzmq's default of 1,000 messages, a ROUTER drops answers of a window of 1,000.
const HIGH_WATER_MARK: i32 = 100_000;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("zmqv2-raw {}: {error}", words.join(" "));
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<(), Error> {
    match *words {
        ["proxy", front, back] => proxy(front, back),
        ["serve", back, threads, "echo"] => serve(back, threads.parse()?, true),
        ["serve", back, threads, "ack"] => serve(back, threads.parse()?, false),
        ["call", front, threads, payload] => client::call(front, threads.parse()?, payload.parse()?),
        ["window", front, size, payload, group] => {
            client::window(front, size.parse()?, payload.parse()?, group.parse()?)
        }
        ["hold", front, count] => client::hold(front, count.parse()?),
        _ => Err("no such words".into()),
    }
}

fn open(context: &Context, kind: SocketType) -> Result<Socket, zmq::Error> {
    let socket = context.socket(kind)?;
    socket.set_linger(0)?;
    socket.set_sndhwm(HIGH_WATER_MARK)?;
    socket.set_rcvhwm(HIGH_WATER_MARK)?;
    Ok(socket)
}

/// The broker.
fn proxy(front: &str, back: &str) -> Result<(), Error> {
    let context = Context::new();
    let (clients, servers) = (open(&context, SocketType::ROUTER)?, open(&context, SocketType::DEALER)?);
    clients.set_backlog(LISTEN_BACKLOG)?;
    clients.bind(front)?;
    servers.bind(back)?;
    // It stops only with its process.
    std::thread::spawn(move || zmq::proxy(&clients, &servers));
    serve_until_stdin_ends()?;
    std::process::exit(0)
}

/// A server with some workers.
fn serve(back: &str, threads: usize, echo: bool) -> Result<(), Error> {
    let context = Context::new();
    for _ in 0..threads {
        let worker = open(&context, SocketType::REP)?;
        worker.connect(back)?;
        std::thread::spawn(move || answer(&worker, echo));
    }
    serve_until_stdin_ends()?;
    std::process::exit(0)
}

fn answer(worker: &Socket, echo: bool) -> Result<(), zmq::Error> {
    let mut message = zmq::Message::new();
    loop {
        worker.recv(&mut message, 0)?;
        let answer = if echo { std::mem::replace(&mut message, zmq::Message::new()) } else { zmq::Message::new() };
        worker.send(answer, 0)?;
    }
}
