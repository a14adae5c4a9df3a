//! Proves that the daemon reads and prints its configuration as an operator expects.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use zmqv2_tests::{Finished, Process, binary};

/// A directory of configuration files, and the daemon without any other influence.
struct Files {
    dir: TempDir,
}

impl Files {
    fn new() -> Self {
        Self { dir: tempfile::Builder::new().prefix("zq").tempdir().expect("a temporary directory") }
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path
    }

    fn daemon(&self, files: &[&Path], flags: &[&str], environment: &[(&str, &str)]) -> Finished {
        let mut command = Command::new(binary("zmqv2-broker"));
        command.env_clear().envs(environment.iter().copied()).current_dir(self.dir.path());
        for file in files {
            command.arg("--config-file").arg(file);
        }
        Process::run(command.args(flags))
    }

    fn check(&self, text: &str) -> Finished {
        let file = self.write("checked.conf", text);
        self.daemon(&[&file], &["--check-config"], &[])
    }
}

/// The value and the origin of an option in the output of `--print-config`.
#[track_caller]
fn printed(finished: &Finished, option: &str) -> (String, String) {
    assert_eq!(finished.code(), 0, "{finished:?}");
    let lines: Vec<_> = finished.stdout.lines().collect();
    let start = format!("{option} = ");
    let at =
        lines.iter().position(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("no {option}: {finished:?}"));
    (lines[at][start.len()..].to_owned(), lines[at - 1].trim_start_matches("# ").to_owned())
}

#[test]
fn flags_win_over_environment_over_later_files_over_earlier_ones() {
    let files = Files::new();
    let one = files.write(
        "one.conf",
        "[DEFAULT]\nrpc_zmq_port = 1001\nrpc_cast_timeout = 11\nrpc_zmq_host = one\nrpc_response_timeout = 1\n",
    );
    let two = files.write(
        "two.conf",
        "[DEFAULT]\nrpc_zmq_port = 2002\n[oslo_messaging_zmq]\nrpc_cast_timeout = 22\nrpc_zmq_host = two\n",
    );
    let environment = [
        ("OS_DEFAULT__RPC_ZMQ_PORT", "3003"),
        ("OS_OSLO_MESSAGING_ZMQ__RPC_ZMQ_HOST", "three"),
        ("OS_FOREIGN__X", "1"),
    ];
    let flags = ["--print-config", "--port", "4004"];
    let all = files.daemon(&[&one, &two], &flags, &environment);
    let pair = |value: &str, origin: String| (value.to_owned(), origin);
    assert_eq!(printed(&all, "rpc_zmq_port"), pair("4004", "flag --port".to_owned()));
    assert_eq!(
        printed(&all, "rpc_zmq_host"),
        pair("three", "environment OS_OSLO_MESSAGING_ZMQ__RPC_ZMQ_HOST".to_owned())
    );
    assert_eq!(printed(&all, "rpc_cast_timeout"), pair("22", format!("{}:4", two.display())));
    assert_eq!(printed(&all, "rpc_response_timeout"), pair("1", format!("{}:5", one.display())));
    assert_eq!(printed(&all, "rpc_zmq_bind_address"), pair("*", "default".to_owned()));
    let turned = files.daemon(&[&two, &one], &["--print-config"], &[]);
    assert_eq!(printed(&turned, "rpc_zmq_port"), pair("1001", format!("{}:2", one.display())));
    let without_flag = files.daemon(&[&one, &two], &["--print-config"], &environment);
    assert_eq!(printed(&without_flag, "rpc_zmq_port"), pair("3003", "environment OS_DEFAULT__RPC_ZMQ_PORT".to_owned()));
}

