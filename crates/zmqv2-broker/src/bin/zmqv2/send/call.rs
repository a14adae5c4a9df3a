//! `zmqv2 call`, `zmqv2 cast` and `zmqv2 ping`.

use std::time::Duration;

use clap::Args;
use serde_json::value::RawValue;
use zmqv2_broker::cli::{CommonFlags, Exit, Failure, hold_warnings_of_directory, say, tell};
use zmqv2_client::{Answered, CallError, Outcome, RpcClient, SendError};
use zmqv2_proto::{Reason, RequestContext};

use super::outcome::millis;
use super::target::{InterfaceFlags, MessageFlags, TargetFlags, seconds, set_if_given};

#[derive(Debug, Args)]
pub(crate) struct CallFlags {
    #[command(flatten)]
    target: TargetFlags,
    #[command(flatten)]
    message: MessageFlags,
    /// Ask the broker repeatedly whether it still has the call, and give up after SECONDS without a yes
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    call_monitor_timeout: Option<Duration>,
    /// Print on stderr which server answered, and how long it took
    #[arg(long, short)]
    verbose: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CastFlags {
    #[command(flatten)]
    target: TargetFlags,
    #[command(flatten)]
    message: MessageFlags,
    /// If no acknowledgement comes, send the cast again, up to N times; each server runs it once
    #[arg(long, value_name = "N", default_value_t = 0)]
    retry: u32,
}

#[derive(Debug, Args)]
pub(crate) struct PingFlags {
    #[command(flatten)]
    target: TargetFlags,
}

pub(crate) fn call(common: &CommonFlags, flags: &CallFlags) -> Result<(), Failure> {
    let CallFlags { target, message, call_monitor_timeout, verbose } = flags;
    let args = message.parsed()?;
    let client = target.client(common, &message.interface)?.wait_for_ready(message.wait_for_ready);
    let client = set_if_given(client, *call_monitor_timeout, RpcClient::call_monitor_timeout);
    let answered: Answered<Box<RawValue>> =
        client.call_detailed(&RequestContext::new(), &message.method, &args).map_err(failure)?;
    say(answered.value.get())?;
    if *verbose {
        tell(answered_by(&answered));
    }
    Ok(())
}

pub(crate) fn cast(common: &CommonFlags, flags: &CastFlags) -> Result<(), Failure> {
    let CastFlags { target, message, retry } = flags;
    let args = message.parsed()?;
    let client = target.client(common, &message.interface)?.wait_for_ready(message.wait_for_ready).retry(*retry);
    let target = client.target().clone();
    let handle = client.cast(&RequestContext::new(), &message.method, &args).map_err(|error| failure(error.into()))?;
    // Every cast ends with an outcome, no later than its timeout.
    match handle.wait(Duration::MAX) {
        Some(Outcome::Acked { server, node, elapsed, .. }) => {
            Ok(say(format_args!("acked by {server} at node {node} in {:.3} ms", millis(elapsed)))?)
        }
        Some(Outcome::Refused { refusal, node, after, .. }) => {
            Err(failure(CallError::Refused { refusal, target: Box::new(target), node, after }))
        }
        Some(Outcome::Directory { problem, .. }) => {
            Err(Failure::new(Exit::Timeout, format!("Directory: no server of {target} was found: {problem}")))
        }
        outcome => {
            let outcome = outcome.map_or_else(|| "no outcome".to_owned(), |outcome| outcome.to_string());
            Err(Failure::new(Exit::Timeout, format!("Unacknowledged: {target}: {outcome}")))
        }
    }
}

pub(crate) fn ping(common: &CommonFlags, flags: &PingFlags) -> Result<(), Failure> {
    hold_warnings_of_directory();
    let client = flags.target.client(common, &InterfaceFlags::default())?;
    let answered = client.ping().map_err(failure)?;
    Ok(say(format_args!("pong, {}", answered_by(&answered)))?)
}

fn answered_by<R>(answered: &Answered<R>) -> String {
    let Answered { server, node, elapsed, .. } = answered;
    format!("answered by {server} at node {node} in {:.3} ms", millis(*elapsed))
}

/// The failure of a call. The text of a refusal begins with its reason, for programs.
pub(crate) fn failure(error: CallError) -> Failure {
    match error {
        CallError::Refused { refusal, target, node, after, .. } => {
            let node = node.map_or_else(String::new, |node| format!(" by node {node}"));
            Failure::new(Exit::Refused, format!("{refusal} ({target} was refused{node} after {:.1} ms)", millis(after)))
        }
        CallError::NotSent(SendError::TooLarge { .. }) => {
            Failure::new(Exit::Refused, format!("{}: {error}", Reason::TooLarge))
        }
        CallError::Remote(_) => Failure::new(Exit::Remote, error),
        CallError::Timeout { .. } => Failure::new(Exit::Timeout, format!("Timeout: {error}")),
        CallError::Unreachable { .. } => Failure::new(Exit::Timeout, format!("Unreachable: {error}")),
        CallError::ConnectionLost { .. } => {
            Failure::new(Exit::Timeout, format!("ConnectionLost: {error}; the request may have run"))
        }
        CallError::NotSent(SendError::DirectorySilent { .. }) => {
            Failure::new(Exit::Timeout, format!("Directory: {error}"))
        }
        // Options that are certainly wrong ended the program when it opened the directory.
        CallError::NotSent(SendError::Directory { ref source, .. }) => {
            Failure::new(Exit::Timeout, format!("Directory: {error}: {source}"))
        }
        CallError::NotSent(SendError::InvalidName(_) | SendError::VersionCap { .. }) => Failure::usage(error),
        _ => Failure::new(Exit::Failed, error),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use zmqv2_matchmaker::MatchmakerError;
    use zmqv2_proto::{Address, InvalidName, NoConnection, NodeName, Refusal, Target, Topic};

    use super::*;

    fn target() -> Box<Target> {
        Box::new(Target::topic("demo").unwrap())
    }

    #[track_caller]
    fn leads_to(error: CallError, exit: Exit, start: &str) {
        let failure = failure(error);
        assert_eq!(failure.exit(), exit, "{failure}");
        assert!(failure.to_string().starts_with(start), "{failure}");
    }

    #[test]
    fn every_refusal_exits_with_4_and_begins_with_its_reason() {
        for reason in Reason::ALL {
            for node in [Some(NodeName::new("n1").unwrap()), None] {
                let refusal = Refusal::new(reason, "why");
                let error = CallError::Refused { refusal, target: target(), node, after: Duration::from_millis(1) };
                leads_to(error, Exit::Refused, &format!("{reason}: why"));
            }
        }
        let error = SendError::TooLarge { size: 9, limit: 8, target: target() }.into();
        leads_to(error, Exit::Refused, "TooLarge: message of 9 bytes");
    }

    #[test]
    fn every_missing_answer_exits_with_5_and_begins_with_its_name() {
        let (node, address) = (NodeName::new("n1").unwrap(), Address::Tcp("n1:9501".parse().unwrap()));
        let after = Duration::from_secs(1);
        let (n, a) = (node.clone(), address.clone());
        leads_to(CallError::Timeout { target: target(), node: n, address: a, after }, Exit::Timeout, "Timeout: ");
        let (n, a) = (node.clone(), address.clone());
        leads_to(
            CallError::Unreachable { target: target(), node: n, address: a, after, cause: NoConnection::Refused },
            Exit::Timeout,
            "Unreachable: ",
        );
        let lost = CallError::ConnectionLost { target: target(), node, address, after };
        leads_to(lost, Exit::Timeout, "ConnectionLost: ");
    }

    #[test]
    fn a_directory_that_cannot_say_exits_with_5() {
        let after = Duration::from_secs(1);
        let sent = |source| SendError::Directory { target: target(), after, source: Arc::new(source) };
        let directory = || "redis".to_owned();
        let gone = sent(MatchmakerError::Unavailable { directory: directory(), source: "gone".into() });
        leads_to(
            gone.into(),
            Exit::Timeout,
            "Directory: cannot look up openstack/demo after 1.0 s: the redis directory",
        );
        let silent = SendError::DirectorySilent { target: target(), directory: "redis", after };
        leads_to(silent.into(), Exit::Timeout, "Directory: ");
        let (problem, remedy) = ("it refuses this password".to_owned(), "correct password".to_owned());
        let wrong = sent(MatchmakerError::Misconfigured { directory: directory(), problem, remedy });
        leads_to(wrong.into(), Exit::Timeout, "Directory: ");
    }

    #[test]
    fn a_mistake_of_the_caller_exits_with_2() {
        let bad: InvalidName = Topic::new("../x").unwrap_err();
        leads_to(bad.into(), Exit::Usage, "invalid topic");
    }
}
