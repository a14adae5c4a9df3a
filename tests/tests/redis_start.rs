//! Proves that a Redis that cannot be used stops no broker from starting, that the broker's log says
//! within seconds what to change, and that nothing waits for ever.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use zmqv2_tests::redis_server::{Redis, Sentinels, free_port, installed};
use zmqv2_tests::{Cluster, Node, Process, binary, eventually, now, skip, wait_until};

/// The slowest case: 5 s to connect, 2 s for the answer, and the time that a busy machine takes.
const AT_MOST: Duration = Duration::from_secs(11);

/// Starts a broker with these settings. It must start, and soon log one line with these words.
fn reports(settings: &[&str], words: &[&str]) {
    let settings: Vec<_> = settings.iter().map(|setting| (*setting).to_owned()).collect();
    let cluster = Cluster::with_directory(1, &settings);
    // Builds it before the time is measured.
    let _ = binary("zmqv2");
    let mut broker = cluster.node(0).broker();
    let started = now();
    let words: Vec<_> = words.iter().chain(&["[matchmaker_redis]", "transport_url"]).collect();
    let has_all = |line: &str| words.iter().all(|word| line.contains(**word));
    eventually(&format!("the log has {words:?}"), || {
        let log = broker.stderr();
        log.lines().any(has_all) || {
            assert!(started.elapsed() < AT_MOST * 3, "no line with {words:?} in:\n{log}");
            false
        }
    });
    let took = started.elapsed();
    println!("after {took:?}: {}", broker.stderr());
    assert!(took < AT_MOST, "{took:?}");
    assert!(!broker.stderr().contains("sesame"), "a password is shown: {}", broker.stderr());
    // It would wait for the directory.
    broker.kill9();
}

/// Starts a broker with these settings, which must fail and name these words.
fn fails(settings: &[&str], words: &[&str]) {
    let settings: Vec<_> = settings.iter().map(|setting| (*setting).to_owned()).collect();
    let cluster = Cluster::with_directory(1, &settings);
    // Builds it before the time is measured.
    let _ = binary("zmqv2");
    let started = now();
    let ended = cluster.node(0).tool(&["broker"]);
    let took = started.elapsed();
    println!("after {took:?}: {}", ended.stderr.trim());
    assert_eq!(ended.code(), 2, "{ended:?}");
    assert!(took < AT_MOST, "{took:?}");
    for word in words.iter().chain(&["[matchmaker_redis]", "transport_url"]) {
        assert!(ended.stderr.contains(word), "no {word:?} in: {}", ended.stderr);
    }
    assert!(!ended.stderr.contains("sesame"), "a password is shown: {}", ended.stderr);
}

fn at(port: u16) -> String {
    format!("matchmaker_redis.port={port}")
}

const REDIS: &str = "rpc_zmq_matchmaker=redis";

#[test]
fn wrong_passwords_users_and_databases_are_named() {
    if !installed("wrong_passwords_users_and_databases_are_named") {
        return;
    }
    let redis = Redis::start_with(&["--requirepass", "open sesame", "--databases", "4"]);
    let port = at(redis.port());
    let wrong = ["correct user and password in [matchmaker_redis]"];
    reports(&[REDIS, &port], &[wrong[0], "it wants a password"]);
    reports(&[REDIS, &port, "matchmaker_redis.password=sesame"], &wrong);
    reports(&[REDIS, &port, "matchmaker_redis.password=open sesame", "matchmaker_redis.user=nobody"], &wrong);
    reports(&[&format!("transport_url=zmqv2+redis://:sesame@127.0.0.1:{}/0", redis.port())], &wrong);
    reports(
        &[REDIS, &port, "matchmaker_redis.password=open sesame", "database=9"],
        &["correct database", "no database 9"],
    );
    // If Redis has no password, newer versions accept any, and older ones refuse it.
    let open = Redis::start();
    let () = open.run(&["ACL", "SETUSER", "reader", "on", ">sesame", "~*", "+@read", "+@connection", "+info"]);
    let url = format!("transport_url=zmqv2+redis://reader:sesame@127.0.0.1:{}", open.port());
    reports(&[&url], &["correct user", "lacks a permission"]);
}

