//! Paths with query parameters. Pure.

/// Adds parameters to a path; empty values are left out.
pub(crate) fn with(path: &str, parameters: &[(&str, &str)]) -> String {
    with_empty(path, parameters, &[])
}

/// The same, but empty values of the parameters `kept` mean something.
pub(crate) fn with_empty(path: &str, parameters: &[(&str, &str)], kept: &[&str]) -> String {
    let mut text = path.to_owned();
    let given = |(name, value): &&(&str, &str)| !value.is_empty() || kept.contains(name);
    for (name, value) in parameters.iter().filter(given) {
        text.push(if text.contains('?') { '&' } else { '?' });
        text.push_str(name);
        text.push('=');
        encode(value, &mut text);
    }
    text
}

fn encode(value: &str, into: &mut String) {
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                into.push(char::from(byte));
            }
            _ => into.push_str(&format!("%{byte:02X}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_encoded_and_empty_ones_left_out() {
        assert_eq!(
            with(
                "/api/v1/pods",
                &[
                    ("limit", "500"),
                    ("continue", ""),
                    ("labelSelector", "a=b,c!=ü")
                ]
            ),
            "/api/v1/pods?limit=500&labelSelector=a%3Db%2Cc%21%3D%C3%BC"
        );
    }
}
