use std::path::Path;

use super::*;
use crate::config::load::layers::find;
use crate::config::{MatchmakerKind, OPTIONS};

/// Files that live as long as the test.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

/// Builds from one file, with messages that name it `nova.conf` instead of its real path.
fn from(text: &str) -> Result<Loaded, String> {
    let files = Files::new();
    let path = files.write("nova.conf", text);
    Config::builder().file(&path).build().map_err(|error| short(&files, &error.to_string()))
}

fn short(files: &Files, text: &str) -> String {
    text.replace(&format!("{}/", files.0.path().display()), "")
}

fn warnings(text: &str) -> Vec<String> {
    let files = Files::new();
    let path = files.write("nova.conf", text);
    let loaded = Config::builder().file(&path).build().unwrap();
    loaded.warnings.iter().map(|warning| short(&files, &warning.to_string())).collect()
}

fn source(loaded: &Loaded, name: &str) -> String {
    let text = find(&loaded.effective, name).source.to_string();
    let path = text.rsplit_once('/').map(|(_, file)| file.to_owned());
    path.unwrap_or(text)
}

#[test]
fn nothing_given_is_the_default() {
    let loaded = Config::builder().build().unwrap();
    assert_eq!(loaded.config, Config::default());
    assert!(loaded.warnings.is_empty());
    assert!(loaded.effective.iter().all(|option| option.source == Source::Default));
    assert_eq!(loaded.effective.len(), OPTIONS.len());
}

#[test]
fn flag_beats_environment_beats_later_file_beats_earlier_file() {
    let files = Files::new();
    let one = files.write("one.conf", "[DEFAULT]\nrpc_zmq_port = 1\nrpc_zmq_contexts = 2\ncontrol_exchange = a");
    let two = files.write("two.conf", "[oslo_messaging_zmq]\nrpc_zmq_port = 2\nrpc_zmq_port = 3");
    let builder = Config::builder().file(one).file(two);
    let loaded = builder.clone().build().unwrap();
    assert_eq!((loaded.config.port, loaded.config.io_threads), (3, 2));
    assert_eq!(source(&loaded, "rpc_zmq_port"), "two.conf:3");
    assert_eq!(source(&loaded, "control_exchange"), "one.conf:4");

    let builder = builder.environment_from([("OS_DEFAULT__RPC_ZMQ_PORT", "4"), ("PATH", "/bin")]);
    let loaded = builder.clone().build().unwrap();
    assert_eq!(loaded.config.port, 4);
    assert_eq!(source(&loaded, "rpc_zmq_port"), "environment OS_DEFAULT__RPC_ZMQ_PORT");

    let builder = builder.set("rpc_zmq_port", "5");
    assert_eq!(source(&builder.clone().build().unwrap(), "rpc_zmq_port"), "code");
    let loaded = builder.flag("--port", "DEFAULT.rpc_zmq_port", "6").build().unwrap();
    assert_eq!(loaded.config.port, 6);
    assert_eq!(source(&loaded, "rpc_zmq_port"), "flag --port");
}

#[test]
fn variables_reach_every_group() {
    let loaded = Config::builder()
        .environment_from([
            ("OS_OSLO_MESSAGING_ZMQ__RPC_ZMQ_PORT", "1"),
            ("OS_DEFAULT__RPC_ZMQ_PORT", "2"),
            ("OS_MATCHMAKER_RING__RINGFILE", "/r.json"),
            ("OS_MATCHMAKER_REDIS__PASSWORD", "pw"),
            ("OS_DEFAULT__RPC_ZMQ_PROT", "3"),
            ("OS_OTHER__RPC_ZMQ_PORT", "4"),
            ("OS_USERNAME", "admin"),
        ])
        .build()
        .unwrap();
    assert_eq!(loaded.config.port, 1, "the more specific group wins in any order");
    assert_eq!(loaded.config.ring_file, Path::new("/r.json"));
    assert_eq!(loaded.config.redis_password.unwrap().expose(), "pw");
    let texts: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        ["environment OS_DEFAULT__RPC_ZMQ_PROT: unknown option \"rpc_zmq_prot\" in [DEFAULT] is \
             ignored; did you mean rpc_zmq_port?"]
    );
}

