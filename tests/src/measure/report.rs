//! A report: the same content as HTML, Markdown and JSON.

use std::fmt::Write;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::Machine;
use super::plot::escape;

/// The widest line of prose in Markdown.
const COLUMNS: usize = 100;

/// A report of measurements. It is complete before it is written, so a failed run leaves no partial
/// report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub title: String,
    /// A summary in a few sentences.
    pub summary: String,
    pub machine: Machine,
    /// The commands that repeat it.
    pub commands: Vec<String>,
    /// A text about the noise of the numbers.
    pub noise: String,
    pub sections: Vec<Section>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Section {
    pub title: String,
    /// The text below the heading.
    pub text: String,
    pub tables: Vec<Table>,
    /// Plots. JSON has only the numbers.
    #[serde(skip)]
    pub plots: Vec<Plot>,
    /// The same numbers for programs.
    pub data: Value,
}

/// A table of texts. The first column names the row.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Table {
    pub head: Vec<String>,
    /// The rows, as wide as the head.
    pub rows: Vec<Vec<String>>,
}

/// A plot and the name of its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plot {
    /// The name of the file, without its ending.
    pub name: String,
    /// A description of the picture.
    pub alt: String,
    pub svg: String,
}

impl Table {
    pub fn new<T: Into<String>>(head: impl IntoIterator<Item = T>) -> Self {
        Self { head: head.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    pub fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// The table as Markdown, with an end of line.
    pub fn markdown(&self) -> String {
        let line = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let rule = format!("|{}\n", " --- |".repeat(self.head.len()));
        self.rows.iter().fold(line(&self.head) + &rule, |text, row| text + &line(row))
    }

    fn html(&self) -> String {
        let numeric: Vec<bool> = (0..self.head.len()).map(|column| self.has_numbers(column)).collect();
        let line = |cells: &[String], tag: &str| {
            let cell = |(cell, numeric): (&String, &bool)| {
                // A line may break before the noise of a figure, but not within it.
                let cell = cell.replace(" .. ", "\u{a0}..\u{a0}").replace(") x", ")\u{a0}x");
                let class = if *numeric { " class='n'" } else { "" };
                format!("<{tag}{class}>{}</{tag}>", marked(&cell))
            };
            let cells: String = cells.iter().zip(&numeric).map(cell).collect();
            format!("<tr>{cells}</tr>\n")
        };
        let rows: String = self.rows.iter().map(|row| line(row, "td")).collect();
        let head = line(&self.head, "th");
        format!("<div><table>\n<thead>{head}</thead>\n<tbody>{rows}</tbody>\n</table></div>\n")
    }

    /// Whether a column has only figures, which are aligned to the right.
    fn has_numbers(&self, column: usize) -> bool {
        let mut cells = self.rows.iter().filter_map(|row| row.get(column)).peekable();
        cells.peek().is_some() && cells.all(|cell| cell == "-" || cell.starts_with(|c: char| c.is_ascii_digit()))
    }
}

impl Report {
    /// The report as one HTML page. Plots are part of it, and it loads nothing.
    pub fn html(&self) -> String {
        let mut body = format!("<h1>{}</h1>\n{}", escape(&self.title), paragraphs(&self.summary));
        for section in &self.sections {
            let _ = write!(body, "<h2>{}</h2>\n{}", escape(&section.title), paragraphs(&section.text));
            for plot in &section.plots {
                let _ = writeln!(body, "<figure>{}</figure>", plot.svg.trim_end());
            }
            for table in &section.tables {
                body.push_str(&table.html());
            }
        }
        let _ = write!(body, "<h2>How this was measured</h2>\n{}", paragraphs(&self.noise));
        body.push_str(&self.machine_table().html());
        for command in &self.commands {
            let _ = writeln!(body, "<pre>{}</pre>", escape(command));
        }
        format!(
            "<!doctype html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n\
             <meta name='viewport' content='width=device-width'>\n<title>{}</title>\n<style>{STYLE}</style>\n\
             </head>\n<body>\n{body}</body>\n</html>\n",
            escape(&self.title)
        )
    }

    /// The report as Markdown. Plots are files named `<plots><name>.svg`, or left out.
    pub fn markdown(&self, plots: Option<&str>) -> String {
        let mut text = format!("# {}\n\n{}\n", self.title, wrapped(&self.summary));
        for section in &self.sections {
            text.push_str(&section.markdown(plots));
        }
        let _ = write!(
            text,
            "\n## How this was measured\n\n{}\n\n{}",
            wrapped(&self.noise),
            self.machine_table().markdown()
        );
        for command in &self.commands {
            let _ = write!(text, "\n    {command}\n");
        }
        text
    }

    /// The report as JSON.
    pub fn json(&self) -> String {
        // A tree of texts and numbers can always be written.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// Writes `report.html`, `report.md` and `report.json` into a directory, which is created if
    /// needed.
    pub fn write(&self, dir: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(dir)?;
        std::fs::write(dir.join("report.html"), self.html())?;
        std::fs::write(dir.join("report.md"), self.markdown(None))?;
        std::fs::write(dir.join("report.json"), self.json())
    }

    fn machine_table(&self) -> Table {
        let mut table = Table::new(["machine", ""]);
        for (name, value) in self.machine.facts() {
            table.row([name, value]);
        }
        table
    }
}

impl Section {
    /// The section as Markdown, with its heading.
    pub fn markdown(&self, plots: Option<&str>) -> String {
        let mut text = format!("\n## {}\n", self.title);
        if !self.text.is_empty() {
            let _ = write!(text, "\n{}\n", wrapped(&self.text));
        }
        for plot in self.plots.iter().filter(|_| plots.is_some()) {
            let _ = write!(text, "\n![{}]({}{}.svg)\n", plot.alt, plots.unwrap_or_default(), plot.name);
        }
        for table in &self.tables {
            let _ = write!(text, "\n{}", table.markdown());
        }
        text
    }
}

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:66rem;margin:2rem auto;padding:0 1rem;color:#111;background:#fff}\
div{overflow-x:auto}table{border-collapse:collapse;margin:1rem 0;font-variant-numeric:tabular-nums}\
th,td{padding:.25rem .7rem;border-bottom:1px solid #ddd;text-align:left;vertical-align:top}th.n{text-align:right}\
td.n{text-align:right}code{font-size:90%;background:#f4f4f5}figure{margin:1rem 0}svg{max-width:100%;height:auto}\
pre{background:#f4f4f5;padding:.6rem;overflow-x:auto}";

/// Splits a text into paragraphs at empty lines.
fn paragraphs(text: &str) -> String {
    text.split("\n\n").filter(|part| !part.trim().is_empty()).map(|part| format!("<p>{}</p>\n", marked(part))).collect()
}

/// Wraps paragraphs at [`COLUMNS`].
fn wrapped(text: &str) -> String {
    let mut wrapped = String::new();
    let mut column = 0;
    for word in text.split_inclusive([' ', '\n']) {
        let length = word.trim_end().chars().count();
        if column + length > COLUMNS && wrapped.ends_with(' ') {
            wrapped.pop();
            wrapped.push('\n');
            column = 0;
        }
        wrapped.push_str(word);
        column = if word.ends_with('\n') { 0 } else { column + word.chars().count() };
    }
    wrapped
}

/// Turns backquotes, as in Markdown, into code elements.
fn marked(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let part =
        |(n, part): (usize, &str)| if n % 2 == 1 { format!("<code>{}</code>", escape(part)) } else { escape(part) };
    parts.map(part).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::measure::plot::{Bar, Scale, bars};
    use crate::measure::{Spread, well_formed};

    fn report() -> Report {
        let mut table = Table::new(["what", "ours"]);
        table.row(["a | b", "<1>"]);
        let mut numbers = Table::new(["what", "ours"]);
        numbers.row(["a", "2 (1 .. 3)"]);
        numbers.row(["b", "-"]);
        let bar = Bar { group: "g".into(), series: "s".into(), spread: Spread { min: 1.0, median: 2.0, max: 3.0 } };
        let svg = bars("plot", "1/s", &[bar], Scale::Linear);
        let section = Section {
            title: "Speed".to_owned(),
            text: "First, `a<b`.\n\nSecond.".to_owned(),
            tables: vec![table, numbers],
            plots: vec![Plot { name: "speed".to_owned(), alt: "rates".to_owned(), svg }],
            data: json!({"ratio": 2.0}),
        };
        Report {
            title: "A & B".to_owned(),
            summary: "Who is faster.".to_owned(),
            machine: Machine::here(),
            commands: vec!["run it".to_owned()],
            noise: "Little.".to_owned(),
            sections: vec![section],
        }
    }

    #[test]
    fn a_page_has_everything_and_loads_nothing() {
        let html = report().html();
        for part in [
            "A &amp; B",
            "<td>a | b</td><td>&lt;1&gt;</td>",
            "<svg ",
            "<p>First, <code>a&lt;b</code>.</p>",
            "run it",
            "libzmq",
        ] {
            assert!(html.contains(part), "{part} is missing in {html}");
        }
        assert!(
            html.contains("<th class='n'>ours</th>") && html.contains("<td class='n'>2 (1\u{a0}..\u{a0}3)</td>"),
            "{html}"
        );
        assert_eq!(well_formed(&html), Ok(()));
        let without_names = html.replace("http://www.w3.org/2000/svg", "");
        for loads in ["http", "src=", "href=", "@import", "url("] {
            assert!(!without_names.contains(loads), "{loads}");
        }
    }

    #[test]
    fn markdown_names_the_files_of_plots_or_leaves_them_out() {
        let text = report().markdown(Some("img/"));
        assert!(text.contains("![rates](img/speed.svg)") && text.contains("| a \\| b | <1> |\n"), "{text}");
        assert!(!report().markdown(None).contains("svg"));
    }

    #[test]
    fn prose_is_wrapped_and_paragraphs_stay() {
        let long = "four ".repeat(30);
        let text = wrapped(&format!("{long}\n\nsecond line\n{long}"));
        assert!(text.lines().all(|line| line.len() <= COLUMNS) && text.contains("\n\nsecond line\nfour"), "{text}");
        assert_eq!(text.split_whitespace().count(), 62);
    }

    #[test]
    fn json_has_the_numbers_and_not_the_pictures() {
        let value: Value = serde_json::from_str(&report().json()).unwrap();
        assert_eq!(value["sections"][0]["data"]["ratio"], 2.0);
        assert_eq!(value["machine"]["cores"], Machine::here().cores);
        assert!(value["sections"][0].get("plots").is_none());
    }

    #[test]
    fn all_three_files_are_written() {
        let dir = tempfile::tempdir().unwrap();
        report().write(&dir.path().join("deep/er")).unwrap();
        assert_eq!(crate::kernel::names_in(&dir.path().join("deep/er")), ["report.html", "report.json", "report.md"]);
    }
}
