//! Writes `docs/comparison-numbers.md`: the report of a run, as a page of the documentation.

use std::path::Path;

use anyhow::Result;

use crate::measure::Report;

const PAGE: &str = "comparison-numbers.md";
const PLOTS: &str = "comparison";
const NOTE: &str = "This page is generated. To measure everything again and rewrite it, run\n\
                    `cargo run --release -p zmqv2-tests --bin compare -- --docs docs`, which takes less than ten minutes\n\
                    on two cores. Numbers of another machine, or of a busy hour, differ; the ratios hardly do.\n\
                    [The comparison](comparison.md) says what the numbers mean.";

/// Writes the plots of a report into `<docs>/comparison/`, and the rest into
/// `<docs>/comparison-numbers.md`.
pub fn write_numbers_page(report: &Report, docs: &Path) -> Result<()> {
    let plots = docs.join(PLOTS);
    std::fs::create_dir_all(&plots)?;
    for plot in report.sections.iter().flat_map(|section| &section.plots) {
        std::fs::write(plots.join(format!("{}.svg", plot.name)), &plot.svg)?;
    }
    let text = report.markdown(Some(&format!("{PLOTS}/")));
    let (title, rest) = text.split_once("\n\n").unwrap_or((&text, ""));
    Ok(std::fs::write(docs.join(PAGE), format!("{title}\n\n{NOTE}\n\n{rest}"))?)
}

#[cfg(test)]
mod tests {
    use super::super::report::{code, code_claims};
    use super::super::{Counted, count};
    use super::*;
    use crate::measure::{Machine, Plot, Section};

    #[test]
    fn the_page_has_a_note_the_report_and_its_plots() {
        let dir = tempfile::tempdir().unwrap();
        let plot = Plot { name: "p".to_owned(), alt: "a".to_owned(), svg: "<svg/>".to_owned() };
        let section = Section { title: "New".to_owned(), plots: vec![plot], ..Section::default() };
        let report = Report {
            title: "T".to_owned(),
            summary: "S".to_owned(),
            machine: Machine::here(),
            commands: Vec::new(),
            noise: "N".to_owned(),
            sections: vec![section],
        };
        std::fs::write(dir.path().join(PAGE), "old").unwrap();
        write_numbers_page(&report, dir.path()).unwrap();
        let text = std::fs::read_to_string(dir.path().join(PAGE)).unwrap();
        assert!(text.starts_with(&format!("# T\n\n{NOTE}\n\nS\n")), "{text}");
        assert!(text.contains("\n## New\n") && text.contains("](comparison/p.svg)") && !text.contains("old"), "{text}");
        assert_eq!(std::fs::read_to_string(dir.path().join("comparison/p.svg")).unwrap(), "<svg/>");
    }

    /// Replaces everything on the page that depends only on the sources of both drivers.
    fn with_code(page: &str, counted: &Counted) -> String {
        let section = code(counted).markdown(None);
        let (heading, _) = section.trim_start().split_once('\n').expect("a heading");
        let (head, rest) = page.split_once(&format!("\n{heading}\n")).expect("a section about code");
        let (_, tail) = rest.split_once("\n## ").expect("another section");
        let table = code_claims(counted).0.markdown();
        let mut claims = table.lines().skip(2);
        let line = |line: &str| {
            let claim = line.starts_with("| less code for supporting replies: ");
            if claim { claims.next().expect("a claim").to_owned() } else { line.to_owned() }
        };
        let head: Vec<String> = head.lines().map(line).collect();
        format!("{}\n{section}\n## {tail}", head.join("\n"))
    }

    /// A change of the counted code changes the page: `BLESS=1` rewrites these lines without
    /// measuring anything.
    #[test]
    fn the_page_counts_the_code_as_it_is() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(PAGE);
        let read = || std::fs::read_to_string(&path).unwrap();
        let current = with_code(&read(), &count().unwrap());
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&path, &current).unwrap();
        }
        let is_current = read() == current;
        assert!(is_current, "docs/{PAGE} is out of date: run BLESS=1 cargo test -p zmqv2-tests --lib numbers_page");
    }
}