#[test]
fn a_wrong_host_is_named_and_one_that_is_silent_is_not_waited_for() {
    let nobody = at(free_port());
    reports(&[REDIS, &nobody], &["cannot be reached", "correct host and port"]);
    reports(&[REDIS, "matchmaker_redis.host=no-such-host.invalid"], &["cannot be reached", "correct host and port"]);
    // The other side accepts connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = at(silent.local_addr().unwrap().port());
    reports(&[REDIS, &port], &["cannot be reached", "correct host and port"]);
    reports(&[REDIS, &port, "matchmaker_redis.password=sesame", "database=3"], &["cannot be reached"]);
    reports(&[REDIS, &port, "matchmaker_redis.tls=true"], &["cannot be reached"]);
    let sentinel = format!("127.0.0.1:{}", silent.local_addr().unwrap().port());
    let sentinels = format!("sentinel_hosts={}", [&*sentinel; 7].join(","));
    reports(&[REDIS, &sentinels], &["cannot be reached", "correct sentinel_hosts"]);
}

#[test]
fn a_redis_that_is_slow_with_every_answer_is_not_waited_for_seven_times() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = at(listener.local_addr().unwrap().port());
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut questions = BufReader::new(stream.try_clone().unwrap());
        let mut answers = stream;
        // Each single answer comes in time.
        let info = "redis_version:7.0.0\r\n";
        while let Some(command) = question(&mut questions) {
            wait_until(now() + Duration::from_millis(1_700));
            let answer = match &*command {
                "INFO" => format!("${}\r\n{info}\r\n", info.len()),
                "ROLE" => "*1\r\n$6\r\nmaster\r\n".to_owned(),
                "TIME" => "*2\r\n$10\r\n1700000000\r\n$1\r\n0\r\n".to_owned(),
                "SCRIPT" => format!("$40\r\n{}\r\n", "0".repeat(40)),
                _ => "+OK\r\n".to_owned(),
            };
            if answers.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    });
    reports(&[REDIS, &port, "database=1"], &["no answer in time", "correct host and port"]);
}

/// The first word of a command. `None`: the connection has ended.
fn question(from: &mut impl BufRead) -> Option<String> {
    let number = |from: &mut dyn BufRead| -> Option<usize> {
        let mut line = String::new();
        from.read_line(&mut line).ok()?;
        line.trim_end().get(1..)?.parse().ok()
    };
    let words: Option<Vec<String>> = (0..number(from)?)
        .map(|_| {
            let mut word = vec![0; number(from)? + 2];
            from.read_exact(&mut word).ok()?;
            Some(String::from_utf8_lossy(&word).trim_end().to_owned())
        })
        .collect();
    words?.into_iter().next()
}

#[test]
fn a_user_needs_a_password_and_what_the_documentation_says() {
    if !installed("a_user_needs_a_password_and_what_the_documentation_says") {
        return;
    }
    fails(&[REDIS, "matchmaker_redis.user=me"], &["the user \"me\" has no password", "correct user or password"]);
    let redis = Redis::start();
    let text = include_str!("../../docs/matchmaker.md");
    let block = text.split("permissions:\n\n```text\n").nth(1).expect("a block of permissions");
    let rules = block.split("```").next().unwrap().split_whitespace();
    let words = ["ACL", "SETUSER", "me", "on", ">open sesame"].into_iter().chain(rules);
    let () = redis.run(&words.collect::<Vec<_>>());
    // All other users are disabled.
    let () = redis.run(&["ACL", "SETUSER", "other", "on", ">sesame", "+info"]);
    let url = format!("transport_url=zmqv2+redis://me:open%20sesame@127.0.0.1:{}/2", redis.port());
    works(&[url, "refresh_interval=1".to_owned()]);
    let denied: Vec<redis::Value> = redis.run(&["ACL", "LOG"]);
    assert_eq!(denied, [], "something else is needed");
}

