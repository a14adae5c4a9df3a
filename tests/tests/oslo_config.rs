//! Proves that files mean here what they mean in oslo.config. Random files are read by both. Where
//! oslo.config is not installed, only the recorded answers are compared.
//!
//! `BLESS=1` records the answers again. `ZMQV2_SEED` is the first seed of the random files, and
//! `ZMQV2_SEEDS` their number.

use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use zmqv2_proto::Config;
use zmqv2_tests::skip;

type Answers = Vec<Value>;

const RECORDED_CASES: usize = 150;
const CASES: usize = 400;
/// Ends a file. The next one wins.
const NEXT_FILE: &str = "#### next file\n";

/// Files that zmqv2 and oslo.config once read differently, and others of their kind.
const NAMED: &[(&str, &str)] = &[
    (
        "a name from DEFAULT does not see the newer group",
        "[oslo_messaging_zmq]\nrpc_zmq_contexts = 10\n[DEFAULT]\nrpc_thread_pool_size = $rpc_zmq_contexts\n",
    ),
    (
        "a name from another group means DEFAULT",
        "[matchmaker_ring]\nringfile = /b/$rpc_zmq_port\n[oslo_messaging_zmq]\nrpc_zmq_port = 7\n",
    ),
    (
        "a newer name keeps its group",
        "[oslo_messaging_zmq]\nrpc_zmq_port = $rpc_zmq_contexts\n[DEFAULT]\nmatchmaker_ringfile = /b/$rpc_zmq_port\n",
    ),
    (
        "a name from DEFAULT means what DEFAULT sets",
        "[DEFAULT]\nrpc_zmq_host = first\ncontrol_exchange = $rpc_zmq_host\n[oslo_messaging_zmq]\nrpc_zmq_host = $1\n",
    ),
    (
        "a group and a name mean what is in effect",
        "[DEFAULT]\nrpc_zmq_port = 1\ncontrol_exchange = $oslo_messaging_zmq.rpc_zmq_port\n[oslo_messaging_zmq]\nrpc_zmq_port = 7\n",
    ),
    (
        "a value of an option of two groups looks in the newer one",
        "[DEFAULT]\nrpc_zmq_port = $rpc_zmq_contexts\n[oslo_messaging_zmq]\nrpc_zmq_contexts = 5\n",
    ),
    (
        "a value that is overridden is still checked where it is used",
        "[DEFAULT]\nrpc_zmq_port = x\ncontrol_exchange = $rpc_zmq_port\n[oslo_messaging_zmq]\nrpc_zmq_port = 7\n",
    ),
    (
        "a number is written as a number after its names are replaced",
        "[DEFAULT]\nrpc_zmq_contexts = 02\nrpc_zmq_port = 00$rpc_zmq_contexts\ncontrol_exchange = $rpc_zmq_port\n",
    ),
    ("seconds are a number", "[DEFAULT]\nrpc_response_timeout = 0030\ncontrol_exchange = $rpc_response_timeout\n"),
    ("truth has one form", "[DEFAULT]\ncontrol_exchange = $matchmaker_redis.tls\n[matchmaker_redis]\ntls = on\n"),
    ("a list has the form of Python", "[matchmaker_redis]\npassword = $sentinel_hosts\nsentinel_hosts = a:1,\n  b:2\n"),
    ("DEFAULT is no group", "[DEFAULT]\nmy_ip = a\ncontrol_exchange = $DEFAULT.my_ip\n"),
    ("groups in names have their case", "[DEFAULT]\ncontrol_exchange = $OSLO_MESSAGING_ZMQ.rpc_zmq_port\n"),
    (
        "an old name means its option",
        "[DEFAULT]\ncontrol_exchange = $rpc_thread_pool_size\n[oslo_messaging_zmq]\nrpc_thread_pool_size = 9\n",
    ),
    (
        "an old name in DEFAULT does not see the new group",
        "[DEFAULT]\ncontrol_exchange = x$matchmaker_redis.host\n[matchmaker_redis]\npassword = $matchmaker_ringfile\n[matchmaker_ring]\nringfile = /x\n",
    ),
    (
        "the new name of an old one is read in DEFAULT",
        "[matchmaker_redis]\npassword = $matchmaker_ringfile\n[DEFAULT]\nringfile = /q\n",
    ),
    ("a name may not end with a point", "[DEFAULT]\nmy_ip = a\ncontrol_exchange = $my_ip.\n"),
    ("some letters are letters for Python alone", "[DEFAULT]\ncontrol_exchange = $\u{17f}x\n"),
    ("other letters end a name", "[DEFAULT]\nmy_ip = a\n[matchmaker_redis]\npassword = $my_ip\u{c9}$\u{c9}\n"),
    ("a group is no option", "[DEFAULT]\ncontrol_exchange = $matchmaker_redis\n"),
    ("a name of an option of another group is unknown", "[DEFAULT]\ncontrol_exchange = $oslo_messaging_zmq.my_ip\n"),
    (
        "the last file is asked first",
        "[oslo_messaging_zmq]\nrpc_zmq_port = 1\ncontrol_exchange = a\n#### next file\n[DEFAULT]\nrpc_zmq_port = 2\n[matchmaker_redis]\npassword = $rpc_zmq_port-$oslo_messaging_zmq.rpc_zmq_port\n",
    ),
    ("a value needs a group", "rpc_zmq_port = 1\n[DEFAULT]\nmy_ip = a\n"),
    (
        "a value of an earlier file sees the later one",
        "[matchmaker_redis]\npassword = $rpc_zmq_port\n#### next file\n[DEFAULT]\nrpc_zmq_port = 2\n",
    ),
];

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oslo_config").join(name)
}

