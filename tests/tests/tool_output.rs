//! Proves what happens when the reader of a pipe is gone: a lost result is an error that is
//! reported, a lost log line is not, and nothing panics.

use std::fs::File;
use std::io::PipeWriter;
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use zmqv2_tests::kernel::names_in;
use zmqv2_tests::{Cluster, Node, binary, eventually};

/// A pipe without a reader.
fn unread() -> PipeWriter {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer
}

fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().expect("it starts")
}

/// Exit code 1, and one line on stderr that says why.
#[track_caller]
fn fails(what: &str, command: &mut Command, why: &str) {
    let output = run(command);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{what}: {told}");
    assert_eq!(told.lines().count(), 1, "{what}: {told}");
    assert!(told.starts_with("cannot write to stdout: ") && told.contains(why), "{what}: {told}");
}

#[test]
fn a_result_that_cannot_be_written_is_a_failure_and_no_panic() {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    let (_broker, _server) = (node.broker(), node.serve("demo", "s1", &["--workers", "2"]));
    let tool: [&[&str]; 9] = [
        &["call", "demo", "echo"],
        &["cast", "demo", "echo"],
        &["fanout", "demo", "echo"],
        &["fanout", "demo", "echo", "--json"],
        &["notify", "demo", "event"],
        &["ping", "demo"],
        &["status"],
        &["status", "--json"],
        &["bench", "call", "demo", "--duration", "0.1"],
    ];
    for arguments in tool {
        let shown = arguments.join(" ");
        fails(&shown, node.command("zmqv2", arguments).stdout(unread()), "Broken pipe");
    }
    for flag in ["--print-config", "--check-config"] {
        fails(flag, node.command("zmqv2-broker", &[flag]).stdout(unread()), "Broken pipe");
    }
    // A full disk is the same error.
    let full = File::options().write(true).open("/dev/full").expect("/dev/full");
    fails("call > /dev/full", node.command("zmqv2", &["call", "demo", "echo"]).stdout(full), "No space left");
}

/// Starts a command as a shell does with these redirections, such as `>&-`.
fn redirected(mut command: Command, how: &str) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &format!("exec \"$@\" {how}"), "sh"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.env_clear().get_envs() {
        if let Some(value) = value {
            shell.env(name, value);
        }
    }
    shell
}

