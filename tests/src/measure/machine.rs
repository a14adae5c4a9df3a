//! Describes the machine of a measurement.

use std::process::Command;

use serde::Serialize;

/// A machine and its software. Unknown facts are `unknown`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    pub cpu: String,
    /// How many processors this process may use.
    pub cores: usize,
    /// Memory of the machine, in MiB.
    pub memory_mib: u64,
    /// The kernel and its release.
    pub kernel: String,
    pub system: String,
    /// Programs and libraries with their versions.
    pub versions: Vec<(String, String)>,
}

impl Machine {
    /// This machine, with the versions of the compiler, libzmq and zmqv2.
    #[must_use]
    pub fn here() -> Self {
        let (major, minor, patch) = zmq::version();
        Self {
            cpu: field("/proc/cpuinfo", "model name", ':').unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: memory_mib(),
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")
                .map_or_else(|_| unknown(), |release| format!("Linux {}", release.trim())),
            system: field("/etc/os-release", "PRETTY_NAME", '=').unwrap_or_else(unknown),
            versions: vec![
                ("zmqv2".to_owned(), source_version()),
                ("libzmq".to_owned(), format!("{major}.{minor}.{patch}")),
                ("rustc".to_owned(), output("rustc", &["--version"]).unwrap_or_else(unknown)),
                ("profile".to_owned(), profile().to_owned()),
            ],
        }
    }

    /// Adds the version of another program, such as a server of the comparison.
    #[must_use]
    pub fn with_version(mut self, name: &str, version: &str) -> Self {
        self.versions.push((name.to_owned(), version.to_owned()));
        self
    }

    /// Names and values of all facts, for a table.
    pub fn facts(&self) -> Vec<(String, String)> {
        let mut facts = vec![
            ("processor".to_owned(), format!("{} ({} cores)", self.cpu, self.cores)),
            ("memory".to_owned(), format!("{} MiB", self.memory_mib)),
            ("system".to_owned(), format!("{}, {}", self.system, self.kernel)),
        ];
        facts.extend(self.versions.iter().cloned());
        facts
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn profile() -> &'static str {
    if cfg!(debug_assertions) { "debug: the numbers say nothing about speed" } else { "release" }
}

/// The version of this workspace, with the commit if it is a checkout.
fn source_version() -> String {
    let commit =
        output("git", &["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty", "--exclude", "*"]);
    let version = env!("CARGO_PKG_VERSION");
    commit.map_or_else(|| version.to_owned(), |commit| format!("{version} ({commit})"))
}

fn memory_mib() -> u64 {
    let total = field("/proc/meminfo", "MemTotal", ':').unwrap_or_default();
    total.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
}

fn field(path: &str, name: &str, separator: char) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let mut fields = text.lines().filter_map(|line| line.split_once(separator));
    let (_, value) = fields.find(|(key, _)| key.trim() == name)?;
    Some(value.trim().trim_matches('"').to_owned())
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Some(text).filter(|text| !text.is_empty())
}