/// Random numbers that are the same in each run (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.roll(of.len())]
    }
}

const NUMBERS: &[&str] =
    &["7", "0012", " 40 ", "+3", "1_0", "\"21\"", "x", "-1", "$rpc_zmq_contexts", "70000", "1__0", "5.0"];
const TEXTS: &[&str] = &[
    "node-7",
    "\"quoted\"",
    "'single'",
    "\"half",
    "a=b:c",
    "a#b",
    "$my_ip",
    "${my_ip}",
    "x${control_exchange}y",
    "$$x",
    "a$",
    "$1",
    "\\$my_ip",
    "$rpc_zmq_port",
    "$oslo_messaging_zmq.rpc_zmq_port",
    "$matchmaker_redis.host",
    "$nothing",
    "$nothing.at.all",
    "$rpc_zmq_host",
    "a$$b$$",
    "$rpc_response_timeout",
    "$matchmaker_redis.tls",
    "$oslo_messaging_zmq.rpc_zmq_host",
    "$control_exchange-$my_ip",
    "$matchmaker_ringfile",
    "$matchmaker_ring.ringfile",
    "$DEFAULT.my_ip",
    "$executor_thread_pool_size",
    "$OSLO_MESSAGING_ZMQ.rpc_zmq_port",
    "two\n  lines",
];
const PATHS: &[&str] = &["/a", "/b/$rpc_zmq_port", "\"/c d\"", "/x/$my_ip", "/$$", "/d/${matchmaker_redis.port}"];
const BOOLEANS: &[&str] = &["true", "True", "ON", "no", "0", "1", "maybe", "yes", "\"off\""];
const LISTS: &[&str] = &["a:1", "a:1, b:2", "a:1,\n  b:2", "a:1,\n\tb:2,\n c:3", "$my_ip:4"];
const GROUPS: &[&str] = &[
    "DEFAULT",
    "oslo_messaging_zmq",
    "matchmaker_redis",
    "matchmaker_ring",
    "OSLO_MESSAGING_ZMQ",
    "Matchmaker_Redis",
    "default",
    "other",
];