#[test]
fn a_result_for_a_closed_stdout_is_a_failure_and_nothing_is_sent() {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    let (_broker, _server) = (node.broker(), node.serve("demo", "s1", &["--workers", "2"]));
    let told = |how: &str, name: &str, arguments: &[&str]| {
        let output = run(&mut redirected(node.command(name, arguments), how));
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let tool: [&[&str]; 11] = [
        &["call", "demo", "echo"],
        &["cast", "demo", "echo"],
        &["fanout", "demo", "echo"],
        &["notify", "demo", "event"],
        &["listen", "demo", "--count", "1"],
        &["ping", "demo"],
        &["status"],
        &["topics"],
        &["bench", "call", "demo", "--duration", "0.1"],
        &["demo"],
        &["--help"],
    ];
    let before = node.status().counters;
    for arguments in tool {
        for how in [">&-", ">&- <&-", ">&- <&- 2>&-", "1</dev/null"] {
            let (code, stderr) = told(how, "zmqv2", arguments);
            assert_eq!(code, Some(1), "{arguments:?} {how}: {stderr}");
            let silent = how.contains("2>&-");
            assert!(silent || stderr.starts_with("cannot write to stdout: it is "), "{arguments:?} {how}: {stderr}");
        }
    }
    let counted = |counters: &std::collections::BTreeMap<String, u64>, name: &str| counters.get(name).copied();
    for counter in ["requests", "servers_registered"] {
        assert_eq!(counted(&node.status().counters, counter), counted(&before, counter), "{counter}");
    }
    for arguments in [&["--print-config"][..], &["--check-config"], &["--version"], &["--help"]] {
        for how in [">&-", ">/dev/full"] {
            let (code, stderr) = told(how, "zmqv2-broker", arguments);
            assert_eq!(code, Some(1), "{arguments:?} {how}: {stderr}");
        }
    }
    // A result that nobody wants, said in every way, is no failure.
    for how in [">/dev/null", "1<>/dev/null", ">/dev/null 2>&-", "<&- >/dev/null", "<&- >/dev/null 2>&-"] {
        let (code, stderr) = told(how, "zmqv2", &["call", "demo", "echo"]);
        assert_eq!(code, Some(0), "{how}: {stderr}");
    }
}

#[test]
fn a_notification_for_a_closed_stdout_is_not_acknowledged() {
    let cluster = Cluster::new(1, &["events.info"]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let sent = run(&mut node.command("zmqv2", &["notify", "events", "disk.full", "7"]));
    assert_eq!(sent.status.code(), Some(0), "{sent:?}");
    for how in [">&-", ">&- <&- 2>&-", ">/dev/full"] {
        let output = run(&mut redirected(node.command("zmqv2", &["listen", "events", "--count", "1"]), how));
        assert_eq!(output.status.code(), Some(1), "{how}: {output:?}");
    }
    let output = run(&mut node.command("zmqv2", &["listen", "events", "--count", "1"]));
    assert!(String::from_utf8_lossy(&output.stdout).contains("disk.full"), "{output:?}");
}

#[test]
fn services_start_with_everything_closed_and_no_socket_gets_their_numbers() {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    let start = |name: &str, arguments: &[&str]| {
        SilentProcess(redirected(node.command(name, arguments), "<&- >&- 2>&-").spawn().expect("it starts"))
    };
    let mut broker = start("zmqv2-broker", &[]);
    let mut server = start("zmqv2", &["serve", "demo", "--server", "s1", "--exec", "cat >/dev/null; echo 7"]);
    let call = || run(&mut node.command("zmqv2", &["call", "demo", "echo", "--timeout", "5"])).stdout;
    eventually("both work", || call() == b"7\n");
    for process in [&broker, &server] {
        for fd in 0..3 {
            let link = std::fs::read_link(format!("/proc/{}/fd/{fd}", process.0.id())).expect("an open descriptor");
            assert_eq!(link.to_str(), Some("/dev/null"), "descriptor {fd}");
        }
    }
    for process in [&mut server, &mut broker] {
        assert_eq!(process.stop().code(), Some(0));
    }
}

#[test]
fn a_demo_that_nobody_watches_cleans_up() {
    let dir = tempfile::Builder::new().prefix("zq").tempdir().expect("a temporary directory");
    let mut demo = Command::new(binary("zmqv2"));
    fails("demo", demo.arg("demo").env_clear().env("TMPDIR", dir.path()).stdout(unread()), "Broken pipe");
    assert_eq!(names_in(dir.path()), Vec::<String>::new());
}

#[test]
fn commands_work_when_nobody_reads_stderr() {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    let mut broker = SilentProcess::start(node.command("zmqv2-broker", &["--log-level", "debug"]));
    let mut server = SilentProcess::start(node.command("zmqv2", &["serve", "demo", "--server", "s1"]));
    let answered = |arguments: &[&str]| run(node.command("zmqv2", arguments).stderr(unread()));
    eventually("both work", || answered(&["call", "demo", "echo", "7", "--verbose"]).stdout == b"7\n");
    // The exit code still shows the result.
    assert_eq!(answered(&["call", "demo", "fail"]).status.code(), Some(3));
    assert_eq!(answered(&["call", "demo", "echo", "--server", "s2"]).status.code(), Some(4));
    assert_eq!(answered(&["call", "demo", "echo", "{bad"]).status.code(), Some(2));
    assert_eq!(status(node).status.code(), Some(0));
    for process in [&mut server, &mut broker] {
        assert_eq!(process.stop().code(), Some(0));
    }
}

fn status(node: &Node) -> Output {
    run(&mut node.command("zmqv2", &["status"]))
}

/// A process whose stderr has no reader.
struct SilentProcess(Child);

impl SilentProcess {
    fn start(mut command: Command) -> Self {
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(unread()).spawn().expect("it starts"))
    }

    fn stop(&mut self) -> ExitStatus {
        kill_process(Pid::from_child(&self.0), Signal::TERM).expect("it runs");
        let mut ended = None;
        eventually("it ends", || {
            ended = self.0.try_wait().expect("a child can be waited for");
            ended.is_some()
        });
        ended.expect("it has ended")
    }
}

impl Drop for SilentProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
