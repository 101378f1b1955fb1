//! Label selectors as text: as a `scale` subresource has them (`app=web,tier in (a,b),!old`), and as Go
//! prints them. Pure.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Expression, Selector};

/// Reads a selector.
///
/// # Errors
/// What is wrong with the text.
pub(crate) fn parse(text: &str) -> Result<Selector, String> {
    let parts = split(text)?;
    parts.into_iter().map(requirement).collect()
}

/// Cuts at the commas that are not between brackets.
fn split(text: &str) -> Result<Vec<&str>, String> {
    let (mut parts, mut begin, mut inside) = (Vec::new(), 0, false);
    for (place, letter) in text.char_indices() {
        match letter {
            '(' if !inside => inside = true,
            ')' if inside => inside = false,
            '(' | ')' => return Err(format!("found '{letter}', expected: identifier")),
            ',' if !inside => {
                parts.push(text[begin..place].trim());
                begin = place + 1;
            }
            _ => {}
        }
    }
    if inside {
        return Err("found '', expected: ',' or ')'".to_owned());
    }
    if !text.trim().is_empty() {
        parts.push(text[begin..].trim());
    }
    Ok(parts)
}

fn requirement(part: &str) -> Result<Expression, String> {
    if let Some(key) = part.strip_prefix('!') {
        return Ok(Expression::DoesNotExist(key_of(key)?));
    }
    if let Some(list) = part.strip_suffix(')') {
        let (head, values) = list
            .split_once('(')
            .ok_or_else(|| format!("found '{part}', expected: '('"))?;
        let values: BTreeSet<String> = values
            .split(',')
            .map(|value| value.trim().to_owned())
            .collect();
        let (key, operator) = head
            .trim()
            .rsplit_once(char::is_whitespace)
            .ok_or_else(|| format!("found '{head}', expected: in, notin"))?;
        let key = key_of(key)?;
        return match operator {
            "in" => Ok(Expression::In(key, values)),
            "notin" => Ok(Expression::NotIn(key, values)),
            other => Err(format!("found '{other}', expected: in, notin")),
        };
    }
    if let Some((key, value)) = part.split_once("!=") {
        return Ok(Expression::NotEqual(key_of(key)?, value.trim().to_owned()));
    }
    if let Some((key, value)) = part.split_once('=') {
        let value = value.strip_prefix('=').unwrap_or(value).trim().to_owned();
        return Ok(Expression::Equal(key_of(key)?, value));
    }
    Ok(Expression::Exists(key_of(part)?))
}

fn key_of(text: &str) -> Result<String, String> {
    let key = text.trim();
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "-_./".contains(letter);
    if key.is_empty() || !key.chars().all(fits) {
        return Err(format!(
            "found '{key}', expected: !, identifier, or 'end of string'"
        ));
    }
    Ok(key.to_owned())
}

/// A selector as Go prints it, for so it stands in Kubernetes' messages.
pub(crate) fn as_go(selector: Option<&LabelSelector>) -> String {
    let Some(selector) = selector else {
        return "nil".to_owned();
    };
    let labels = selector.match_labels.iter().flatten();
    let labels: String = labels
        .map(|(key, value)| format!("{key}: {value},"))
        .collect();
    let expressions = selector.match_expressions.iter().flatten();
    let expressions: String = expressions
        .map(|one| {
            let values = one.values.as_deref().unwrap_or_default().join(" ");
            let (key, operator) = (&one.key, &one.operator);
            format!("LabelSelectorRequirement{{Key:{key},Operator:{operator},Values:[{values}],}},")
        })
        .collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},\
         MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(text: &str, expect: Expect) {
        expect.assert_eq(&match parse(text) {
            Ok(selector) => selector.to_string(),
            Err(error) => format!("error: {error}"),
        });
    }

    #[test]
    fn a_selector_is_read_as_it_is_written() {
        check("", expect![""]);
        check("app=web", expect!["app=web"]);
        check(
            "!zone, app==web ,a.b/c!=d,tier in (a, b),x notin (y),here",
            expect!["!zone,app=web,a.b/c!=d,tier in (a,b),x notin (y),here"],
        );
    }

    #[test]
    fn what_is_no_selector_is_named() {
        check("a in (b", expect!["error: found '', expected: ',' or ')'"]);
        check(
            "a,,b",
            expect!["error: found '', expected: !, identifier, or 'end of string'"],
        );
        check(
            "a of (b)",
            expect!["error: found 'of', expected: in, notin"],
        );
        check(
            "a>1",
            expect!["error: found 'a>1', expected: !, identifier, or 'end of string'"],
        );
    }
}
