//! Replaces `$name`, `${name}` and `$group.name` in values, as oslo.config does.

/// The longest value. Values that contain each other several times grow fast.
const MAX_BYTES: usize = 64 * 1024;
/// The most values inside each other. More are a circle.
const MAX_DEPTH: usize = 30;
/// The most names that one value may use in all. Values without text that contain each other do not
/// grow, but take as long.
const MAX_NAMES: usize = 10_000;

/// The value that a name stands for.
pub(crate) struct Found {
    /// The group in which the names in the text are looked up.
    pub(crate) group: String,
    pub(crate) text: String,
    /// Whether a `$` in the text is only a `$`.
    pub(crate) raw: bool,
    /// Whether nobody may see the text.
    pub(crate) secret: bool,
    /// Writes the text as oslo.config shows the type of the option, such as 600 for 0600.
    pub(crate) shown: Box<dyn Fn(String) -> Result<String, String>>,
}

/// Finds the value that a name stands for in a group.
pub(crate) type Lookup<'a> = dyn Fn(&str, &str) -> Option<Found> + 'a;

/// A text whose names are replaced.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Replaced {
    pub(crate) text: String,
    /// Whether a secret is in it.
    pub(crate) secret: bool,
}

/// `text` of an option in `group`, with the values of the names in it. `$$` and `\$` stand for `$`, and
/// a `$` before anything else for itself.
pub(crate) fn substituted(text: &str, group: &str, lookup: &Lookup<'_>) -> Result<Replaced, String> {
    let mut progress = Progress { lookup, names: 0, secret: false };
    let text = progress.replace(text, group, 0)?;
    Ok(Replaced { text, secret: progress.secret })
}

struct Progress<'a> {
    lookup: &'a Lookup<'a>,
    names: usize,
    secret: bool,
}

impl Progress<'_> {
    fn replace(&mut self, text: &str, group: &str, depth: usize) -> Result<String, String> {
        let text = text.replace("\\$", "$$");
        let (mut out, mut rest) = (String::new(), text.as_str());
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            let braced = after.strip_prefix('{').and_then(|inner| {
                let name = name_at(inner);
                inner[name.len()..].strip_prefix('}').filter(|_| !name.is_empty()).map(|rest| (name, rest))
            });
            let bare = name_at(after);
            let (name, more) = match braced {
                Some(found) => found,
                None if !bare.is_empty() => (bare, &after[bare.len()..]),
                None => {
                    out.push('$');
                    rest = after.strip_prefix('$').unwrap_or(after);
                    continue;
                }
            };
            out.push_str(&self.value(name, group, depth)?);
            if out.len() > MAX_BYTES {
                return Err(format!("with the values of its $names it has more than {MAX_BYTES} bytes"));
            }
            rest = more;
        }
        out.push_str(rest);
        Ok(out)
    }

    /// The value of the option `name`, as it is seen from `group`.
    fn value(&mut self, name: &str, group: &str, depth: usize) -> Result<String, String> {
        let shown: String = name.chars().take(60).collect();
        let found = (self.lookup)(group, name).ok_or_else(|| match name.strip_prefix("DEFAULT.") {
            Some(_) => format!("${shown} names no option; write ${} without the group", &shown["DEFAULT.".len()..]),
            None => format!("${shown} names no option that is set; write its value, or $$ for a $"),
        })?;
        self.names += 1;
        self.secret |= found.secret;
        if depth == MAX_DEPTH {
            return Err(format!("${shown} contains itself"));
        }
        if self.names > MAX_NAMES {
            return Err(format!("the values of its $names use more than {MAX_NAMES} names"));
        }
        let text = if found.raw { found.text } else { self.replace(&found.text, &found.group, depth + 1)? };
        (found.shown)(text).map_err(|problem| format!("the value of ${shown} is {problem}"))
    }
}

/// The name at the start of `text`: a letter or `_`, then letters, digits, `_` and `.`.
fn name_at(text: &str) -> &str {
    // Python ignores the case, and counts these among the letters: they are other cases of i, s and k.
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_' || "\u{130}\u{131}\u{17f}\u{212a}".contains(c);
    let end = text.find(|c: char| !(letter(c) || c.is_ascii_digit() || c == '.'));
    if text.starts_with(letter) { &text[..end.unwrap_or(text.len())] } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(group: &str, text: &str) -> Found {
        Found { group: group.to_owned(), text: text.to_owned(), raw: false, secret: false, shown: Box::new(Ok) }
    }

    fn value(text: &str) -> Result<String, String> {
        let replaced = substituted(text, "g", &|group, name| {
            let text = match (group, name) {
                (_, "a") => "x",
                (_, "b") => "$a-${a}",
                ("g", "other.c") => return Some(found("h", "$d")),
                (_, "typed") => return Some(Found { shown: Box::new(|text| Ok(text + "!")), ..found(group, "$a") }),
                (_, "raw") => return Some(Found { raw: true, ..found(group, "$a") }),
                ("h", "d") => "of h",
                (_, "one") => "$two",
                (_, "two") => "$one",
                (_, "empty") => "",
                (_, "n1") => "$n2$n2$n2$n2$n2$n2$n2$n2$n2$n2$n2$n2",
                (_, "n2") => "$n3$n3$n3$n3$n3$n3$n3$n3$n3$n3$n3$n3",
                (_, "n3") => "$n4$n4$n4$n4$n4$n4$n4$n4$n4$n4$n4$n4",
                (_, "n4") => "$empty$empty$empty$empty$empty$empty$empty$empty",
                (_, "doubled") => "$doubled$doubled",
                _ => return None,
            };
            Some(found(group, text))
        });
        replaced.map(|it| it.text)
    }

    #[test]
    fn names_are_replaced_as_oslo_config_does() {
        for (text, expected) in [
            ("$a", "x"),
            ("1${a}2$b!", "1x2x-x!"),
            ("$$a $$ \\$a", "$a $ $a"),
            ("$ $1 ${1} ${a $", "$ $1 ${1} ${a $"),
            ("$other.c", "of h"),
            ("[$empty]", "[]"),
            ("$typed$raw", "x!$a"),
        ] {
            assert_eq!(value(text), Ok(expected.to_owned()), "{text}");
        }
        assert!(value("$nothing").unwrap_err().starts_with("$nothing names no option"));
        assert!(value("${a.b}").unwrap_err().starts_with("$a.b names no option"));
        assert!(value("$one").unwrap_err().ends_with("contains itself"));
        assert!(value("$doubled").is_err());
        assert!(value("$n1").unwrap_err().contains("more than 10000 names"));
        assert!(value("$DEFAULT.a").unwrap_err().ends_with("write $a without the group"));
        assert!(value("$\u{17f}").unwrap_err().contains("names no option"), "a letter for Python");
    }
}