#[test]
#[cfg(unix)]
fn variables_that_are_not_text_are_an_error_only_when_they_are_ours() {
    use std::os::unix::ffi::OsStringExt;
    let bad = || OsString::from_vec(vec![b'9', 0xff]);
    let other = Config::builder().environment_from([("LANG", bad())]).build();
    assert!(other.is_ok());
    let ours = Config::builder().environment_from([("OS_DEFAULT__RPC_ZMQ_PORT", bad())]).build();
    let text = ours.unwrap_err().to_string();
    assert!(text.starts_with("environment OS_DEFAULT__RPC_ZMQ_PORT: rpc_zmq_port = "), "{text}");
}

#[test]
fn a_bad_value_names_line_option_value_and_what_is_allowed() {
    assert_eq!(
        from("[DEFAULT]\n# x\n\n\nrpc_zmq_port = 95x1").unwrap_err(),
        "nova.conf:5: rpc_zmq_port = \"95x1\": not a number; allowed: 0 to 65535 (0 picks a free port)"
    );
    let error = Config::builder().flag("--port", "rpc_zmq_port", "70000").build().unwrap_err();
    assert_eq!(
        error.to_string(),
        "flag --port: rpc_zmq_port = \"70000\": out of range; allowed: 0 to 65535 (0 picks a free port)"
    );
    let other = from("[DEFAULT]\nrpc_zmq_matchmaker = consul").unwrap_err();
    assert!(other.contains("not a matchmaker of this version; allowed: local, ring, redis"), "{other}");
    let port = from("[matchmaker_redis]\nport = 0").unwrap_err();
    assert!(port.starts_with("nova.conf:2: [matchmaker_redis] port = \"0\": out of"), "{port}");
    let url = from("[DEFAULT]\ntransport_url = rabbit://me:hunter2@host/").unwrap_err();
    assert!(!url.contains("hunter2") && url.contains("zmqv2+local://"), "{url}");
    let secret = from("[matchmaker_redis]\npassword = hunter2\n  hunter3").unwrap_err();
    assert!(!secret.contains("hunter") && secret.contains("line break"), "{secret}");
    for bad in [
        "rpc_zmq_port =",
        "rpc_zmq_ipc_dir = relative",
        "rpc_zmq_notification_store = relative",
        &format!("rpc_zmq_ipc_dir = /{}", "x".repeat(74)),
        "rpc_zmq_host = a/b",
        "control_exchange = a b",
        "rpc_zmq_bind_address = tcp://x",
        "rpc_response_timeout = 0",
        "rpc_zmq_bind_address = a\n  b",
        "[matchmaker_ring]\nringfile =",
    ] {
        assert!(from(&format!("[DEFAULT]\n{bad}")).unwrap_err().contains("allowed: "), "{bad}");
    }
}

#[test]
fn a_later_layer_corrects_a_bad_value() {
    let files = Files::new();
    let path = files.write("nova.conf", "[DEFAULT]\nrpc_zmq_port = bad");
    assert!(Config::builder().file(path).set("rpc_zmq_port", "1").build().is_ok());
}

#[test]
fn a_missing_file_and_an_unknown_flag_are_errors() {
    let error = Config::builder().file("/nonexistent/zmqv2.conf").build().unwrap_err();
    assert!(error.to_string().contains("/nonexistent/zmqv2.conf"), "{error}");
    let error = Config::builder().flag("--ring", "ring_file", "x").build().unwrap_err();
    assert_eq!(
        error.to_string(),
        "flag --ring: there is no option \"ring_file\"; did you mean [matchmaker_ring] ringfile?"
    );
}

