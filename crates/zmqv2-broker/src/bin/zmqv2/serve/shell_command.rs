//! `zmqv2 serve --exec`: every request runs a shell command, so any script can be a service.

use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{ExitStatus, Stdio};

use crossbeam_channel::Receiver;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use zmqv2_proto::{Failure, Namespace, Reply, Version};
use zmqv2_server::{Endpoint, HandlerError, HandlerResult, Incoming};

use crate::serve::now;

const MODULE: &str = "zmqv2.exec";
/// The most bytes of a command's stderr that go to the caller.
const STDERR_BYTES: usize = 64 * 1024;

/// An endpoint that has every method.
#[derive(Debug)]
pub(super) struct ShellCommand {
    pub(super) line: String,
    /// The most bytes of a reply.
    pub(super) max_bytes: usize,
}

impl ShellCommand {
    fn run(&self, incoming: &Incoming) -> HandlerResult {
        let mut child = std::process::Command::new("/bin/sh")
            .args(["-c", &self.line])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // In a new process group, so that the command's children can be killed too.
            .process_group(0)
            .spawn()?;
        let input = request(incoming).to_string().into_bytes();
        // Each pipe has a thread, because a command may fill one while it waits for another. If the
        // command does not read its input, the write fails, and that is no error.
        child.stdin.take().map(|mut pipe| std::thread::spawn(move || pipe.write_all(&input)));
        let stdout = child.stdout.take().map(|pipe| reader(pipe, self.max_bytes));
        let stderr = child.stderr.take().map(|pipe| reader(pipe, STDERR_BYTES));
        let group = Pid::from_child(&child);
        let ended = end_of(group);
        let left = || incoming.deadline.saturating_duration_since(now());
        let budget = left();
        // A background process may keep the pipes open, so this waits for their ends as well.
        let collect =
            |reader: Option<Receiver<Output>>| reader.map_or(Some(Output::default()), |r| r.recv_timeout(left()).ok());
        let finish = || {
            ended.recv_timeout(left()).ok()?;
            Some((collect(stdout)?, collect(stderr)?))
        };
        let Some((stdout, stderr)) = finish() else {
            // The caller no longer waits. The child is not reaped, so the group id is its own.
            let _ = kill_process_group(group, Signal::KILL);
            std::thread::spawn(move || child.wait());
            let detail = format!("{} did not end within {budget:?} and was killed", self.line);
            return Err(HandlerError::new(MODULE, "CommandTimeout", detail));
        };
        let status = child.wait()?;
        if !status.success() {
            return Err(self.failed(status, &stderr.text()));
        }
        if stdout.cut {
            let detail = format!("{} printed more than {} bytes", self.line, self.max_bytes);
            return Err(HandlerError::new(MODULE, "InvalidReply", detail));
        }
        let reply = serde_json::from_str::<Box<RawValue>>(stdout.text().trim());
        reply.map(Reply::Result).map_err(|error| {
            HandlerError::new(MODULE, "InvalidReply", format!("{} did not print JSON: {error}", self.line))
        })
    }

    fn failed(&self, status: ExitStatus, stderr: &str) -> HandlerError {
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit status {code}"),
            (None, signal) => format!("signal {}", signal.unwrap_or_default()),
        };
        let stderr = stderr.trim();
        let message = if stderr.is_empty() { format!("{}: {how}", self.line) } else { stderr.to_owned() };
        let mut failure = Failure::new(MODULE, "CommandFailed", message).with_traceback([how]);
        failure.kwargs = Map::from_iter([("exit_status".to_owned(), status.code().map_or(Value::Null, Value::from))]);
        HandlerError::expected(failure)
    }
}

impl Endpoint for ShellCommand {
    fn serves(&self, _namespace: Option<&Namespace>, _version: Version) -> bool {
        true
    }

    fn call(&self, incoming: &Incoming) -> Option<HandlerResult> {
        Some(self.run(incoming))
    }
}

fn request(incoming: &Incoming) -> Value {
    let request = &incoming.request;
    let context: Map<String, Value> =
        request.context.iter().map(|(key, value)| (key.to_owned(), value.clone())).collect();
    json!({
        "method": request.method.as_str(),
        // The arguments were parsed on arrival, so they are JSON.
        "args": request.args::<Value>().unwrap_or_default(),
        "namespace": request.namespace.as_ref().map(Namespace::as_str),
        "version": request.version.unwrap_or_default().to_string(),
        "context": context,
        "message_id": incoming.id.to_string(),
        "seconds_left": incoming.deadline.saturating_duration_since(now()).as_secs_f64(),
    })
}

#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    cut: bool,
}

impl Output {
    fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
    }
}

/// Reports when a process has ended, without reaping it. Until it is reaped, its id and its group's
/// are not given to another process.
pub(crate) fn end_of(process: Pid) -> Receiver<()> {
    let (send, receive) = crossbeam_channel::bounded(1);
    std::thread::spawn(move || {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while matches!(waitid(WaitId::Pid(process), options), Err(Errno::INTR)) {}
        let _ = send.send(());
    });
    receive
}

/// Reads a pipe to its end, and keeps the first `max_bytes`.
fn reader(mut pipe: impl Read + Send + 'static, max_bytes: usize) -> Receiver<Output> {
    let (send, receive) = crossbeam_channel::bounded(1);
    std::thread::spawn(move || {
        let mut output = Output::default();
        // An error ends the output, and the bytes before it count.
        let _ = pipe.by_ref().take(max_bytes as u64).read_to_end(&mut output.bytes);
        // The rest is read as well, so that a full pipe does not block the command.
        output.cut = std::io::copy(&mut pipe, &mut std::io::sink()).is_ok_and(|more| more > 0);
        let _ = send.send(output);
    });
    receive
}
