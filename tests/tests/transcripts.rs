//! The commands in README.md and `docs/*.md` work, and print what the pages show.
//!
//! A page has its commands in `console` blocks: each after `$`, followed by its output. The commands
//! of a page run in one shell, from top to bottom, on a node of their own (`node-1`). A command whose
//! output begins with `ready` stays in the background. Its log lines may be left out.
//!
//! A comment before a block changes that: `<!-- run with Redis -->`, or `<!-- not run: why -->`. A
//! block such as `ini zmqv2.conf` is a file that the commands use. `BLESS=1` writes the output of
//! the commands into the pages.

use std::fmt::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;
use zmqv2_tests::redis_server::installed;
use zmqv2_tests::{Process, binary, in_namespaces, skip};

/// Pages whose commands are indented, because they take minutes or change a running system. The tests
/// named here run short forms of them.
const HELD_ELSEWHERE: [(&str, &str); 4] = [
    ("comparison", "compare.rs"),
    ("migrating", "side_by_side.rs"),
    ("performance", "bench.rs"),
    ("reliability", "checked.rs"),
];
/// The languages of blocks that are no commands.
const OTHER_LANGUAGES: [&str; 5] = ["ini", "json", "rust", "text", "toml"];
const WITH_REDIS: &str = "run with Redis";
const NOT_RUN: &str = "not run: ";
/// The exit code of a script whose command did not print `ready` in time.
const NOT_READY: i32 = 8;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The pages of the book, as paths in the repository.
fn pages() -> Vec<String> {
    let entries = std::fs::read_dir(root().join("docs")).expect("docs");
    let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    let mut pages: Vec<_> = names.filter(|name| name.ends_with(".md")).map(|name| format!("docs/{name}")).collect();
    pages.sort_unstable();
    pages
}

/// A block of code in a page.
#[derive(Debug, Default)]
struct Block {
    /// The words after the opening fence; empty for an indented block.
    info: String,
    /// The comment before it.
    mark: Option<String>,
    /// The line of the page at which its text begins, from 0.
    start: usize,
    lines: Vec<String>,
}

impl Block {
    fn language(&self) -> &str {
        self.info.split(' ').next().unwrap_or_default()
    }

    /// The name of the file that this block shows.
    fn file(&self) -> Option<&str> {
        self.info.split_once(' ').map(|(_, name)| name)
    }

    /// Its commands with their output.
    fn steps(&self) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::new();
        for (n, line) in (self.start..).zip(&self.lines) {
            match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => {
                    steps.push(Step { command: command.to_owned(), shown: Vec::new(), at: n + 1..n + 1 });
                }
                (None, Some(step)) => {
                    step.shown.push(line.clone());
                    step.at.end = n + 1;
                }
                (None, None) => {}
            }
        }
        steps
    }
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    let mut before = "";
    for (n, line) in page.lines().enumerate() {
        match &mut open {
            Some(block) if !block.info.is_empty() && line == "```" => blocks.extend(open.take()),
            Some(block) if !block.info.is_empty() => block.lines.push(line.to_owned()),
            Some(block) if line.starts_with("    ") => block.lines.push(line.to_owned()),
            Some(_) if !line.trim().is_empty() => blocks.extend(open.take()),
            Some(_) => {}
            None => {
                let mark = before.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->")).map(str::to_owned);
                if let Some(info) = line.strip_prefix("```") {
                    let info = if info.is_empty() { "?" } else { info }.to_owned();
                    open = Some(Block { info, mark, start: n + 1, lines: Vec::new() });
                } else if line.starts_with("    ") && before.is_empty() {
                    open = Some(Block { mark, start: n, lines: vec![line.to_owned()], ..Block::default() });
                }
            }
        }
        before = line;
    }
    blocks.extend(open);
    blocks
}

/// A command, and its output as a page shows it.
#[derive(Debug)]
struct Step {
    command: String,
    shown: Vec<String>,
    /// The lines of the page with the output, from 0.
    at: Range<usize>,
}

impl Step {
    fn stays(&self) -> bool {
        self.shown.first().is_some_and(|line| line.starts_with("ready"))
    }
}

