//! What names, keys and ports may look like, and the sentences that say so.
//!
//! Pure, and the only copy of these rules: metadata, kinds and selectors ask here. The rules are those
//! of RFC 1035 and RFC 1123 as Kubernetes narrows them; each function answers everything that is wrong.

/// RFC 1123 label: `web-1`.
pub(crate) fn label_problems(text: &str) -> Vec<String> {
    let mut problems = too_long(text, 63);
    if !is_label(text) {
        problems.push(
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', \
             and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', \
             regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
                .to_owned(),
        );
    }
    problems
}

/// RFC 1035 label: like an RFC 1123 label, but it starts with a letter.
pub(crate) fn letter_label_problems(text: &str) -> Vec<String> {
    let mut problems = too_long(text, 63);
    if !is_label(text) || !text.starts_with(|c: char| c.is_ascii_lowercase()) {
        problems.push(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with \
             an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or \
             'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
                .to_owned(),
        );
    }
    problems
}

/// RFC 1123 subdomain: `n1.example.com`.
pub(crate) fn subdomain_problems(text: &str) -> Vec<String> {
    let mut problems = too_long(text, 253);
    if !text.split('.').all(is_label) {
        problems.push(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' \
             or '.', and must start and end with an alphanumeric character (e.g. 'example.com', \
             regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
                .to_owned(),
        );
    }
    problems
}

