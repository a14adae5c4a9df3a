//! A listener process that writes the notifications that it runs, and their results, to a journal.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use clap::Parser;
use zmqv2_broker::cli::{CommonFlags, Failure, finish, on_stop_signal};
use zmqv2_proto::config::find_ipc_dir;
use zmqv2_proto::{Priority, Ttl};
use zmqv2_server::{HandlerError, NotificationListener, Verdict};
use zmqv2_tests::PATIENCE;
use zmqv2_tests::journal::{JournalWriter, Record};

/// Listens until SIGTERM. Prints client, number and delivery of each notification.
#[derive(Debug, Parser)]
struct Arguments {
    /// The topic
    topic: String,
    /// The pool
    #[arg(long)]
    pool: String,
    /// Directory of the journals
    #[arg(long, value_name = "DIR")]
    journal: PathBuf,
    /// How many notifications it runs at a time
    #[arg(long, default_value_t = 1)]
    workers: u16,
    /// Asks for every Nth notification again on its first delivery
    #[arg(long, value_name = "N")]
    requeue: Option<u64>,
    /// Milliseconds that each handler takes
    #[arg(long, default_value_t = 0)]
    work: u64,
    /// Handlers do not end before SIGTERM
    #[arg(long)]
    hold: bool,
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
    let stopping: Arc<OnceLock<()>> = Arc::default();
    let stopped = Arc::clone(&stopping);
    let (requeue, work, hold) = (arguments.requeue, Duration::from_millis(arguments.work), arguments.hold);
    let handler = move |notice: &zmqv2_server::Notice| -> Result<Verdict, HandlerError> {
        let (client, number, _) = notice.payload::<(String, u64, String)>()?;
        // A handler that starts before the journal exists waits for it.
        let journal = write.wait();
        journal.write(&Record::Ran(&client, number, notice.delivery, Ttl::monotonic_millis()));
        println!("{client} {number} {}", notice.delivery);
        if hold {
            stopped.wait();
        } else if !work.is_zero() {
            // Nothing is ever sent, so this waits for the whole time.
            let (_keep, never) = std::sync::mpsc::channel::<()>();
            let _ = never.recv_timeout(work);
        }
        let again = requeue.is_some_and(|every| number.is_multiple_of(every)) && notice.delivery == 1;
        journal.write(&if again { Record::Requeued(&client, number) } else { Record::Handled(&client, number) });
        Ok(if again { Verdict::Requeue } else { Verdict::Handled })
    };
    let builder = NotificationListener::builder().topic(&arguments.topic)?.pool(&arguments.pool)?;
    let builder = builder.ipc_dir(find_ipc_dir(&setup.config)?).config(setup.config).workers(arguments.workers.into());
    let listener = builder.on(Priority::Info, handler).start()?;
    let run = listener.instance().to_string();
    let first = Record::Server { server: arguments.pool.as_str(), node: &node, run: &run, workers: arguments.workers };
    let created = JournalWriter::create(&arguments.journal, &format!("listener-{}", arguments.pool), &first)?;
    let journal = journal.get_or_init(|| created);
    let (stopper, stop) = std::sync::mpsc::channel();
    on_stop_signal(move || {
        let _ = stopping.set(());
        let _ = stopper.send(());
    })?;
    listener.wait_ready(PATIENCE)?;
    eprintln!("ready");
    let _ = stop.recv();
    listener.stop()?;
    journal.write(&Record::End);
    Ok(())
}
