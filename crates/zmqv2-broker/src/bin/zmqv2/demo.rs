//! `zmqv2 demo`: broker, servers and clients on one machine, each in its own process.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use rustix::process::{Pid, Signal, kill_process};
use zmqv2_broker::cli::{CommonFlags, Failure, on_stop_signal, say};
use zmqv2_proto::config::{LONGEST_SOCKET_NAME_BYTES, MAX_SOCKET_PATH_BYTES};

use crate::serve::now;
use crate::serve::shell_command::end_of;

/// The longest time of one step on a slow machine.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn run(common: &CommonFlags) -> Result<(), Failure> {
    // Loaded only to report its errors: the demo uses its own ports and directories.
    common.setup(log::LevelFilter::Warn)?;
    let children = Children::default();
    let to_stop = children.clone();
    // Without its children the demo fails at the next step, and cleans up.
    on_stop_signal(move || to_stop.stop())?;
    let result = demo(&children);
    let interrupted = children.lock().interrupted;
    Ok(if interrupted { result.context("interrupted") } else { result }?)
}

fn demo(children: &Children) -> anyhow::Result<()> {
    let started = now();
    let dir = tempfile::Builder::new().prefix("zmqv2-demo-").tempdir().context("cannot make a temporary directory")?;
    let longest = MAX_SOCKET_PATH_BYTES - LONGEST_SOCKET_NAME_BYTES - 1;
    let length = dir.path().as_os_str().len();
    ensure!(
        length <= longest,
        "the path of the temporary directory {} has {length} bytes, sockets in it allow {longest}: set TMPDIR to a shorter one",
        dir.path().display()
    );
    let demo = Demo { program: std::env::current_exe()?, dir: dir.path().to_owned(), children: children.clone() };

    say("one broker, two servers of the topic \"demo\", and clients, each in its own process")?;
    let broker = demo.start("broker", &["broker", "--port", "0", "--bind", "127.0.0.1"])?;
    let server = |name| demo.start(name, &["serve", "demo", "--server", name, "--workers", "2"]);
    let (alpha, beta) = (server("alpha")?, server("beta")?);

    say("\ncalls to the topic reach its servers in turn:")?;
    for n in 1..=4 {
        demo.run(&["call", "demo", "echo", &format!("{{\"n\": {n}}}"), "--verbose"], 0)?;
    }
    say("\na call to one server only:")?;
    demo.run(&["call", "demo", "echo", "\"only for beta\"", "--server", "beta", "--verbose"], 0)?;
    say("\na remote error, a topic without servers, and a slow server: each caller learns the outcome:")?;
    demo.run(&["call", "demo", "fail", "\"as asked\""], 3)?;
    demo.run(&["call", "nobody", "echo"], 4)?;
    demo.run(&["call", "demo", "sleep", "5", "--timeout", "0.3"], 5)?;
    say("\na cast has no result, but its sender learns which server accepted it; a fanout goes to every server:")?;
    demo.run(&["cast", "demo", "echo", "\"for one of you\""], 0)?;
    demo.run(&["fanout", "demo", "echo", "\"for all of you\""], 0)?;
    say("\na notification is kept until there is a listener, and then one listener of each pool gets it:")?;
    demo.run(&["notify", "events", "demo.early", "{\"n\": 1}"], 0)?;
    let mut listener = demo.start("listener", &["listen", "events"])?;
    demo.run(&["notify", "events", "demo.late", "{\"n\": 2}"], 0)?;
    listener.show_lines(2)?;

    say("\nstopping the servers, then the broker; each finishes its requests first:")?;
    for process in [listener, alpha, beta, broker] {
        process.stop()?;
    }
    say(format_args!("done in {:.1} s", now().saturating_duration_since(started).as_secs_f64()))?;
    Ok(())
}

struct Demo {
    program: PathBuf,
    dir: PathBuf,
    children: Children,
}

struct Process {
    name: String,
    child: Child,
    output: Option<Receiver<String>>,
    children: Children,
}

/// The running processes, for the thread that receives signals.
#[derive(Clone, Default)]
struct Children(Arc<Mutex<Running>>);

#[derive(Default)]
struct Running {
    interrupted: bool,
    processes: Vec<Pid>,
}

