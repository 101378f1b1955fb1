//! Field selectors: `metadata.name=web,status.phase!=Running`.

use super::SelectorError;

/// What an object's fields must be; all requirements must hold.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FieldSelector {
    requirements: Vec<(String, bool, String)>,
}

impl FieldSelector {
    /// Reads a selector. An empty one selects everything. Whether the fields may be selected on
    /// is the kind's to say.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut requirements = Vec::new();
        for term in terms(text) {
            if term.is_empty() {
                continue;
            }
            let (field, equal, value) = split(term).ok_or_else(|| {
                SelectorError(format!(
                    "invalid selector: '{text}'; can't understand '{term}'"
                ))
            })?;
            requirements.push((field.to_owned(), equal, unescape(value)?));
        }
        Ok(Self { requirements })
    }

    /// The selector of these requirements: field, true if it must equal (false: must differ from), value.
    pub fn of(requirements: Vec<(String, bool, String)>) -> Self {
        Self { requirements }
    }

    /// Field, true if it must equal (false: must differ from), value.
    pub fn requirements(&self) -> &[(String, bool, String)] {
        &self.requirements
    }

    /// True if the fields are as required; a field without a value counts as empty.
    pub fn matches<'v>(&self, value_of: impl Fn(&str) -> Option<&'v str>) -> bool {
        self.requirements
            .iter()
            .all(|(field, equal, value)| (value_of(field).unwrap_or("") == value) == *equal)
    }

    /// True if nothing is required.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }
}

/// Splits at commas that are not escaped.
fn terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (index, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

/// Splits at the first operator: `!=`, `==` or `=`.
fn split(term: &str) -> Option<(&str, bool, &str)> {
    let at = term.char_indices().find_map(|(index, _)| {
        let rest = &term[index..];
        [("!=", false), ("==", true), ("=", true)]
            .into_iter()
            .find(|(operator, _)| rest.starts_with(operator))
            .map(|(operator, equal)| (index, equal, operator.len()))
    });
    let (index, equal, length) = at?;
    Some((&term[..index], equal, &term[index + length..]))
}

/// Resolves `\\`, `\,` and `\=`; the three must not stand there without a backslash.
fn unescape(value: &str) -> Result<String, SelectorError> {
    let mut plain = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(escaped @ ('\\' | ',' | '=')) => plain.push(escaped),
                Some(other) => {
                    let text =
                        format!("invalid field selector: invalid escape sequence: \\{other}");
                    return Err(SelectorError(text));
                }
                None => {
                    let text = "invalid field selector: invalid escape sequence: \\".to_owned();
                    return Err(SelectorError(text));
                }
            },
            ',' | '=' => {
                let text = format!("invalid field selector: unescaped character in value: {c}");
                return Err(SelectorError(text));
            }
            c => plain.push(c),
        }
    }
    Ok(plain)
}
