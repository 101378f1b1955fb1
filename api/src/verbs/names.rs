//! What names, labels and other metadata texts may look like (RFC 1123, RFC 1035, qualified names).
//!
//! Pure. Each function answers what is wrong, in Kubernetes' words, or `None`.

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

/// Which rule a kind's names follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rule {
    Subdomain,
    Label,
    Label1035,
}

impl Rule {
    /// The rule for a resource.
    pub(crate) fn of(group: &str, plural: &str) -> Self {
        match (group, plural) {
            ("", "namespaces") => Self::Label,
            ("", "services") => Self::Label1035,
            _ => Self::Subdomain,
        }
    }

    /// What is wrong with a name.
    pub(crate) fn complaint(self, name: &str) -> Option<String> {
        let (limit, valid, text) = match self {
            Self::Subdomain => (253, name.split('.').all(is_label), SUBDOMAIN),
            Self::Label => (63, is_label(name), LABEL),
            Self::Label1035 => (
                63,
                is_label(name) && name.starts_with(|first: char| first.is_ascii_lowercase()),
                LABEL_1035,
            ),
        };
        if name.len() > limit {
            Some(format!("must be no more than {limit} characters"))
        } else {
            (!valid).then(|| text.to_owned())
        }
    }
}

fn is_label(text: &str) -> bool {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.iter().all(|byte| alphanumeric(byte) || *byte == b'-')
        && bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
}

fn is_qualified_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes
        .iter()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
}

/// What is wrong with a label's key, an annotation's, or a finalizer: `[prefix/]name`.
pub(crate) fn qualified(key: &str) -> Option<String> {
    let name = match key.split_once('/') {
        None => key,
        Some((prefix, name)) => {
            if prefix.is_empty() {
                return Some("prefix part must be non-empty".to_owned());
            }
            if let Some(complaint) = Rule::Subdomain.complaint(prefix) {
                return Some(format!("prefix part {complaint}"));
            }
            name
        }
    };
    if name.is_empty() {
        Some("name part must be non-empty".to_owned())
    } else if name.len() > 63 {
        Some("name part must be no more than 63 characters".to_owned())
    } else {
        (!is_qualified_part(name)).then(|| QUALIFIED.to_owned())
    }
}

/// What is wrong with a label's value.
pub(crate) fn label_value(value: &str) -> Option<String> {
    if value.len() > 63 {
        Some("must be no more than 63 characters".to_owned())
    } else {
        (!value.is_empty() && !is_qualified_part(value)).then(|| LABEL_VALUE.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_their_kind() {
        for (rule, good, bad) in [
            (
                Rule::Subdomain,
                vec!["a", "a.b-c", "1.2"],
                vec!["", "A", "a.", "-a", "a..b", "a_b", "ä"],
            ),
            (Rule::Label, vec!["a", "1-a"], vec!["a.b", "a-", ""]),
            (Rule::Label1035, vec!["a1"], vec!["1a", "a.b", ""]),
        ] {
            for name in good {
                assert_eq!(rule.complaint(name), None, "{name}");
            }
            for name in bad {
                assert!(rule.complaint(name).is_some(), "{name}");
            }
        }
        assert!(Rule::Label.complaint(&"a".repeat(64)).is_some());
    }

    #[test]
    fn label_keys_and_values_are_checked() {
        for key in ["a", "A_b.c", "x.io/a"] {
            assert_eq!(qualified(key), None, "{key}");
        }
        for key in ["", "/a", "x/", "a b", "X!/a", "a/b/c", "-a"] {
            assert!(qualified(key).is_some(), "{key}");
        }
        assert_eq!(label_value(""), None);
        assert!(label_value("a b").is_some());
    }
}