impl Children {
    fn lock(&self) -> MutexGuard<'_, Running> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) {
        let mut running = self.lock();
        running.interrupted = true;
        for process in running.processes.drain(..) {
            // It may have received the same signal from the terminal.
            let _ = kill_process(process, Signal::TERM);
        }
    }
}

impl Demo {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).arg("--ipc-dir").arg(&self.dir).args(["--host", "demo-node", "--matchmaker", "local"]);
        // The environment may configure real nodes, not these.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"OS_")) {
            command.env_remove(name);
        }
        command.stdin(Stdio::null());
        command
    }

    fn start(&self, name: &str, arguments: &[&str]) -> anyhow::Result<Process> {
        let began = now();
        let mut command = self.command(arguments);
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let mut process = Process { name: name.to_owned(), child, output: None, children: self.children.clone() };
        {
            let mut running = self.children.lock();
            ensure!(!running.interrupted, "stopped before {name} was started");
            running.processes.push(Pid::from_child(&process.child));
        }
        process.output = process.child.stdout.take().map(lines);
        let stderr = lines(process.child.stderr.take().context("no stderr")?);
        let line = ready_line(&stderr).with_context(|| format!("{name} did not get ready"))?;
        let took = now().saturating_duration_since(began).as_millis();
        say(format_args!("  {name} (process {}): {line} after {took} ms", process.child.id()))?;
        Ok(process)
    }

    fn run(&self, arguments: &[&str], expected: i32) -> anyhow::Result<()> {
        let output = self.command(arguments).output().context("cannot start a client")?;
        let shown: Vec<_> =
            arguments.iter().filter(|word| **word != "--verbose").map(|word| shell_word(word)).collect();
        say(format_args!("  zmqv2 {}", shown.join(" ")))?;
        for text in [&output.stdout, &output.stderr] {
            for line in String::from_utf8_lossy(text).lines() {
                say(format_args!("    {line}"))?;
            }
        }
        ensure!(output.status.code() == Some(expected), "expected exit code {expected}, got {}", output.status);
        Ok(())
    }
}

impl Process {
    /// Forgets the process before it is reaped: another process may get its id then.
    fn forget(&self) {
        let own = Pid::from_child(&self.child);
        self.children.lock().processes.retain(|pid| *pid != own);
    }

    fn show_lines(&mut self, count: usize) -> anyhow::Result<()> {
        let output = self.output.as_ref().context("no stdout")?;
        say(format_args!("  {} prints", self.name))?;
        for _ in 0..count {
            let line = output.recv_timeout(PATIENCE);
            say(format_args!("    {}", line.with_context(|| format!("{} printed nothing more", self.name))?))?;
        }
        Ok(())
    }

    fn stop(mut self) -> anyhow::Result<()> {
        self.forget();
        kill_process(Pid::from_child(&self.child), Signal::TERM)
            .with_context(|| format!("cannot stop {}", self.name))?;
        // If it does not end, dropping `self` kills it.
        if end_of(Pid::from_child(&self.child)).recv_timeout(PATIENCE).is_err() {
            bail!("{} did not end within {PATIENCE:?}", self.name)
        }
        let (name, id, status) = (&self.name, self.child.id(), self.child.wait()?);
        ensure!(status.success(), "{name} ended with {status}");
        Ok(say(format_args!("  {name} (process {id}) ended, {status}"))?)
    }
}

impl Drop for Process {
    /// Leaves no process behind if the demo fails.
    fn drop(&mut self) {
        self.forget();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of a stream. The thread reads it to its end, so that its writer never blocks.
fn lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (send, receive) = crossbeam_channel::unbounded();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            // The demo may read no more lines.
            let _ = send.send(line);
        }
    });
    receive
}

fn ready_line(stderr: &Receiver<String>) -> anyhow::Result<String> {
    let (deadline, mut printed) = (now() + PATIENCE, String::new());
    loop {
        match stderr.recv_deadline(deadline) {
            Ok(line) if line.starts_with("ready") => return Ok(line),
            Ok(line) => printed.extend([line.as_str(), "\n"]),
            Err(RecvTimeoutError::Disconnected) => bail!("it ended and printed:\n{printed}"),
            Err(RecvTimeoutError::Timeout) => bail!("it was not ready within {PATIENCE:?}"),
        }
    }
}

fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:@".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("'{word}'") }
}