#[test]
fn the_printed_configuration_can_be_read_again() {
    let files = Files::new();
    let flags = [
        "--print-config",
        "--port",
        "0",
        "--host",
        "n1",
        "--bind",
        "::1",
        "--ipc-dir",
        "/tmp/with space/#1",
        "--matchmaker",
        "ring",
        "--set",
        "ringfile=/srv/ring = 1.json",
        "--set",
        "rpc_zmq_topic_backlog=7",
        "--set",
        "password=hunter2",
    ];
    let first = files.daemon(&[], &flags, &[]);
    assert!(!first.stdout.contains("hunter2"), "a secret is shown:\n{}", first.stdout);
    let again = files.write("again.conf", &first.stdout);
    let second = files.daemon(&[&again], &["--print-config"], &[]);
    assert_eq!((second.code(), second.stderr.as_str()), (0, ""));
    let values = |finished: &Finished| {
        finished.stdout.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(values(&first).contains(&"ringfile = /srv/ring = 1.json".to_owned()), "{first:?}");
    assert_eq!(values(&second), values(&first));
}

#[test]
fn check_config_accepts_a_good_file_and_starts_nothing() {
    let files = Files::new();
    let socket_dir = files.dir.path().join("sockets");
    let good = files.check(&format!(
        "[DEFAULT]\nrpc_zmq_port = 0\nrpc_zmq_ipc_dir = {}\n[keystone]\nanything = 1\n",
        socket_dir.display()
    ));
    assert_eq!((good.code(), good.stderr.as_str()), (0, ""), "{good:?}");
    assert!(good.stdout.starts_with("the configuration is valid"), "{good:?}");
    assert!(!socket_dir.exists(), "a check made a directory");
}

#[test]
fn a_bad_value_is_named_with_file_line_option_value_and_what_is_allowed() {
    let files = Files::new();
    let named = format!("{}:2: ", files.dir.path().join("checked.conf").display());
    for (line, parts) in [
        ("rpc_zmq_port = 95x1", ["rpc_zmq_port", "\"95x1\"", "0 to 65535"]),
        ("rpc_zmq_port = 65536", ["rpc_zmq_port", "\"65536\"", "0 to 65535"]),
        ("rpc_response_timeout = 0", ["rpc_response_timeout", "\"0\"", "0.001 to 4294967 seconds"]),
        ("rpc_zmq_matchmaker = zookeeper", ["rpc_zmq_matchmaker", "\"zookeeper\"", "local, ring"]),
        ("rpc_zmq_ipc_dir = relative/path", ["rpc_zmq_ipc_dir", "\"relative/path\"", "absolute path"]),
        ("rpc_zmq_bind_address = not an address", ["rpc_zmq_bind_address", "\"not an address\"", "IP address"]),
        ("rpc_zmq_host = a/b", ["rpc_zmq_host", "\"a/b\"", "1 to 255 printable ASCII"]),
        ("transport_url = rabbit://me:hunter2@host/", ["transport_url", "***@host", "zmqv2+local://"]),
        ("what is this", ["\"what is this\"", "neither group nor value", "key = value"]),
        ("[open", ["\"[open\"", "not a group", "[group]"]),
    ] {
        let bad = files.check(&format!("[DEFAULT]\n{line}\n"));
        assert_eq!((bad.code(), bad.stdout.as_str()), (2, ""), "{line}: {bad:?}");
        assert!(bad.stderr.starts_with(&named), "{line}: {}", bad.stderr);
        assert!(parts.iter().all(|part| bad.stderr.contains(part)), "{line}: {}", bad.stderr);
        assert!(!bad.stderr.contains("hunter2"), "{}", bad.stderr);
    }
    let early = files.check("# note\nrpc_zmq_port = 1\n[DEFAULT]\n");
    assert_eq!(early.code(), 2);
    assert!(early.stderr.starts_with(&named) && early.stderr.contains("expected [DEFAULT]"), "{}", early.stderr);
    let missing = files.daemon(&[Path::new("/no/such.conf")], &["--check-config"], &[]);
    assert_eq!(missing.code(), 2);
    assert!(missing.stderr.starts_with("cannot read configuration file /no/such.conf: "), "{}", missing.stderr);
    let pair = files.check("[DEFAULT]\nmatchmaker_heartbeat_freq = 10\nmatchmaker_heartbeat_ttl = 10\n");
    assert_eq!(pair.code(), 2);
    assert!(
        pair.stderr.contains("matchmaker_heartbeat_freq") && pair.stderr.contains("matchmaker_heartbeat_ttl"),
        "{}",
        pair.stderr
    );
    let variable = files.daemon(&[], &["--check-config"], &[("OS_DEFAULT__RPC_ZMQ_PORT", "many")]);
    assert_eq!(variable.code(), 2);
    assert!(
        variable.stderr.starts_with("environment OS_DEFAULT__RPC_ZMQ_PORT: rpc_zmq_port = \"many\""),
        "{}",
        variable.stderr
    );
}

#[test]
fn a_flag_overrides_a_bad_value_in_a_file() {
    let files = Files::new();
    let bad = files.write("bad.conf", "[DEFAULT]\nrpc_zmq_port = 95x1\n");
    assert_eq!(files.daemon(&[&bad], &["--check-config"], &[]).code(), 2);
    assert_eq!(files.daemon(&[&bad], &["--check-config", "--port", "9501"], &[]).code(), 0);
}

#[test]
fn an_unknown_option_is_a_warning_that_names_the_nearest() {
    let files = Files::new();
    let odd = files.check("[DEFAULT]\nrpc_zmq_prt = 1\nmy_own_thing_entirely = 2\n[matchmaker_redis]\nrpc_zmq_host = x\n[oslo_messaging_zmq]\nuse_pub_sub = true\n");
    assert_eq!(odd.code(), 0, "{odd:?}");
    let lines: Vec<_> = odd.stderr.lines().filter(|line| line.contains("WARN")).collect();
    let about = |text: &str| {
        lines.iter().find(|line| line.contains(text)).unwrap_or_else(|| panic!("nothing about {text}: {odd:?}"))
    };
    assert!(
        about("rpc_zmq_prt").contains("checked.conf:2: ")
            && about("rpc_zmq_prt").contains("did you mean rpc_zmq_port?")
    );
    assert!(about("rpc_zmq_host").contains("it belongs in [DEFAULT]"));
    assert!(about("use_pub_sub").contains("not needed"));
    assert!(about("my_own_thing_entirely").contains("left to other programs"));
}

#[test]
fn a_ring_that_cannot_be_read_is_a_configuration_error() {
    let files = Files::new();
    let ring = files.write("ring.json", "{\"topic\": [\"n1\",]}");
    let flags = |ring: &Path| {
        ["--check-config".to_owned(), "--matchmaker=ring".to_owned(), format!("--set=ringfile={}", ring.display())]
    };
    let check = |ring: &Path| files.daemon(&[], &flags(ring).each_ref().map(String::as_str), &[]);
    let bad = check(&ring);
    assert_eq!(bad.code(), 2);
    assert!(bad.stderr.contains("ring.json, line 1, column"), "{}", bad.stderr);
    let missing = check(Path::new("/no/such/ring.json"));
    assert_eq!(missing.code(), 2);
    assert_eq!(missing.stderr.matches("No such file").count(), 1, "printed once: {}", missing.stderr);
}

#[test]
fn a_check_finds_what_a_start_would_refuse_without_contacting_anybody() {
    let files = Files::new();
    let file = files.write("not-a-directory", "");
    let store = files.write("no-store", "a text");
    let (file, store, dir) = (file.display(), store.display(), files.dir.path().display());
    let local = format!("[DEFAULT]\nrpc_zmq_ipc_dir = {dir}\n");
    for (text, parts) in [
        ("rpc_zmq_bind_address = 203.0.113.7\n".to_owned(), &["cannot bind", "203.0.113.7"][..]),
        ("rpc_zmq_bind_address = fe80::1%nope0\n".to_owned(), &["cannot bind", "no network interface \"nope0\""]),
        ("rpc_zmq_bind_address = fe80::1\n".to_owned(), &["checked.conf:", "fe80::1%eth0"]),
        ("rpc_zmq_bind_address = fe80::1%25eth0\n".to_owned(), &["checked.conf:", "write fe80::1%eth0"]),
        ("rpc_zmq_bind_address = [fe80::1%lo]:9501\n".to_owned(), &["checked.conf:", "rpc_zmq_port"]),
        ("rpc_zmq_host = *\n".to_owned(), &["checked.conf:", "cannot connect to it"]),
        (format!("rpc_zmq_notification_store = {store}\n"), &["is not a notification store"]),
        ("rpc_zmq_bind_address = eth0:1\n".to_owned(), &["checked.conf:", "allowed: ", "eth0"]),
        ("rpc_zmq_bind_address = no-such-host.invalid\n".to_owned(), &["no-such-host.invalid"]),
        (format!("rpc_zmq_ipc_dir = {file}/x\n"), &["socket directory"]),
        (
            "rpc_zmq_matchmaker = ring\n[matchmaker_ring]\nringfile = /no/such/ring.json\n".to_owned(),
            &["/no/such/ring.json"],
        ),
        (
            "transport_url = zmqv2+rediss://203.0.113.7\n[matchmaker_redis]\ntls_ca_file = /no/such/ca.pem\n"
                .to_owned(),
            &["/no/such/ca.pem", "tls_ca_file"],
        ),
        (
            format!("transport_url = zmqv2+rediss://203.0.113.7\n[matchmaker_redis]\ntls_ca_file = {store}\n"),
            &["no-store has no certificate", "tls_ca_file"],
        ),
        ("transport_url = zmqv2+redis://203.0.113.7\n[matchmaker_redis]\nuser = me\n".to_owned(), &["password"]),
        ("rpc_zmq_notification_store = /no/such/dir/x\n".to_owned(), &["/no/such/dir"]),
    ] {
        let text =
            if text.contains("rpc_zmq_ipc_dir") { format!("[DEFAULT]\n{text}") } else { format!("{local}{text}") };
        let finished = files.check(&text);
        assert_eq!(finished.code(), 2, "{text}: {finished:?}");
        for part in parts {
            assert!(finished.stderr.contains(part), "no {part:?} for {text}: {}", finished.stderr);
        }
    }
    // A Redis that is not there, a directory that is not there yet, and interfaces of this machine.
    let new = format!("[DEFAULT]\nrpc_zmq_ipc_dir = {dir}/new/dir\n");
    for text in [
        "",
        "transport_url = zmq+redis://127.0.0.1:1\n",
        "rpc_zmq_bind_address = lo\n",
        "rpc_zmq_bind_address = localhost\n",
    ] {
        let finished = files.check(&format!("{new}{text}"));
        assert_eq!(finished.code(), 0, "{text}: {finished:?}");
    }
    assert!(!files.dir.path().join("new").exists(), "a check creates nothing");
    // The port may be that of the running broker.
    let used = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = used.local_addr().expect("an address").port();
    assert_eq!(files.check(&format!("{local}rpc_zmq_bind_address = 127.0.0.1\nrpc_zmq_port = {port}\n")).code(), 0);
}