#[test]
fn unknown_misplaced_and_retired_options_are_warnings() {
    let text = "[DEFAULT]\ndebug = 1\nrpc_zmq_prot = 1\nhost = me\nzmq_linger = 5\nringfile = x\n\
                [oslo_messaging_zmq]\ncontrol_exchange = x\nuse_pub_sub = true\n\
                [matchmaker_redis]\nhots = x\n[matchmaker_ring]\nhost = x\n\
                [oslo_messaging_rabbit]\nrpc_conn_pool_size = 3\nunknown = 1\nzmq_linger = 1\n\
                [default]\nrpc_zmq_port = 5\n";
    let said = warnings(text);
    let expected = [
        "nova.conf:2: unknown option \"debug\" in [DEFAULT] is ignored",
        "nova.conf:3: unknown option \"rpc_zmq_prot\" in [DEFAULT] is ignored; did you mean rpc_zmq_port?",
        "nova.conf:4: unknown option \"host\" in [DEFAULT] is ignored",
        "nova.conf:5: zmq_linger is ignored, it is not needed: a sender knows",
        "nova.conf:6: ringfile in [DEFAULT] is ignored, it belongs in [matchmaker_ring]",
        "nova.conf:8: control_exchange in [oslo_messaging_zmq] is ignored, it belongs in [DEFAULT]",
        "nova.conf:9: use_pub_sub is ignored, it is not needed: a fanout",
        "nova.conf:11: unknown option \"hots\" in [matchmaker_redis] is ignored; did you mean [matchmaker_redis] host?",
        "nova.conf:13: host in [matchmaker_ring] is ignored, it belongs in [matchmaker_redis]",
        "nova.conf:19: rpc_zmq_port in [default] is ignored, it belongs in [DEFAULT]",
    ];
    assert_eq!(said.len(), expected.len(), "{said:#?}");
    for (said, expected) in said.iter().zip(expected) {
        assert!(said.starts_with(expected), "{said}");
    }
    assert_eq!(from(text).unwrap().config, Config::default());
}

#[test]
fn names_after_a_dollar_are_replaced_by_values() {
    let text = "[DEFAULT]\nmy_ip = 10.0.0.7\nrpc_zmq_host = node-$my_ip\nrpc_zmq_zone = ${other.rack}\nrpc_zmq_port = 09501\n\
                rpc_zmq_ipc_dir = $state/$rpc_zmq_port\nstate = /run/$$x/${control_exchange}\n\
                [OTHER]\nrack = r1\n[matchmaker_redis]\nhost = $my_ip\npassword = a$$b\nport = $oslo_messaging_zmq.rpc_zmq_port\n";
    let loaded = from(text).unwrap();
    let config = loaded.config;
    assert_eq!((config.host.as_str(), config.zone.unwrap().as_str()), ("node-10.0.0.7", "r1"));
    assert_eq!(config.ipc_dir.unwrap(), Path::new("/run/$x/openstack/9501"));
    assert_eq!((config.redis_host.as_str(), config.redis_port), ("10.0.0.7", 9501));
    assert_eq!(config.redis_password.unwrap().expose(), "a$b");
    assert_eq!(find(&loaded.effective, "rpc_zmq_zone").value.as_deref(), Some("r1"));
    let unknown = from("[DEFAULT]\nrpc_zmq_host = $my_ip\n").unwrap_err();
    assert!(
        unknown.starts_with("nova.conf:2: rpc_zmq_host = \"$my_ip\": $my_ip names no option that is set"),
        "{unknown}"
    );
    let circle = from("[DEFAULT]\nrpc_zmq_host = $a\na = $b\nb = $a\n").unwrap_err();
    assert!(circle.contains("contains itself"), "{circle}");
    let secret = from("[matchmaker_redis]\npassword = hun$ter2\n").unwrap_err();
    assert!(!secret.contains("hun") && !secret.contains("ter2") && secret.contains("$$"), "{secret}");
    // A flag and the environment too, but what a program sets is taken as it is.
    let flag =
        Config::builder().flag("--set", "rpc_zmq_host", "x$rpc_zmq_port").set("password", "a$b").build().unwrap();
    assert_eq!((flag.config.host.as_str(), flag.config.redis_password.unwrap().expose()), ("x9501", "a$b"));
}