/// A file with options of every kind, names in every group, comments and mistakes.
fn random_file(dice: &mut Dice) -> String {
    // oslo.config knows the option of the other program even where no file sets it, and the default
    // of the host is the name of the machine.
    let first = dice.one(&["", "", "", "", "# note\n", "\n; note\n", "early = 1\n"]);
    let mut text = format!("{first}[DEFAULT]\nmy_ip = 10.1.1.1\nrpc_zmq_host = first\n");
    for _ in 0..1 + dice.roll(4) {
        text += dice.one(&["", "", "", "", "", "", "", NEXT_FILE]);
        text += &format!("[{}]\n", dice.one(GROUPS));
        for _ in 0..dice.roll(5) {
            let (name, value) = match dice.roll(14) {
                0 | 1 => ("rpc_zmq_port", dice.one(NUMBERS)),
                2 => ("rpc_zmq_contexts", dice.one(NUMBERS)),
                3 => (
                    "rpc_response_timeout",
                    dice.one(&["7", "\"9\"", "0030", "$rpc_zmq_port", "$executor_thread_pool_size"]),
                ),
                4 => ("rpc_thread_pool_size", dice.one(NUMBERS)),
                5 => ("executor_thread_pool_size", dice.one(NUMBERS)),
                6 => ("rpc_zmq_host", dice.one(TEXTS)),
                7 => ("control_exchange", dice.one(TEXTS)),
                8 => ("my_ip", dice.one(&["10.0.0.7", "$rpc_zmq_port", "h-${rpc_zmq_contexts}", "$my_ip"])),
                9 => ("ringfile", dice.one(PATHS)),
                10 => ("matchmaker_ringfile", dice.one(PATHS)),
                11 => ("password", dice.one(TEXTS)),
                12 => ("tls", dice.one(BOOLEANS)),
                _ => ("sentinel_hosts", dice.one(LISTS)),
            };
            text += name;
            text += dice.one(&["=", " = ", ": ", " : ", "= "]);
            text += value;
            text += dice.one(&["\n", "\n\n", "   \n", "\n# note\n", "\r\n"]);
        }
        text += dice.one(&[
            "",
            "",
            "",
            "",
            "",
            "",
            "",
            "",
            "# note\n",
            "; note\n",
            "junk\n",
            " indented\n",
            "[broken\n",
            "= 1\n",
        ]);
    }
    text
}

fn files(count: usize, seed: u64) -> Vec<String> {
    let mut dice = Dice(seed);
    (0..count).map(|_| random_file(&mut dice)).collect()
}

/// What zmqv2 reads, in the form of the oracle.
fn ours(dir: &Path, text: &str, names: &[String]) -> Value {
    let mut builder = Config::builder();
    for (index, text) in text.split(NEXT_FILE).enumerate() {
        let path = dir.join(format!("x{index}.conf"));
        std::fs::write(&path, text).expect("a file");
        builder = builder.file(path);
    }
    let Ok(loaded) = builder.build() else { return Value::Null };
    let value = |name: &str| {
        let config = &loaded.config;
        let shown = loaded.effective.iter().find(|one| one.name == name).and_then(|one| one.value.clone());
        let shown = shown.unwrap_or_default();
        match name {
            "password" => config.redis_password.as_ref().map_or_else(String::new, |it| it.expose().to_owned()),
            "rpc_zmq_port" => config.port.to_string(),
            "port" => config.redis_port.to_string(),
            "rpc_zmq_contexts" => config.io_threads.to_string(),
            "rpc_thread_pool_size" => config.thread_pool_size.to_string(),
            "rpc_response_timeout" => config.response_timeout.as_secs().to_string(),
            "tls" => if config.redis_tls { "True" } else { "False" }.to_owned(),
            "sentinel_hosts" => {
                config.redis_sentinel_hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
            }
            "rpc_zmq_host"
                if loaded.effective.iter().any(|one| one.name == name && one.source.to_string() == "default") =>
            {
                "localhost".to_owned()
            }
            _ => shown,
        }
    };
    names.iter().map(|name| (name.clone(), Value::from(value(name)))).collect()
}

