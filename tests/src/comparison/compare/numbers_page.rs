//! Puts the results into the documentation.

use std::path::Path;

use anyhow::{Context, Result};

use crate::measure::Report;

const PAGE: &str = "comparison.md";
const PLOTS: &str = "comparison";
const BEGIN: &str = "<!-- written by compare -->";
const END: &str = "<!-- end -->";

/// Writes the plots of a report into `<docs>/comparison/`, and its tables into `<docs>/comparison.md`, between two marks.
///
/// # Errors
/// A page without these marks, and what the file system says.
pub fn write_documents(report: &Report, docs: &Path) -> Result<()> {
    let page = docs.join(PAGE);
    let text = std::fs::read_to_string(&page).with_context(|| page.display().to_string())?;
    let (head, rest) = text.split_once(BEGIN).with_context(|| format!("{} has no {BEGIN}", page.display()))?;
    let (_, tail) = rest.split_once(END).with_context(|| format!("{} has no {END}", page.display()))?;
    let plots = docs.join(PLOTS);
    std::fs::create_dir_all(&plots)?;
    for plot in report.sections.iter().flat_map(|section| &section.plots) {
        std::fs::write(plots.join(format!("{}.svg", plot.name)), &plot.svg)?;
    }
    // The page has a title of its own, and these are parts of one of its sections.
    let whole = report.markdown(Some(&format!("{PLOTS}/")));
    let from = whole.find("\n## ").unwrap_or(0);
    let body = whole[from..].replace("\n## ", "\n### ");
    std::fs::write(&page, format!("{head}{BEGIN}\n{}\n{END}{tail}", body.trim_end()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::{Machine, Plot, Section};

    #[test]
    fn only_what_is_between_the_marks_is_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let page = dir.path().join(PAGE);
        std::fs::write(&page, format!("before\n{BEGIN}\nold\n{END}\nafter\n")).unwrap();
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
        for _ in 0..2 {
            write_documents(&report, dir.path()).unwrap();
            let text = std::fs::read_to_string(&page).unwrap();
            assert!(text.starts_with("before\n") && text.ends_with(&format!("{END}\nafter\n")), "{text}");
            assert!(
                text.contains("### New") && text.contains("](comparison/p.svg)") && !text.contains("old"),
                "{text}"
            );
        }
        assert_eq!(std::fs::read_to_string(dir.path().join("comparison/p.svg")).unwrap(), "<svg/>");
        std::fs::write(&page, "no marks").unwrap();
        assert!(write_documents(&report, dir.path()).unwrap_err().to_string().contains(BEGIN));
    }
}