#[test]
fn of_two_names_in_one_file_the_order_of_oslo_decides_with_one_warning() {
    let text = "[oslo_messaging_zmq]\nrpc_zmq_port = 1\n[DEFAULT]\nrpc_zmq_port = 2\nrpc_zmq_port = 3\n";
    assert_eq!(from(text).unwrap().config.port, 1);
    let said = warnings(text);
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(
        said[0],
        "nova.conf:4: rpc_zmq_port in [DEFAULT] has no effect, nova.conf:2 sets rpc_zmq_port and comes first"
    );
    let text = "[DEFAULT]\nmatchmaker_ringfile = /old\nrpc_thread_pool_size = 5\nexecutor_thread_pool_size = 6\n\
                [MATCHMAKER_RING]\nringfile = /new\n[Oslo_Messaging_Zmq]\nrpc_thread_pool_size = 7\n";
    let config = from(text).unwrap().config;
    assert_eq!((config.ring_file.to_str(), config.thread_pool_size), (Some("/new"), 6));
    assert_eq!(warnings(text).len(), 2, "{:?}", warnings(text));
    let alone = from("[DEFAULT]\nmatchmaker_ringfile = /old\n").unwrap();
    assert_eq!((alone.config.ring_file.to_str(), alone.warnings.len()), (Some("/old"), 0));
    // Between files, the later one wins under any name.
    let files = Files::new();
    let one = files.write("one.conf", "[oslo_messaging_zmq]\nrpc_zmq_port = 1");
    let two = files.write("two.conf", "[DEFAULT]\nrpc_zmq_port = 2");
    let loaded = Config::builder().file(one).file(two).build().unwrap();
    assert_eq!((loaded.config.port, loaded.warnings.len()), (2, 0));
}

#[test]
fn unknown_options_of_our_groups_name_the_nearest_one() {
    let said = warnings("[matchmaker_redis]\nhostname = h\nsocket_timeout = 1\n[MATCHMAKER_RING]\nfile = /x\n");
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(
        said[0].ends_with("\"hostname\" in [matchmaker_redis] is ignored; did you mean [matchmaker_redis] host?"),
        "{said:?}"
    );
    assert!(said[1].starts_with("nova.conf:3: socket_timeout is ignored, it is not needed"), "{said:?}");
    assert!(said[2].ends_with("did you mean [matchmaker_ring] ringfile?"), "{said:?}");
}

#[test]
fn an_url_of_another_driver_says_how_to_override_it() {
    let refused = from("[DEFAULT]\ntransport_url = rabbit://me:hunter2@host/\n").unwrap_err();
    for part in ["nova.conf:2", "OS_DEFAULT__TRANSPORT_URL=zmqv2://", "--set transport_url=zmqv2://"] {
        assert!(refused.contains(part) && !refused.contains("hunter2"), "{refused}");
    }
    let files = Files::new();
    let path = files.write("nova.conf", "[DEFAULT]\ntransport_url = rabbit://host/");
    let overridden = Config::builder().file(path).environment_from([("OS_DEFAULT__TRANSPORT_URL", "zmqv2://")]);
    assert_eq!(overridden.build().unwrap().config.matchmaker, MatchmakerKind::Local);
}

#[test]
fn a_list_may_have_several_lines() {
    let config = from("[matchmaker_redis]\nsentinel_hosts = a:1,\n  b,\n\tc:3\n").unwrap().config;
    assert_eq!(config.redis_sentinel_hosts.len(), 3);
}

#[test]
fn old_spellings_are_warnings() {
    let said = warnings("[DEFAULT]\nrpc_zmq_matchmaker = oslo_messaging._drivers.matchmaker_ring.MatchMakerRing\n");
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].starts_with("nova.conf:2: rpc_zmq_matchmaker = \"oslo_messaging."), "{said:?}");
    assert!(said[0].ends_with("is an old spelling, write ring"), "{said:?}");
}

#[test]
fn a_url_overrides_the_matchmaker_and_says_so() {
    let text = "[DEFAULT]\nrpc_zmq_matchmaker = local\ntransport_url = zmqv2+ring:///r.json\n\
                [matchmaker_ring]\nringfile = /other.json\n";
    let loaded = from(text).unwrap();
    assert_eq!(loaded.config.matchmaker, MatchmakerKind::Ring);
    assert_eq!(loaded.config.ring_file, Path::new("/r.json"));
    let said = warnings(text);
    assert_eq!(said.len(), 2, "{said:?}");
    assert_eq!(said[0], "nova.conf:2: rpc_zmq_matchmaker has no effect, transport_url (nova.conf:3) overrides it");
    assert!(said[1].starts_with("nova.conf:5: [matchmaker_ring] ringfile has no effect"));

    let loaded = from("[DEFAULT]\nrpc_zmq_matchmaker = ring\ntransport_url = zmqv2://\n").unwrap();
    assert_eq!(loaded.config.matchmaker, MatchmakerKind::Ring);
    assert!(loaded.warnings.is_empty());
}

