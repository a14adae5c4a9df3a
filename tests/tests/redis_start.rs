//! A Redis that cannot be used is an error at the start, which says what to change; never a wait without end.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use zmqv2_tests::redis_server::{Redis, Sentinels, free_port, installed};
use zmqv2_tests::{Cluster, Node, binary, now, skip};

/// Two attempts at the slowest: to connect, and to be answered.
const AT_MOST: Duration = Duration::from_secs(15);

/// Starts a broker with these settings, which must fail and name these words.
fn fails(settings: &[&str], words: &[&str]) {
    let settings: Vec<_> = settings.iter().map(|setting| (*setting).to_owned()).collect();
    let cluster = Cluster::with_directory(1, &settings);
    // Building it is no part of its start.
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
    fails(&[REDIS, &port], &[wrong[0], "it wants a password"]);
    fails(&[REDIS, &port, "matchmaker_redis.password=sesame"], &wrong);
    fails(&[REDIS, &port, "matchmaker_redis.password=open sesame", "matchmaker_redis.user=nobody"], &wrong);
    fails(&[&format!("transport_url=zmqv2+redis://:sesame@127.0.0.1:{}/0", redis.port())], &wrong);
    fails(
        &[REDIS, &port, "matchmaker_redis.password=open sesame", "database=9"],
        &["correct database", "no database 9"],
    );
    // Without a password there, one is no harm in newer versions of Redis, and refused by older ones.
    let open = Redis::start();
    let () = open.run(&["ACL", "SETUSER", "reader", "on", ">sesame", "~*", "+@read", "+@connection", "+info"]);
    let url = format!("transport_url=zmqv2+redis://reader:sesame@127.0.0.1:{}", open.port());
    fails(&[&url], &["correct user", "may not do what is needed"]);
}

#[test]
fn a_wrong_host_is_named_and_one_that_is_silent_is_not_waited_for() {
    let nobody = at(free_port());
    fails(&[REDIS, &nobody], &["cannot be reached", "correct host and port"]);
    fails(&[REDIS, "matchmaker_redis.host=no-such-host.invalid"], &["cannot be reached", "correct host and port"]);
    // Connections are taken, and nothing is ever said.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = at(silent.local_addr().unwrap().port());
    fails(&[REDIS, &port], &["cannot be reached", "correct host and port"]);
    fails(&[REDIS, &port, "matchmaker_redis.password=sesame", "database=3"], &["cannot be reached"]);
    fails(&[REDIS, &port, "matchmaker_redis.tls=true"], &["cannot be reached"]);
    let sentinel = format!("sentinel_hosts=127.0.0.1:{0},127.0.0.1:{0}", silent.local_addr().unwrap().port());
    fails(&[REDIS, &sentinel], &["cannot be reached", "correct sentinel_hosts"]);
}

#[test]
fn what_is_no_redis_is_said_to_be_none() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = at(listener.local_addr().unwrap().port());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 64]);
        // The alert of a TLS server that was not greeted in TLS.
        stream.write_all(&[0x15, 0x03, 0x03, 0, 2, 2, 10]).unwrap();
    });
    fails(&[REDIS, &port], &["correct tls and port"]);
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
        // Until the other side has had enough.
        let _ = stream.read(&mut [0; 64]);
    });
    fails(&[REDIS, &port], &["4.0.14", "5.0 or later", "update it"]);
    server.join().unwrap();
}

#[test]
fn a_replica_and_an_unknown_group_are_named() {
    if !installed("a_replica_and_an_unknown_group_are_named") {
        return;
    }
    let sentinels = Sentinels::start();
    fails(&[REDIS, &at(sentinels.servers[1].port())], &["no primary but a slave", "sentinel_hosts"]);
    let settings = sentinels.settings();
    let url = settings[0].rsplit_once('/').unwrap().0;
    fails(&[&format!("{url}/stranger")], &["no Sentinel knows a group \"stranger\"", "sentinel_group_name"]);
    // One of them is enough.
    let first = format!("{},127.0.0.1:{}/zmqv2-tests", url.split_once(',').unwrap().0, free_port());
    let cluster = Cluster::with_directory(1, &[first]);
    let _broker = cluster.node(0).broker();
}