/// One step after the other. The output of step `n` is in file `out.n`, its exit code in `code.n`.
fn script(steps: &[Step], redis: bool) -> String {
    let mut script = "trap 'kill $all; wait' EXIT\necho node-1 >/proc/sys/kernel/hostname\nlast=0\n".to_owned();
    if redis {
        // Brings up the loopback interface; `ip` is not installed everywhere.
        script += "perl -e 'socket(S,2,2,0);$up=pack(\"a16s\",\"lo\",1);ioctl(S,0x8914,$up) or die $!' || exit 9\n\
                   redis-server --save '' >redis 2>&1 & all=$!\n\
                   until grep -q 'Ready to accept' redis; do kill -0 $! || exit 9; sleep 0.01; done\n";
    }
    for (n, step) in steps.iter().enumerate() {
        let Step { command, shown, .. } = step;
        let written = if step.stays() {
            let lines = shown.len();
            writeln!(
                script,
                "{command} >out.{n} 2>&1 & all=\"$all $!\"; tries=0\n\
                 until grep -q ^ready out.{n} && [ $(wc -l <out.{n}) -ge {lines} ]; do\n\
                 kill -0 $! || break; tries=$((tries + 1)); [ $tries -lt 1000 ] || exit {NOT_READY}; sleep 0.01; done"
            )
        } else {
            // `$?` of a command is the exit code of the one before.
            writeln!(script, "(exit $last); {{ {command}\n}} >out.{n} 2>&1; last=$?; echo $last >code.{n}")
        };
        written.expect("a String takes every text");
    }
    script + "exit 0\n"
}

/// A directory in which steps have run.
struct Ran {
    dir: TempDir,
    complete: bool,
}

impl Ran {
    /// Runs the steps; `None`: there are no namespaces here.
    fn new(what: &str, steps: &[Step], files: &[(&str, String)], redis: bool) -> Option<Self> {
        let dir = tempfile::Builder::new().prefix("zq").tempdir().expect("a temporary directory");
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("a file");
        files.iter().for_each(|(name, text)| write(name, text));
        write("walk", &script(steps, redis));
        let mut walk = in_namespaces("unshare --uts sh walk")?;
        let programs = binary("zmqv2");
        let programs = programs.parent().expect("a directory").display();
        walk.env("PATH", format!("{programs}:{}", std::env::var("PATH").expect("a PATH")));
        without_options(&mut walk);
        let finished = Process::run(walk.current_dir(dir.path()));
        assert!([0, NOT_READY].contains(&finished.code()), "{what}: {finished:?}");
        Some(Self { dir, complete: finished.code() == 0 })
    }

    fn started(&self, n: usize) -> bool {
        self.dir.path().join(format!("out.{n}")).exists()
    }

    fn output(&self, n: usize) -> String {
        std::fs::read_to_string(self.dir.path().join(format!("out.{n}"))).unwrap_or_default()
    }

    fn code(&self, n: usize) -> String {
        std::fs::read_to_string(self.dir.path().join(format!("code.{n}"))).unwrap_or_default().trim().to_owned()
    }
}

/// The environment of the tests configures no node.
fn without_options(command: &mut Command) {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("OS_")) {
        command.env_remove(name);
    }
}

/// Whole numbers after these texts differ from run to run.
const BEFORE_A_NUMBER: [&str; 3] = ["process ", "\"ok\":", "ok "];

/// A line without the parts that differ from run to run: fractions, ids, dates and times, and some
/// whole numbers. Runs of spaces become one.
fn fixed(line: &str) -> String {
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut fixed = String::new();
    let mut rest = line.as_str();
    while !rest.is_empty() {
        let length = rest.find(|c: char| !(c.is_ascii_hexdigit() || ".:-".contains(c))).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(length);
        let value = word.trim_matches(|c| ".:-".contains(c));
        let number = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
        let (start, end) = word.split_at(word.find(value).unwrap_or(0));
        fixed += start;
        if varies(value) || number && BEFORE_A_NUMBER.iter().any(|text| fixed.ends_with(text)) {
            fixed += &end.replacen(value, "#", 1);
        } else {
            fixed += end;
        }
        let next = behind.chars().next();
        fixed.extend(next);
        rest = &behind[next.map_or(0, char::len_utf8)..];
    }
    fixed
}

fn varies(word: &str) -> bool {
    let only = |allowed: &str| word.chars().all(|c| c.is_ascii_digit() || allowed.contains(c));
    let count = |c: char| word.matches(c).count();
    word.len() == 36 && count('-') == 4
        || only(".") && count('.') > 0
        || only("-") && count('-') == 2
        || only(".:") && count(':') == 2
}

