//! Checks that HTML and SVG are well-formed, in the form that reports use: every attribute in
//! single quotes.

/// Elements of HTML without a closing tag.
const EMPTY: [&str; 1] = ["meta"];

/// Checks that tags and quotes are closed in order, and that nothing else looks like markup.
pub fn well_formed(text: &str) -> Result<(), String> {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = text.strip_prefix("<!doctype html>").unwrap_or(text);
    while let Some((words, behind)) = rest.split_once('<') {
        check_text(words)?;
        let end = end_of_tag(behind).ok_or_else(|| format!("a tag without an end: {}", start_of(behind)))?;
        let tag = &behind[..end];
        rest = &behind[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            let last = open.pop();
            if last != Some(name) {
                return Err(format!("</{name}> closes {last:?} before: {}", start_of(rest)));
            }
            continue;
        }
        let name = tag.split([' ', '/']).next().unwrap_or_default();
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err(format!("no name of an element: {}", start_of(tag)));
        }
        // Text is between quotes; outside of them are names with a `=`.
        for (n, part) in tag[name.len()..].split('\'').enumerate() {
            if n % 2 == 1 {
                check_text(part)?;
            } else if !is_between_values(part) {
                return Err(format!("no attribute: {}", start_of(tag)));
            }
        }
        // A style sheet is not markup.
        if name == "style" {
            let (_, behind) = rest.split_once("</style>").ok_or("a style sheet without an end")?;
            rest = behind;
        } else if !tag.ends_with('/') && !EMPTY.contains(&name) {
            open.push(name);
        }
    }
    check_text(rest)?;
    if open.is_empty() { Ok(()) } else { Err(format!("never closed: {open:?}")) }
}

/// The name of one attribute, or the end of the tag.
fn is_between_values(text: &str) -> bool {
    let name = text.strip_prefix(' ').and_then(|text| text.strip_suffix('='));
    matches!(text, "" | "/") || name.is_some_and(|name| !name.is_empty() && !name.contains(' '))
}

/// Where a tag ends: at the first `>` outside of quotes.
fn end_of_tag(text: &str) -> Option<usize> {
    let mut quoted = false;
    text.char_indices().find_map(|(at, c)| {
        quoted ^= c == '\'';
        (c == '>' && !quoted).then_some(at)
    })
}

fn check_text(text: &str) -> Result<(), String> {
    let stray = text.split('&').skip(1).find(|behind| {
        let name = behind.split_once(';').map_or("", |(name, _)| name);
        !matches!(name, "amp" | "lt" | "gt" | "quot" | "#39")
    });
    match stray {
        Some(behind) => Err(format!("a stray &: {}", start_of(behind))),
        None if text.contains(['<', '>']) => Err(format!("a stray bracket: {}", start_of(text))),
        None => Ok(()),
    }
}

fn start_of(text: &str) -> &str {
    text.char_indices().nth(60).map_or(text, |(at, _)| &text[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_closed_or_not_escaped_is_found() {
        let good = "<!doctype html><a b='c &gt; d' e='&lt;'><meta x='y'><f/>t &amp; u<g></g></a><style>a>b{}</style>";
        assert_eq!(well_formed(good), Ok(()));
        for bad in [
            "<a>",
            "</a>",
            "<a><b></a></b>",
            "a & b",
            "<a b='c></a>",
            "a > b",
            "<a b=c d='e'></a>",
            "<a b='c'd='e'/>",
            "< a></ a>",
            "<a b='x<'></a>",
            "<style>",
            "<a",
        ] {
            assert!(well_formed(bad).is_err(), "{bad}");
        }
    }
}