/// A value that oslo.config takes and zmqv2 refuses, because it has a stricter type: a name has no
/// spaces or slashes, and counts have bounds.
fn stricter(theirs: &Value) -> bool {
    let text = |name: &str| theirs[name].as_str().unwrap_or_default();
    let number = |name: &str| text(name).parse::<i64>().unwrap_or(-1);
    let name_ok = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() && c != '/' && c != '\\');
    !(1..=4096).contains(&number("rpc_thread_pool_size"))
        || !(1..=4_294_967).contains(&number("rpc_response_timeout"))
        || !name_ok(text("rpc_zmq_host"))
        || !name_ok(text("control_exchange"))
        || theirs
            .as_object()
            .is_some_and(|all| all.values().any(|text| text.as_str().is_some_and(|text| text.contains('\n'))))
        || text("sentinel_hosts")
            .split(',')
            .any(|host| !host.is_empty() && host.parse::<zmqv2_proto::TcpAddress>().is_err())
}

fn compare(what: &str, files: &[String], answers: &[Value]) {
    let dir = tempfile::tempdir().expect("a directory");
    let names = answers.iter().find_map(Value::as_object).expect("an answer").keys().cloned().collect::<Vec<_>>();
    let mut read = 0;
    for (text, theirs) in files.iter().zip(answers) {
        let ours = ours(dir.path(), text, &names);
        if ours.is_null() && !theirs.is_null() && stricter(theirs) {
            continue;
        }
        read += usize::from(!theirs.is_null());
        assert_eq!(&ours, theirs, "{what}; left: zmqv2, right: oslo.config, of this file:\n{text}\n");
    }
    assert!(read * 5 > files.len(), "only {read} of {} files were valid", files.len());
}

/// A Python with oslo.config: the one of `.ci/run`, or that of the system.
fn oracle() -> Option<Command> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/oslo/bin/python3");
    [own, PathBuf::from("python3")].into_iter().find_map(|python| {
        let mut probe = Command::new(&python);
        let found = probe.args(["-c", "import oslo_config"]).stderr(Stdio::null()).status();
        found.is_ok_and(|status| status.success()).then(|| Command::new(python))
    })
}

fn asked(oracle: &mut Command, files: &[String]) -> Answers {
    let mut child = oracle
        .arg(file("oracle.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let input = serde_json::to_vec(files).expect("JSON");
    child.stdin.take().expect("a pipe").write_all(&input).expect("it reads all of its input");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn recorded_files_mean_what_they_mean_in_oslo_config() {
    let recorded = file("recorded.json");
    let named = NAMED.iter().map(|(_, text)| (*text).to_owned());
    let files: Vec<_> = named.chain(files(RECORDED_CASES, 0x5eed)).collect();
    if std::env::var_os("BLESS").is_some()
        && let Some(mut oracle) = oracle()
    {
        let answers = asked(&mut oracle, &files);
        let cases: Vec<_> =
            files.iter().zip(answers).map(|(text, values)| json!({"file": text, "values": values})).collect();
        std::fs::write(&recorded, serde_json::to_string_pretty(&cases).expect("JSON") + "\n").expect("a file");
    }
    let cases: Vec<Value> = serde_json::from_slice(&std::fs::read(recorded).expect("a file")).expect("JSON");
    let (files, answers): (Vec<_>, Vec<_>) =
        cases.iter().map(|case| (case["file"].as_str().expect("a text").to_owned(), case["values"].clone())).unzip();
    assert!(NAMED.iter().map(|(_, text)| *text).eq(files.iter().take(NAMED.len())), "record the named files: BLESS=1");
    compare("recorded", &files, &answers);
}

#[test]
fn random_files_mean_what_they_mean_in_oslo_config() {
    let Some(mut oracle) = oracle() else {
        return skip("random_files_mean_what_they_mean_in_oslo_config", "oslo.config is not installed");
    };
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    // Every run draws other files.
    let drawn = || RandomState::new().hash_one(()) % 1_000_000_000 + 1;
    let first = number("ZMQV2_SEED").unwrap_or_else(drawn);
    for seed in first..first + number("ZMQV2_SEEDS").unwrap_or(1) {
        let files = files(CASES, seed);
        compare(&format!("ZMQV2_SEED={seed}"), &files, &asked(&mut oracle, &files));
    }
}