/// What is wrong with the output of a step, if anything. Its lines may come in any order: several
/// servers answer, and stdout and stderr are written by different threads.
fn difference(step: &Step, printed: &str) -> Option<String> {
    let sorted = |lines: &mut dyn Iterator<Item = &str>| {
        let mut lines: Vec<_> = lines.map(fixed).collect();
        lines.sort_unstable();
        lines
    };
    let (shown, lines) = (sorted(&mut step.shown.iter().map(String::as_str)), sorted(&mut printed.lines()));
    let as_shown = if step.stays() { shown.iter().all(|line| lines.contains(line)) } else { shown == lines };
    (!as_shown).then(|| format!("the page shows\n{}\nand it prints\n{printed}", step.shown.join("\n")))
}

/// Runs the commands of a page that need Redis, or those that do not. `None`: there are no namespaces
/// here.
fn run_page(path: &str, redis: bool) -> Option<Result<(), String>> {
    let page = read(path);
    let blocks = blocks(&page);
    let wanted = redis.then_some(WITH_REDIS);
    let chosen = blocks.iter().filter(|block| block.language() == "console" && block.mark.as_deref() == wanted);
    let steps: Vec<_> = chosen.flat_map(Block::steps).collect();
    if steps.is_empty() {
        return Some(Ok(()));
    }
    let files = blocks.iter().filter_map(|block| Some((block.file()?, block.lines.join("\n") + "\n")));
    let ran = Ran::new(path, &steps, &files.collect::<Vec<_>>(), redis)?;
    let mut lines: Vec<_> = page.lines().map(str::to_owned).collect();
    let mut wrong = Vec::new();
    // From the last to the first, so that a new output moves no line that comes later.
    for (n, step) in steps.iter().enumerate().rev().filter(|(n, _)| ran.started(*n)) {
        let tells_code = steps.get(n + 1).is_some_and(|next| next.command == "echo $?");
        let (printed, code) = (ran.output(n), ran.code(n));
        if !step.stays() && !tells_code && code != "0" {
            wrong.push(format!("{path}:{}: `{}` ends with {code}:\n{printed}", step.at.start, step.command));
        } else if let Some(difference) = difference(step, &printed) {
            wrong.push(format!("{path}:{}: `{}`: {difference}", step.at.start, step.command));
            if !step.stays() {
                lines.splice(step.at.clone(), printed.lines().map(str::to_owned));
            }
        }
    }
    if std::env::var_os("BLESS").is_some() && ran.complete && !wrong.is_empty() {
        std::fs::write(root().join(path), lines.join("\n") + "\n").expect("a page");
    }
    wrong.reverse();
    if !ran.complete {
        wrong.push(format!("{path}: it did not print `ready`, so the commands after it were not run"));
    }
    Some(if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n") + "\n") })
}

fn run_pages(test: &str, redis: bool) {
    let mut wrong = String::new();
    for page in pages() {
        match run_page(&page, redis) {
            None => return skip(test, "no namespaces (unshare) here"),
            Some(result) => wrong += &result.err().unwrap_or_default(),
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn the_commands_of_the_pages_print_what_the_pages_show() {
    run_pages("the_commands_of_the_pages_print_what_the_pages_show", false);
}

#[test]
fn the_commands_that_need_redis_print_what_the_pages_show() {
    let test = "the_commands_that_need_redis_print_what_the_pages_show";
    if installed(test) {
        run_pages(test, true);
    }
}

#[test]
fn every_block_of_commands_is_run_or_says_why_not() {
    let mut run = 0;
    for path in pages() {
        let page = read(&path);
        let held_elsewhere = HELD_ELSEWHERE.iter().any(|(start, _)| path.starts_with(&format!("docs/{start}")));
        for block in blocks(&page) {
            let place = format!("{path}:{}", block.start);
            let first = block.lines.first().map_or("", String::as_str);
            match block.language() {
                "console" => {
                    assert!(first.starts_with("$ "), "{place}: a command comes first, after $");
                    match block.mark.as_deref() {
                        None | Some(WITH_REDIS) => run += block.steps().len(),
                        Some(mark) => {
                            let why = mark.strip_prefix(NOT_RUN);
                            assert!(why.is_some_and(|why| !why.is_empty()), "{place}: <!-- {NOT_RUN}... --> says why");
                        }
                    }
                }
                "" => assert!(held_elsewhere, "{place}: an indented block; use a fence with a language"),
                other => {
                    assert!(OTHER_LANGUAGES.contains(&other), "{place}: {other:?} is none of {OTHER_LANGUAGES:?}");
                    let command = block.lines.iter().find(|line| line.starts_with("$ "));
                    assert!(command.is_none(), "{place}: {command:?} belongs into a console block");
                }
            }
        }
    }
    assert!(run > 20, "only {run} commands are run");
}

#[test]
fn only_the_parts_of_a_line_that_vary_are_left_out() {
    for (line, other) in [
        ("answered by alpha in 1.592 ms", "answered by alpha in 23.1 ms"),
        ("version 0.1.0, process 24142, up 1.0 s", "version 0.2.0, process 7, up 12.5 s"),
        ("{\"rate\":3295.1,\"ok\":16477,\"refused\":0}", "{\"rate\":1.0,\"ok\":3,\"refused\":0}"),
        ("max     12828.7 us", "max  1.7 us"),
        ("\"77db0c07-0e40-4a6e-933d-cb8528b5bdab\"", "\"28b14129-4ce5-47bc-8e2c-d6263094be27\""),
        ("2026-11-22 21:54:29.056279", "2027-01-02 00:00:01.5"),
    ] {
        assert_eq!(fixed(line), fixed(other));
    }
    for (line, other) in [
        ("accepted by 2 of 2", "accepted by 1 of 2"),
        ("at node node-1", "at node node-2"),
        ("tcp://*:9501", "tcp://*:9502"),
        ("\"ok\":1,\"refused\":0", "\"ok\":1,\"refused\":1"),
    ] {
        assert_ne!(fixed(line), fixed(other));
    }
}

/// The commands of the README as they run here, where the programs are built already.
const BUILT: [(&str, &str); 2] =
    [("cargo run --release --bin zmqv2-broker", "zmqv2-broker"), ("cargo run --release --bin zmqv2 --", "zmqv2")];

/// The text under a heading of the README.
fn section(heading: &str) -> String {
    let readme = read("README.md");
    let (_, rest) = readme.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no {heading}"));
    rest.split("\n## ").next().expect("a section").to_owned()
}

/// Its lines of code.
fn commands(heading: &str) -> Vec<String> {
    section(heading).lines().filter_map(|line| line.strip_prefix("    ")).map(str::to_owned).collect()
}

/// A command of the README; those that do not end print `ready`.
fn step(command: &str) -> Step {
    let (words, built) = BUILT.iter().find(|(words, _)| command.starts_with(words)).expect("a command of cargo");
    let stays = command.ends_with("-broker") || command.contains(" serve ");
    let shown = if stays { vec!["ready".to_owned()] } else { Vec::new() };
    Step { command: command.replacen(words, built, 1), shown, at: 0..0 }
}

#[test]
fn three_terminals_work_as_printed() {
    let commands = commands("Three terminals");
    let steps: Vec<_> = commands.iter().map(|command| step(command)).collect();
    let Some(ran) = Ran::new("README.md", &steps, &[], false) else {
        return skip("three_terminals_work_as_printed", "no namespaces (unshare) here");
    };
    let output = |words: &str| {
        let n = commands.iter().position(|command| command.contains(words)).unwrap_or_else(|| panic!("no {words}"));
        assert_eq!(ran.code(n), "0", "{words}: {}", ran.output(n));
        ran.output(n)
    };
    let printed = output(" call demo echo ");
    assert!(section("Three terminals").contains(&format!("prints `{}`", printed.trim_end())), "it prints {printed}");
    assert_eq!(serde_json::from_str::<Value>(&printed).expect("JSON"), json!({"text": "hello"}));
    assert!(output(" status").contains("openstack/demo: 0 waiting\n  alpha: "), "{}", output(" status"));
    assert!(output(" ping demo").starts_with("pong, answered by alpha at node "), "{}", output(" ping demo"));
    let clock: Value = serde_json::from_str(&output(" call clock now")).expect("JSON");
    assert!(clock["now"].as_str().is_some_and(|time| time.len() == "hh:mm:ss".len()), "{clock}");
}

#[test]
fn the_first_commands_are_checks_of_every_change() {
    let checks = read(".ci/run");
    let first = commands("Try it");
    assert_eq!(first, ["cargo run --release --bin zmqv2 -- demo", "cargo test --workspace"]);
    for command in first {
        assert!(checks.lines().any(|line| line.trim() == command), "{command} is no check");
    }
}
