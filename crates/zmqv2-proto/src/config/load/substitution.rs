//! Replaces `$name`, `${name}` and `$group.name` in values, as oslo.config does.

/// The longest value. Values that contain each other several times grow fast.
const MAX_BYTES: usize = 64 * 1024;
/// The most values inside each other. More are a circle.
const MAX_DEPTH: usize = 30;

/// Finds the value that a name stands for in a group: the group of that value, and its text.
pub(crate) type Lookup<'a> = dyn Fn(&str, &str) -> Option<(String, String)> + 'a;

/// `text` of an option in `group`, with the values of the names in it. `$$` and `\$` stand for `$`, and
/// a `$` before anything else for itself.
pub(crate) fn substituted(text: &str, group: &str, lookup: &Lookup<'_>) -> Result<String, String> {
    let mut out = String::new();
    append(&mut out, text, group, lookup, 0)?;
    Ok(out)
}

fn append(out: &mut String, text: &str, group: &str, lookup: &Lookup<'_>, depth: usize) -> Result<(), String> {
    let text = text.replace("\\$", "$$");
    let mut rest = text.as_str();
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
        let shown: String = name.chars().take(60).collect();
        let (group, value) = lookup(group, name)
            .ok_or_else(|| format!("${shown} names no option that is set; write its value, or $$ for a $"))?;
        if depth == MAX_DEPTH {
            return Err(format!("${shown} contains itself"));
        }
        append(out, &value, &group, lookup, depth + 1)?;
        if out.len() > MAX_BYTES {
            return Err(format!("with the values of its $names it has more than {MAX_BYTES} bytes"));
        }
        rest = more;
    }
    out.push_str(rest);
    Ok(())
}

/// The name at the start of `text`: a letter or `_`, then letters, digits, `_` and `.`.
fn name_at(text: &str) -> &str {
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    let end = text.bytes().position(|b| !(b.is_ascii_alphanumeric() || b == b'_' || b == b'.'));
    if first { &text[..end.unwrap_or(text.len())] } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Result<String, String> {
        substituted(text, "g", &|group, name| {
            let text = match (group, name) {
                (_, "a") => "x",
                (_, "b") => "$a-${a}",
                ("g", "other.c") => return Some(("h".to_owned(), "$d".to_owned())),
                ("h", "d") => "of h",
                (_, "one") => "$two",
                (_, "two") => "$one",
                (_, "empty") => "",
                (_, "doubled") => "$doubled$doubled",
                _ => return None,
            };
            Some((group.to_owned(), text.to_owned()))
        })
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
        ] {
            assert_eq!(value(text), Ok(expected.to_owned()), "{text}");
        }
        assert!(value("$nothing").unwrap_err().starts_with("$nothing names no option"));
        assert!(value("${a.b}").unwrap_err().starts_with("$a.b names no option"));
        assert!(value("$one").unwrap_err().ends_with("contains itself"));
        assert!(value("$doubled").is_err());
    }
}
