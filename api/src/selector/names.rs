//! What a label's key and value may look like.

use crate::field::{FieldErrors, Path};

const LONGEST: usize = 63;
const LONGEST_PREFIX: usize = 253;

const NAME: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end \
    with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for \
    validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

const VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, \
    '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or \
    'my_value',  or '12345', regex used for validation is \
    '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
    characters, '-' or '.', and must start and end with an alphanumeric character (e.g. \
    'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

/// Adds what is wrong with a label's key: a name with an optional DNS prefix.
pub(super) fn check_key(key: &str, path: &Path, errors: &mut FieldErrors) {
    let mut wrong = Vec::new();
    let name = match key.split('/').collect::<Vec<_>>()[..] {
        [name] => Some(name),
        [prefix, name] => {
            if prefix.is_empty() {
                wrong.push("prefix part must be non-empty".to_owned());
            } else if prefix.len() > LONGEST_PREFIX {
                wrong.push(format!("prefix part {}", too_long(LONGEST_PREFIX)));
            } else if !prefix.split('.').all(is_dns_label) {
                wrong.push(format!("prefix part {SUBDOMAIN}"));
            }
            Some(name)
        }
        _ => None,
    };
    match name {
        None => wrong.push(format!(
            "a qualified name {NAME} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        )),
        Some("") => wrong.push("name part must be non-empty".to_owned()),
        Some(name) if name.len() > LONGEST => wrong.push(format!("name part {}", too_long(LONGEST))),
        Some(name) if !is_name(name) => wrong.push(format!("name part {NAME}")),
        Some(_) => {}
    }
    if !wrong.is_empty() {
        errors.invalid(path, key, wrong.join("; "));
    }
}

/// Adds what is wrong with a label's value.
pub(super) fn check_value(value: &str, path: &Path, errors: &mut FieldErrors) {
    if value.len() > LONGEST {
        errors.invalid(path, value, too_long(LONGEST));
    } else if !value.is_empty() && !is_name(value) {
        errors.invalid(path, value, VALUE);
    }
}

fn too_long(most: usize) -> String {
    format!("must be no more than {most} characters")
}

fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    edge(bytes.first())
        && edge(bytes.last())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

fn is_dns_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
        && bytes.iter().all(|byte| alphanumeric(byte) || *byte == b'-')
}
