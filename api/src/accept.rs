//! The media ranges of an `Accept` header (RFC 9110), in the order in which the client names them.
//!
//! Pure. Kubernetes clients name what they like best first; weights (`q=`) are not looked at.

use http::{HeaderMap, header};

/// One range: `application/json;as=Table;v=v1;g=meta.k8s.io`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MediaRange<'a> {
    text: &'a str,
}

impl<'a> MediaRange<'a> {
    /// True if JSON is among what it stands for.
    pub(crate) fn is_json(self) -> bool {
        let name = self.text.split(';').next().unwrap_or_default().trim();
        matches!(name, "application/json" | "application/*" | "*/*")
    }

    /// True if it is this media type.
    pub(crate) fn is(self, media_type: &str) -> bool {
        self.text.split(';').next().unwrap_or_default().trim() == media_type
    }

    /// A parameter's value; empty if it is not there.
    pub(crate) fn parameter(self, name: &str) -> &'a str {
        let mut parameters = self.text.split(';').skip(1);
        let found = parameters.find_map(|part| {
            let (key, value) = part.trim().split_once('=')?;
            key.eq_ignore_ascii_case(name).then_some(value)
        });
        found.unwrap_or_default()
    }
}

/// The ranges of every `Accept` header, empty ones left out.
pub(crate) fn ranges(headers: &HeaderMap) -> impl Iterator<Item = MediaRange<'_>> {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .flat_map(|value| value.to_str().unwrap_or("invalid").split(','))
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .map(|text| MediaRange { text })
}
