//! Names and choices that arguments hold, checked in Kubernetes' words. Pure.

/// The longest name, without what stands before its slash, and the longest of that.
const NAME: usize = 63;
const PREFIX: usize = 253;
const NAME_RULE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
    alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
    '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const PREFIX_RULE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or \
    '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

/// Checks the name of a label or a resource: `zone`, `example.com/gpu`.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check(path: &str, text: &str) -> Result<(), String> {
    match problem(text) {
        None => Ok(()),
        Some(problem) => Err(format!("{path}: Invalid value: {text:?}: {problem}")),
    }
}

fn problem(text: &str) -> Option<String> {
    let (prefix, name) = match text.split_once('/') {
        None => (None, text),
        Some((prefix, name)) => (Some(prefix), name),
    };
    if name.contains('/') {
        return Some(format!(
            "a qualified name {NAME_RULE} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        ));
    }
    match prefix {
        Some("") => return Some("prefix part must be non-empty".to_owned()),
        Some(prefix) if prefix.len() > PREFIX => {
            return Some(format!("prefix part must be no more than {PREFIX} bytes"));
        }
        Some(prefix) if !prefix.split('.').all(is_label) => {
            return Some(format!("prefix part {PREFIX_RULE}"));
        }
        _ => {}
    }
    if name.is_empty() {
        return Some("name part must be non-empty".to_owned());
    }
    if name.len() > NAME {
        return Some(format!("name part must be no more than {NAME} bytes"));
    }
    (!is_word(name)).then(|| format!("name part {NAME_RULE}"))
}

fn is_word(text: &str) -> bool {
    let ends = |end: Option<char>| end.is_some_and(|end| end.is_ascii_alphanumeric());
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    text.chars().all(fits) && ends(text.chars().next()) && ends(text.chars().next_back())
}

fn is_label(text: &str) -> bool {
    let fits = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    let ends = |end: Option<char>| end.is_some_and(fits);
    text.chars().all(|letter| fits(letter) || letter == '-')
        && ends(text.chars().next())
        && ends(text.chars().next_back())
}

/// What is said of a value that is none of those that there are.
pub(super) fn not_supported(path: &str, given: &str, supported: &[&str]) -> String {
    let supported: Vec<_> = supported.iter().map(|one| format!("{one:?}")).collect();
    let supported = supported.join(", ");
    format!("{path}: Unsupported value: {given:?}: supported values: {supported}")
}
