//! `zmqv2 serve --exec`: every request runs a shell command, so any script can be a service.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Receiver;
use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use zmqv2_proto::{Failure, Namespace, Reply, RequestContext, Version};
use zmqv2_server::{Endpoint, HandlerError, HandlerResult, Incoming};

use super::process_groups::ProcessGroups;
use super::running::{Bounds, End, Outputs, follow};
use crate::serve::now;

const MODULE: &str = "zmqv2.exec";
/// The most bytes of a command's stderr that go to the caller.
const STDERR_BYTES: usize = 64 * 1024;

/// An endpoint that has every method.
pub(super) struct ShellCommand {
    pub(super) line: String,
    /// The most bytes of a reply.
    pub(super) max_bytes: usize,
    pub(super) groups: Arc<ProcessGroups>,
}

impl ShellCommand {
    fn run(&self, incoming: &Incoming) -> HandlerResult {
        let input = request(incoming)?;
        let mut child = std::process::Command::new("/bin/sh")
            .args(["-c", &self.line])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // In a new process group, so that the command's children can be killed too.
            .process_group(0)
            .spawn()?;
        self.groups.add(&child);
        let deadline = incoming.deadline;
        let budget = deadline.saturating_duration_since(now());
        let bounds = Bounds { stdout_bytes: self.max_bytes, stderr_bytes: STDERR_BYTES, deadline };
        let outputs = match follow(&mut child, &input, &bounds, is_complete) {
            Ok(outputs) => outputs,
            Err(error) => {
                self.groups.kill(child);
                return Err(error.into());
            }
        };
        let Self { line, max_bytes, .. } = self;
        let problem = match outputs.end {
            End::Exited => return self.answer(child, &outputs, deadline),
            End::Late => ("CommandTimeout", format!("{line} did not end within {budget:?} and was killed")),
            End::Incomplete => (
                "CommandTimeout",
                format!(
                    "{line} ended without a complete reply, and what it left in the background did not complete it \
                     within {budget:?} and was killed"
                ),
            ),
            End::TooLong => ("InvalidReply", format!("{line} printed more than {max_bytes} bytes")),
        };
        self.groups.kill(child);
        Err(HandlerError::new(MODULE, problem.0, problem.1))
    }

    /// The answer of a command that has ended.
    fn answer(&self, child: Child, outputs: &Outputs, deadline: Instant) -> HandlerResult {
        let text = |bytes| String::from_utf8_lossy(bytes);
        let status = if outputs.held {
            let status = exit_status(&child);
            self.groups.kill_at(deadline, child);
            status?
        } else {
            self.groups.reap(child)?
        };
        if !status.success() {
            return Err(self.failed(status, &text(&outputs.stderr)));
        }
        let reply = serde_json::from_str::<Box<RawValue>>(text(&outputs.stdout).trim());
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

/// The request as a command reads it.
#[derive(Serialize)]
struct Line<'a> {
    method: &'a str,
    args: &'a RawValue,
    namespace: Option<&'a str>,
    version: Version,
    context: &'a RequestContext,
    message_id: String,
    seconds_left: f64,
}

fn request(incoming: &Incoming) -> Result<Vec<u8>, serde_json::Error> {
    let request = &incoming.request;
    serde_json::to_vec(&Line {
        method: request.method.as_str(),
        args: &request.args,
        namespace: request.namespace.as_ref().map(Namespace::as_str),
        version: request.version.unwrap_or_default(),
        context: &request.context,
        message_id: incoming.id.to_string(),
        seconds_left: incoming.deadline.saturating_duration_since(now()).as_secs_f64(),
    })
}

/// Whether the output of an ended command needs nothing more: it is JSON, or cannot become JSON.
fn is_complete(output: &[u8]) -> bool {
    !serde_json::from_slice::<IgnoredAny>(output).is_err_and(|error| error.is_eof())
}

/// The exit status of an ended process, which is not reaped.
fn exit_status(child: &Child) -> std::io::Result<ExitStatus> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    loop {
        match waitid(WaitId::Pid(Pid::from_child(child)), options) {
            Ok(Some(status)) => {
                let code = status.exit_status().map_or(0, |code| (code & 0xff) << 8);
                return Ok(ExitStatus::from_raw(code | status.terminating_signal().unwrap_or_default()));
            }
            Ok(None) => return Err(std::io::ErrorKind::NotFound.into()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
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
