//! The processes of the demo.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, bail, ensure};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use rustix::process::{Pid, Signal, kill_process};

use super::PATIENCE;
use super::screen::{Line, Screen};
use crate::serve::now;
use crate::serve::shell_command::end_of;

/// The flags of the demo's node, with their options and values.
pub(super) const NODE_FLAGS: [(&str, &str, &str); 2] =
    [("--host", "rpc_zmq_host", "demo-node"), ("--matchmaker", "rpc_zmq_matchmaker", "local")];

/// The node of the demo. Its socket directory is a temporary one.
pub(super) struct Node {
    program: PathBuf,
    dir: PathBuf,
    children: Children,
    screen: Screen,
}

pub(super) struct Process {
    name: String,
    child: Child,
    output: Option<Receiver<String>>,
    children: Children,
    screen: Screen,
}

/// The running processes, for the thread that receives signals.
#[derive(Clone, Default)]
pub(super) struct Children(Arc<Mutex<Running>>);

#[derive(Default)]
struct Running {
    interrupted: bool,
    processes: Vec<Pid>,
}

impl Children {
    fn lock(&self) -> MutexGuard<'_, Running> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a signal asked the demo to end.
    pub(super) fn interrupted(&self) -> bool {
        self.lock().interrupted
    }

    pub(super) fn stop(&self) {
        let mut running = self.lock();
        running.interrupted = true;
        for process in running.processes.drain(..) {
            // It may have received the same signal from the terminal.
            let _ = kill_process(process, Signal::TERM);
        }
    }
}

impl Node {
    pub(super) fn new(dir: &Path, children: &Children, screen: Screen) -> anyhow::Result<Self> {
        Ok(Self { program: std::env::current_exe()?, dir: dir.to_owned(), children: children.clone(), screen })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).arg("--ipc-dir").arg(&self.dir);
        for (flag, _, value) in NODE_FLAGS {
            command.args([flag, value]);
        }
        // The environment may configure real nodes, not these.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"OS_")) {
            command.env_remove(name);
        }
        command.stdin(Stdio::null());
        command
    }

    /// Starts a process, and waits until it is ready.
    pub(super) fn start(&self, name: &str, arguments: &[&str]) -> anyhow::Result<Process> {
        let began = now();
        let mut command = self.command(arguments);
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let (children, screen) = (self.children.clone(), self.screen);
        let mut process = Process { name: name.to_owned(), child, output: None, children, screen };
        {
            let mut running = self.children.lock();
            ensure!(!running.interrupted, "stopped before {name} was started");
            running.processes.push(Pid::from_child(&process.child));
        }
        process.output = process.child.stdout.take().map(lines);
        let stderr = lines(process.child.stderr.take().context("no stderr")?);
        let line = ready_line(&stderr).with_context(|| format!("{name} did not get ready"))?;
        let took = now().saturating_duration_since(began).as_millis();
        screen.say(Line::Event, &format!("{name} (process {}), after {took} ms:", process.child.id()))?;
        screen.say(Line::Output, &line)?;
        Ok(process)
    }

    /// Runs a command to its end, and shows it with its output.
    pub(super) fn run(&self, arguments: &[&str], expected: i32) -> anyhow::Result<()> {
        let output = self.command(arguments).output().context("cannot start a client")?;
        let shown: Vec<_> =
            arguments.iter().filter(|word| **word != "--verbose").map(|word| shell_word(word)).collect();
        self.screen.say(Line::Command, &format!("zmqv2 {}", shown.join(" ")))?;
        let kind = if output.status.success() { Line::Output } else { Line::Error };
        for text in [&output.stdout, &output.stderr] {
            for line in String::from_utf8_lossy(text).lines() {
                self.screen.say(kind, line)?;
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

    /// Shows the next lines that the process prints.
    pub(super) fn show_lines(&mut self, count: usize) -> anyhow::Result<()> {
        let output = self.output.as_ref().context("no stdout")?;
        self.screen.say(Line::Event, &format!("{} prints", self.name))?;
        for _ in 0..count {
            let line = output.recv_timeout(PATIENCE);
            let line = line.with_context(|| format!("{} printed nothing more", self.name))?;
            self.screen.say(Line::Output, &line)?;
        }
        Ok(())
    }

    /// Asks the process to end, and waits until it has.
    pub(super) fn stop(mut self) -> anyhow::Result<()> {
        self.forget();
        kill_process(Pid::from_child(&self.child), Signal::TERM)
            .with_context(|| format!("cannot stop {}", self.name))?;
        // If it does not end, dropping `self` kills it.
        if end_of(Pid::from_child(&self.child)).recv_timeout(PATIENCE).is_err() {
            bail!("{} did not end within {PATIENCE:?}", self.name)
        }
        let (name, id, status) = (&self.name, self.child.id(), self.child.wait()?);
        ensure!(status.success(), "{name} ended with {status}");
        Ok(self.screen.say(Line::Event, &format!("{name} (process {id}) ended, {status}"))?)
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