/// A server at one node registers. Another node calls it, lists it, and sees it leave.
fn works(settings: &[String]) {
    let cluster = Cluster::with_directory(2, settings);
    let _brokers: Vec<_> = cluster.nodes().iter().map(Node::broker).collect();
    let mut server = cluster.node(0).serve("t", "s", &[]);
    let told = cluster.node(1).tool(&["call", "t", "echo", "7", "--wait-for-ready"]);
    assert_eq!((told.code(), told.stdout.as_str()), (0, "7\n"), "{told:?}");
    let listed = || cluster.node(1).tool(&["topics"]).stdout;
    assert!(listed().contains("s: renewed "), "{}", listed());
    server.kill9();
    // A young directory may lack servers, which the first line says.
    eventually("it is withdrawn", || listed().ends_with("no topic is registered\n"));
}

/// A Sentinel with these lines in its file, for a server at this port.
fn sentinel(dir: &Path, group: &str, server: u16, lines: &str) -> Process {
    let file = dir.join("sentinel.conf");
    std::fs::write(&file, format!("sentinel monitor {group} 127.0.0.1 {server} 1\n{lines}")).unwrap();
    Process::start("sentinel", Command::new("redis-sentinel").arg(&file))
}

#[test]
fn a_wrong_password_of_a_sentinel_is_named_as_that() {
    if !installed("a_wrong_password_of_a_sentinel_is_named_as_that") {
        return;
    }
    let (redis, dir, port) = (Redis::start(), tempfile::tempdir().unwrap(), free_port());
    let lines = format!("bind 127.0.0.1\nport {port}\nrequirepass \"open sesame\"\ndir {}\n", dir.path().display());
    let _sentinel = sentinel(dir.path(), "group", redis.port(), &lines);
    eventually("the sentinel is there", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    let url = format!("transport_url=zmqv2+sentinel://127.0.0.1:{port}/group");
    let option = "correct sentinel_password";
    reports(&[&url], &[option, "wants a password"]);
    reports(&[&url, "sentinel_password=sesame"], &[option, "refuses this password"]);
    // The password of Redis is not that of the Sentinels.
    reports(&[&url, "matchmaker_redis.password=open sesame"], &[option]);
    works(&[url, "sentinel_password=open sesame".to_owned()]);
}

#[test]
fn a_server_that_is_not_redis_is_named_as_that() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = at(listener.local_addr().unwrap().port());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 64]);
        // The alert of a TLS server after a greeting without TLS.
        stream.write_all(&[0x15, 0x03, 0x03, 0, 2, 2, 10]).unwrap();
    });
    reports(&[REDIS, &port], &["correct tls and port"]);
    server.join().unwrap();
}

#[test]
fn a_redis_that_is_too_old_is_named_with_its_version() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = at(listener.local_addr().unwrap().port());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 64]);
        let info = "# Server\r\nredis_version:4.0.14\r\nredis_mode:standalone\r\n";
        write!(stream, "${}\r\n{info}\r\n", info.len()).unwrap();
        // Until the other side closes the connection.
        let _ = stream.read(&mut [0; 64]);
    });
    reports(&[REDIS, &port], &["4.0.14", "5.0 or later", "update it"]);
    server.join().unwrap();
}

#[test]
fn a_replica_and_an_unknown_group_are_named() {
    if !installed("a_replica_and_an_unknown_group_are_named") {
        return;
    }
    let sentinels = Sentinels::start();
    reports(&[REDIS, &at(sentinels.servers[1].port())], &["not a primary but a slave", "sentinel_hosts"]);
    let settings = sentinels.settings();
    let url = settings[0].rsplit_once('/').unwrap().0;
    reports(&[&format!("{url}/stranger")], &["no Sentinel knows a group \"stranger\"", "sentinel_group_name"]);
    // One reachable Sentinel is enough.
    let first = format!("{},127.0.0.1:{}/zmqv2-tests", url.split_once(',').unwrap().0, free_port());
    let cluster = Cluster::with_directory(1, &[first]);
    let _broker = cluster.node(0).broker();
}

