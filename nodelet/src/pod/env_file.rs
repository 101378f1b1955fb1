//! Files that hold environment variables, for `fileKeyRef`. Pure.
//!
//! A variable is `NAME='value'`: the value in single quotes, as it stands, lines included. Blank lines, and comments
//! after `#`, are passed over. As Kubernetes reads them: no blank before `=`; a blank after it makes an empty value.

/// Longer files are not read.
pub(crate) const MOST_BYTES: u64 = 1 << 20;

/// The value of a variable; of two of the same name, the first. `None` if there is none, or it is empty.
///
/// # Errors
/// The line that cannot be read, and why.
pub(crate) fn find(text: &str, key: &str) -> Result<Option<String>, String> {
    let mut rest = text;
    let mut line = 1;
    while !rest.is_empty() {
        let (this, after) = rest.split_once('\n').unwrap_or((rest, ""));
        let start = this.trim_start_matches([' ', '\t']);
        if start.trim().is_empty() || start.starts_with('#') {
            (rest, line) = (after, line + 1);
            continue;
        }
        let invalid =
            |why: &str| format!("invalid environment variable format at line {line}: {why}");
        let (name, _) = start
            .split_once('=')
            .ok_or_else(|| invalid("missing '='"))?;
        if name.is_empty() || name.contains([' ', '\t']) {
            return Err(invalid("whitespace before '=' or no name"));
        }
        // The value may go on over several lines.
        let from = rest.len() - rest.trim_start_matches([' ', '\t']).len() + name.len() + 1;
        let value = &rest[from..];
        if value.is_empty() || value.starts_with([' ', '\t', '\n', '\r']) {
            (rest, line) = (after, line + 1);
            continue;
        }
        let quoted = value
            .strip_prefix('\'')
            .ok_or_else(|| invalid("value must be enclosed in single quotes"))?;
        let (value, tail) = quoted
            .split_once('\'')
            .ok_or_else(|| invalid("unclosed single quote"))?;
        let (trailing, after) = tail.split_once('\n').unwrap_or((tail, ""));
        let trailing = trailing.trim();
        if !(trailing.is_empty() || trailing.starts_with('#')) {
            return Err(invalid("unexpected content after closing quote"));
        }
        if name == key {
            return Ok(Some(value.to_owned()).filter(|value| !value.is_empty()));
        }
        (rest, line) = (after, line + 1 + value.matches('\n').count());
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<Option<&str>, &str>) {
        let found = find(text, "KEY");
        let found = found.as_ref().map(Option::as_deref).map_err(String::as_str);
        assert_eq!(found, expected);
    }

    #[test]
    fn a_value_stands_in_single_quotes_as_it_is() {
        check("A='1'\n  KEY='x y' # note\nKEY='z'\n", Ok(Some("x y")));
        check(
            "# KEY='no'\n\n \t\nKEY='$HOME\\n \"q\"'",
            Ok(Some("$HOME\\n \"q\"")),
        );
        check("A='1\nKEY='\nKEY='two\nlines'\n", Ok(Some("two\nlines")));
        check("A='1'", Ok(None));
        check("KEY=\n", Ok(None));
        check("KEY= 'x'\n", Ok(None));
        check("KEY=''", Ok(None));
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_line() {
        let invalid = "invalid environment variable format at line";
        check("A='1\n2'\nKEY", Err(&format!("{invalid} 3: missing '='")));
        check(
            "KEY = 'x'",
            Err(&format!("{invalid} 1: whitespace before '=' or no name")),
        );
        check(
            "KEY=x",
            Err(&format!(
                "{invalid} 1: value must be enclosed in single quotes"
            )),
        );
        check(
            "KEY='x",
            Err(&format!("{invalid} 1: unclosed single quote")),
        );
        check(
            "KEY='x'y",
            Err(&format!(
                "{invalid} 1: unexpected content after closing quote"
            )),
        );
    }

    proptest! {
        #[test]
        fn any_value_without_quotes_is_found_after_any_others(value in "[^']{1,20}", others in "([A-J]='[^']{0,5}'[ \t]*(#[a-z]*)?\n){0,4}") {
            let text = format!("{others}KEY='{value}'");
            prop_assert_eq!(find(&text, "KEY"), Ok(Some(value)));
        }

        #[test]
        fn no_text_is_too_odd(text in "[KEY=' \t\n#]{0,40}") {
            let _ = find(&text, "KEY");
        }
    }
}
