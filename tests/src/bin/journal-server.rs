//! A server process that writes every message to a journal as soon as it runs it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use clap::Parser;
use zmqv2_broker::cli::{CommonFlags, Failure, finish, on_stop_signal};
use zmqv2_proto::config::find_ipc_dir;
use zmqv2_proto::{Target, Ttl};
use zmqv2_server::{Methods, RpcServer};
use zmqv2_tests::PATIENCE;
use zmqv2_tests::journal::{JournalWriter, Record};

/// Serves `run`, which returns client and number of its message, and `text`, which returns a text of
/// any length, until SIGTERM.
#[derive(Debug, Parser)]
struct Arguments {
    /// The topic
    topic: String,
    /// The name of this server
    #[arg(long)]
    server: String,
    /// Directory of the journals
    #[arg(long, value_name = "DIR")]
    journal: PathBuf,
    /// How many messages it runs at a time
    #[arg(long, default_value_t = 1)]
    workers: u16,
    #[command(flatten)]
    common: CommonFlags,
}

fn main() -> ExitCode {
    finish(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let setup = arguments.common.setup(log::LevelFilter::Error)?;
    let node = setup.config.host.to_string();
    let journal: Arc<OnceLock<JournalWriter>> = Arc::default();
    let write = Arc::clone(&journal);
    // A handler that starts before the journal exists waits for it.
    let methods = Methods::new().method("run", move |(client, number, _): (String, u64, String)| {
        write.wait().write(&Record::Ran(&client, number, 0, Ttl::monotonic_millis()));
        Ok((client, number))
    })?;
    let methods = methods.method("text", |length: usize| Ok("x".repeat(length)))?;
    let target = Target::topic(&arguments.topic)?.with_server(&arguments.server)?;
    let builder = RpcServer::builder(target).ipc_dir(find_ipc_dir(&setup.config)?).config(setup.config);
    let server = builder.endpoint(methods).workers(arguments.workers.into()).start()?;
    let run = server.instance().to_string();
    let first =
        Record::Server { server: arguments.server.as_str(), node: &node, run: &run, workers: arguments.workers };
    let created = JournalWriter::create(&arguments.journal, &format!("server-{}", arguments.server), &first)?;
    let journal = journal.get_or_init(|| created);
    let (stopper, stop) = std::sync::mpsc::channel();
    on_stop_signal(move || {
        let _ = stopper.send(());
    })?;
    server.wait_ready(PATIENCE)?;
    eprintln!("ready");
    let _ = stop.recv();
    server.stop()?;
    journal.write(&Record::End);
    Ok(())
}