/// Makes a certificate authority and its certificate for 127.0.0.1. `None`: this machine cannot
/// make them, and the test is skipped.
fn certificates(test: &str, dir: &Path) -> Option<[PathBuf; 3]> {
    if Command::new("openssl").arg("version").output().is_err() {
        skip(test, "openssl is not installed (apt-get install openssl)");
        return None;
    }
    let [ca, ca_key, cert, key, request, extensions] =
        ["ca.pem", "ca.key", "redis.pem", "redis.key", "redis.csr", "redis.ext"].map(|name| dir.join(name));
    std::fs::write(&extensions, "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n").unwrap();
    let openssl = |arguments: &[&str], files: &[(&str, &Path)]| {
        let mut command = Command::new("openssl");
        command.args(arguments);
        for (flag, file) in files {
            command.arg(flag).arg(file);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let new = ["req", "-newkey", "rsa:2048", "-nodes"];
    openssl(
        &[&new[..], &["-x509", "-days", "2", "-subj", "/CN=tests"]].concat(),
        &[("-keyout", &ca_key), ("-out", &ca)],
    );
    openssl(&[&new[..], &["-subj", "/CN=redis"]].concat(), &[("-keyout", &key), ("-out", &request)]);
    openssl(
        &["x509", "-req", "-days", "2", "-CAcreateserial"],
        &[("-in", &request), ("-CA", &ca), ("-CAkey", &ca_key), ("-extfile", &extensions), ("-out", &cert)],
    );
    Some([ca, cert, key])
}

#[test]
fn tls_works_and_a_mismatch_is_named() {
    if !installed("tls_works_and_a_mismatch_is_named") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let Some(files) = certificates("tls_works_and_a_mismatch_is_named", dir.path()) else { return };
    let [ca, cert, key] = files.each_ref().map(|file| file.to_str().unwrap());
    let tls_port = free_port();
    let tls =
        ["--tls-port", &tls_port.to_string(), "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", ca];
    let redis = Redis::start_with(&tls);
    let (plain, secure) = (at(redis.port()), at(tls_port));
    let [ca_file, cert_file, key_file] = [("tls_ca_file", ca), ("tls_cert_file", cert), ("tls_key_file", key)]
        .map(|(name, file)| format!("{name}={file}"));
    // It requires client certificates, and has no TLS at the other port.
    reports(&[REDIS, &secure], &["tls and port"]);
    reports(&[REDIS, &plain, "tls=true", &ca_file, &cert_file, &key_file], &["no answer", "tls and port"]);
    reports(&[REDIS, &secure, "tls=true", &cert_file, &key_file], &["its certificate is not trusted", "tls_ca_file"]);
    reports(&[REDIS, &secure, "tls=true", &ca_file], &["tls_cert_file"]);
    fails(&[REDIS, &secure, "tls=true", "tls_ca_file=/nowhere/ca.pem"], &["/nowhere/ca.pem", "tls_ca_file"]);
    fails(&[REDIS, &secure, "tls=true", &ca_file, &cert_file], &["tls_cert_file and tls_key_file"]);

    let files = [ca_file, cert_file, key_file];
    let with = |settings: &[String]| [settings, &files].concat();
    works(&with(&[format!("transport_url=zmqv2+rediss://127.0.0.1:{tls_port}")]));
    // The scheme alone also selects TLS.
    works(&with(&["transport_url=zmqv2+rediss://".to_owned(), "host=127.0.0.1".to_owned(), secure]));

    // The same with a Sentinel that uses TLS for everything and requires a password.
    let own = free_port();
    let lines = format!(
        "bind 127.0.0.1\nport 0\ntls-port {own}\ntls-replication yes\ntls-cert-file {cert}\ntls-key-file {key}\n\
         tls-ca-cert-file {ca}\nrequirepass sesame\ndir {}\n",
        dir.path().display()
    );
    let _sentinel = sentinel(dir.path(), "group", tls_port, &lines);
    eventually("the sentinel is there", || TcpStream::connect(("127.0.0.1", own)).is_ok());
    let url = format!("transport_url=zmqv2+sentinels://127.0.0.1:{own}/group");
    works(&with(&[url, "sentinel_password=sesame".to_owned()]));
    let plain = format!("transport_url=zmqv2+sentinel://127.0.0.1:{own}/group");
    reports(&[&plain, "sentinel_password=sesame"], &["tls and port"]);
}