/// A name that may stand for all the subdomains of one: `*.example.com`.
pub(crate) fn wildcard_problems(text: &str) -> Vec<String> {
    let mut problems = too_long(text, 253);
    let rest = text.strip_prefix("*.");
    if !rest.is_some_and(|rest| rest.split('.').all(is_label)) {
        problems.push(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, \
             which must consist of lower case alphanumeric characters, '-' or '.' and end with an \
             alphanumeric character (e.g. '*.example.com', regex used for validation is \
             '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
                .to_owned(),
        );
    }
    problems
}

/// A domain of at least this many parts: a webhook's name has three.
pub(crate) fn domain_problems(text: &str, parts: usize) -> Vec<String> {
    let problems = subdomain_problems(text);
    if !problems.is_empty() {
        return vec![problems.join(",")];
    }
    if text.split('.').count() < parts {
        let number = if parts == 2 { "two" } else { "three" };
        return vec![format!(
            "should be a domain with at least {number} segments separated by dots"
        )];
    }
    Vec::new()
}

/// A name that only has to fit into a path: `system:node`.
pub(crate) fn segment_problems(text: &str) -> Vec<String> {
    if [".", ".."].contains(&text) {
        return vec![format!("may not be '{text}'")];
    }
    let unfit = ['/', '%'].into_iter().filter(|unfit| text.contains(*unfit));
    unfit
        .map(|unfit| format!("may not contain '{unfit}'"))
        .collect()
}

/// The key of a label or an annotation, or a finalizer: an optional subdomain and a slash, then a name.
pub(crate) fn qualified_problems(key: &str) -> Vec<String> {
    const NAME: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and \
                        end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or \
                        '123-abc', regex used for validation is \
                        '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
    let mut problems = Vec::new();
    let name = match key.split_once('/') {
        None => key,
        Some((_, name)) if name.contains('/') => {
            return vec![format!(
                "a qualified name {NAME} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
        Some((prefix, name)) => {
            if prefix.is_empty() {
                problems.push("prefix part must be non-empty".to_owned());
            } else {
                problems.extend(
                    subdomain_problems(prefix)
                        .into_iter()
                        .map(|problem| format!("prefix part {problem}")),
                );
            }
            name
        }
    };
    if name.is_empty() {
        problems.push("name part must be non-empty".to_owned());
    }
    problems.extend(
        too_long(name, 63)
            .into_iter()
            .map(|problem| format!("name part {problem}")),
    );
    if !is_word(name) {
        problems.push(format!("name part {NAME}"));
    }
    problems
}

/// A label's value; empty is fine.
pub(crate) fn label_value_problems(value: &str) -> Vec<String> {
    let mut problems = too_long(value, 63);
    if !value.is_empty() && !is_word(value) {
        problems.push(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' \
             or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or \
             'my_value',  or '12345', regex used for validation is \
             '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
                .to_owned(),
        );
    }
    problems
}

/// A key of a ConfigMap or Secret: usable as a file's name.
pub(crate) fn file_key_problems(key: &str) -> Vec<String> {
    let mut problems = too_long(key, 253);
    if key.is_empty()
        || !key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
    {
        problems.push(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. \
             'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is \
             '[-._a-zA-Z0-9]+')"
                .to_owned(),
        );
    }
    match key {
        "." => problems.push("must not be '.'".to_owned()),
        ".." => problems.push("must not be '..'".to_owned()),
        _ if key.starts_with("..") => problems.push("must not start with '..'".to_owned()),
        _ => {}
    }
    problems
}

/// The name of a container's port: at most 15 characters of a service name (RFC 6335).
pub(crate) fn port_problems(name: &str) -> Vec<String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let rules = [
        (name.len() > 15, "must be no more than 15 characters"),
        (
            !name.chars().all(allowed) || name.is_empty(),
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
        ),
        (
            !name.chars().any(|c| c.is_ascii_lowercase()),
            "must contain at least one letter (a-z)",
        ),
        (name.contains("--"), "must not contain consecutive hyphens"),
        (
            name.starts_with('-') || name.ends_with('-'),
            "must not begin or end with a hyphen",
        ),
    ];
    rules
        .into_iter()
        .filter(|(broken, _)| *broken)
        .map(|(_, problem)| problem.to_owned())
        .collect()
}

/// The name of an environment variable: printable ASCII without `=`.
pub(crate) fn variable_problems(name: &str) -> Vec<String> {
    if name
        .bytes()
        .all(|b| (b' '..=b'~').contains(&b) && b != b'=')
    {
        Vec::new()
    } else {
        vec![
            "a valid environment variable name must consist only of printable ASCII characters \
             other than '='"
                .to_owned(),
        ]
    }
}

fn too_long(text: &str, most: usize) -> Vec<String> {
    if text.len() > most {
        vec![format!("must be no more than {most} bytes")]
    } else {
        Vec::new()
    }
}

fn is_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty() && text.chars().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

fn is_word(text: &str) -> bool {
    let edge = |c: char| c.is_ascii_alphanumeric();
    text.starts_with(edge)
        && text.ends_with(edge)
        && text.chars().all(|c| edge(c) || "-_.".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_names_have_no_problems() {
        assert!(label_problems("web-1").is_empty());
        assert!(letter_label_problems("web-1").is_empty());
        assert!(subdomain_problems("n1.example.com").is_empty());
        assert!(qualified_problems("app.kubernetes.io/name").is_empty());
        assert!(label_value_problems("").is_empty());
        assert!(file_key_problems(".dockerconfigjson").is_empty());
        assert!(port_problems("http-2").is_empty());
        assert!(variable_problems("my.var").is_empty());
    }

    #[test]
    fn bad_names_have_problems() {
        assert_eq!(label_problems("Web").len(), 1);
        assert_eq!(letter_label_problems("1web").len(), 1);
        assert_eq!(subdomain_problems("a..b").len(), 1);
        assert_eq!(qualified_problems("/").len(), 3);
        assert_eq!(qualified_problems("a/b/c").len(), 1);
        assert_eq!(qualified_problems(&"a".repeat(64)).len(), 1);
        assert_eq!(label_problems("").len(), 1);
        assert_eq!(subdomain_problems("ä").len(), 1);
        assert_eq!(label_value_problems("-a").len(), 1);
        assert_eq!(file_key_problems("a/b").len(), 1);
        assert_eq!(port_problems("--").len(), 3);
        assert_eq!(variable_problems("a=b").len(), 1);
    }
}