/// Makes an authority, and a certificate of it for 127.0.0.1.
fn certificates(dir: &Path) -> Option<[PathBuf; 3]> {
    let [ca, ca_key, cert, key, request, extensions] =
        ["ca.pem", "ca.key", "redis.pem", "redis.key", "redis.csr", "redis.ext"].map(|name| dir.join(name));
    std::fs::write(&extensions, "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n").unwrap();
    let openssl = |arguments: &[&str], files: &[(&str, &Path)]| {
        let mut command = Command::new("openssl");
        command.args(arguments);
        for (flag, file) in files {
            command.arg(flag).arg(file);
        }
        command.output().is_ok_and(|output| output.status.success())
    };
    let new = ["req", "-newkey", "rsa:2048", "-nodes"];
    let made = openssl(
        &[&new[..], &["-x509", "-days", "2", "-subj", "/CN=tests"]].concat(),
        &[("-keyout", &ca_key), ("-out", &ca)],
    ) && openssl(&[&new[..], &["-subj", "/CN=redis"]].concat(), &[("-keyout", &key), ("-out", &request)])
        && openssl(
            &["x509", "-req", "-days", "2", "-CAcreateserial"],
            &[("-in", &request), ("-CA", &ca), ("-CAkey", &ca_key), ("-extfile", &extensions), ("-out", &cert)],
        );
    made.then_some([ca, cert, key])
}

#[test]
fn tls_works_and_a_mismatch_is_named() {
    if !installed("tls_works_and_a_mismatch_is_named") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let Some(files) = certificates(dir.path()) else {
        return skip("tls_works_and_a_mismatch_is_named", "openssl is not installed");
    };
    let [ca, cert, key] = files.each_ref().map(|file| file.to_str().unwrap());
    let tls_port = free_port();
    let tls =
        ["--tls-port", &tls_port.to_string(), "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", ca];
    let redis = Redis::start_with(&tls);
    let (plain, secure) = (at(redis.port()), at(tls_port));
    let [ca_file, cert_file, key_file] = [("tls_ca_file", ca), ("tls_cert_file", cert), ("tls_key_file", key)]
        .map(|(name, file)| format!("{name}={file}"));
    // It wants a certificate of its clients, too, and speaks no TLS at the other port.
    fails(&[REDIS, &secure], &["tls and port"]);
    fails(&[REDIS, &plain, "tls=true", &ca_file, &cert_file, &key_file], &["no answer", "tls and port"]);
    fails(&[REDIS, &secure, "tls=true", &cert_file, &key_file], &["its certificate is not trusted", "tls_ca_file"]);
    fails(&[REDIS, &secure, "tls=true", &ca_file], &["tls_cert_file"]);
    fails(&[REDIS, &secure, "tls=true", "tls_ca_file=/nowhere/ca.pem"], &["/nowhere/ca.pem", "tls_ca_file"]);
    fails(&[REDIS, &secure, "tls=true", &ca_file, &cert_file], &["tls_cert_file and tls_key_file"]);

    let url = format!("transport_url=zmqv2+rediss://127.0.0.1:{tls_port}");
    let cluster = Cluster::with_directory(2, &[url, ca_file, cert_file, key_file]);
    let _brokers: Vec<_> = cluster.nodes().iter().map(Node::broker).collect();
    let _server = cluster.node(0).serve("t", "s", &[]);
    let told = cluster.node(1).tool(&["call", "t", "echo", "7", "--wait-for-ready"]);
    assert_eq!((told.code(), told.stdout.as_str()), (0, "7\n"), "{told:?}");
}