#[test]
fn a_url_of_a_scheme_alone_leaves_redis_to_the_options_but_not_tls() {
    let options = "[matchmaker_redis]\nhost = h\nport = 7\nsentinel_hosts = s:1\n";
    for (url, tls) in [("zmqv2+redis://", false), ("zmqv2+rediss://", true), ("zmqv2+rediss:///", true)] {
        let config = from(&format!("[DEFAULT]\ntransport_url = {url}\n{options}")).unwrap().config;
        assert_eq!((config.matchmaker, config.redis_tls), (MatchmakerKind::Redis, tls), "{url}");
        assert_eq!((config.redis_host.as_str(), config.redis_port), ("h", 7));
        assert_eq!(config.redis_sentinel_hosts, ["s:1".parse().unwrap()], "{url}");
    }
    // One that names a host names no Sentinel.
    let config = from(&format!("[DEFAULT]\ntransport_url = zmqv2+rediss://other\n{options}")).unwrap().config;
    assert_eq!((config.redis_host.as_str(), config.redis_sentinel_hosts.len()), ("other", 0));
    let refused = from(&format!("[DEFAULT]\ntransport_url = zmqv2+sentinels://\n{options}")).unwrap_err();
    assert!(refused.contains("it names no Sentinels"), "{refused}");
}

#[test]
fn an_empty_value_unsets_what_can_be_unset() {
    let loaded = from("[DEFAULT]\nrpc_zmq_topic_backlog = 5\nrpc_zmq_topic_backlog =\nrpc_zmq_host =\n").unwrap();
    assert_eq!(loaded.config, Config::default());
    assert_eq!(find(&loaded.effective, "rpc_zmq_topic_backlog").value, None);
    let host = find(&loaded.effective, "rpc_zmq_host").value.clone();
    assert_eq!(host.as_deref(), Some(loaded.config.host.as_str()));
}

#[test]
fn values_that_do_not_go_together_are_both_named() {
    assert_eq!(
        from("\n[DEFAULT]\nmatchmaker_heartbeat_ttl = 300").unwrap_err(),
        "matchmaker_heartbeat_ttl = 300 (nova.conf:3) must be greater than \
         matchmaker_heartbeat_freq = 300 (default): a registration would end before it is renewed"
    );
    let error = from("[DEFAULT]\nrpc_zmq_max_message_bytes = 268435457").unwrap_err();
    assert!(error.contains("rpc_zmq_backlog_bytes = 268435456 (default) must be at least"), "{error}");
}

#[test]
fn secrets_are_in_no_text_of_what_was_loaded() {
    let loaded = from("[matchmaker_redis]\npassword = hunter2").unwrap();
    assert_eq!(find(&loaded.effective, "password").value.as_deref(), Some("***"));
    assert!(!format!("{loaded:?}").contains("hunter2"));
}

#[test]
fn names_see_their_own_group_first_and_secrets_stay_hidden() {
    let text = "[DEFAULT]\nrpc_zmq_port = 1\ncontrol_exchange = $matchmaker_redis.password\n[oslo_messaging_zmq]\nrpc_zmq_port = 7\n\
                [matchmaker_redis]\npassword = hunter2\nuser = $rpc_zmq_port-$oslo_messaging_zmq.rpc_zmq_port-$my_ip\n";
    let files = Files::new();
    let builder = |text: &str| {
        Config::builder().environment_from([("OS_DEFAULT__MY_IP", "10.0.0.7")]).file(files.write("nova.conf", text))
    };
    let loaded = builder(text).build().unwrap();
    assert_eq!(loaded.config.redis_user.as_deref(), Some("1-7-10.0.0.7"));
    assert_eq!(loaded.config.control_exchange.as_str(), "hunter2");
    assert!(!format!("{:?}", loaded.effective).contains("hunter2"));
    // A flag has no group.
    let flag = builder(text).flag("--port", "rpc_zmq_port", "9").build().unwrap();
    assert_eq!(flag.config.redis_user.as_deref(), Some("9-9-10.0.0.7"));
    let refused = builder(&text.replace("hunter2", "hunter 2/")).build().unwrap_err().to_string();
    assert!(!refused.contains("hunter"), "{refused}");
}
