//! The media ranges of an `Accept` header (RFC 9110), best first.
//!
//! Pure. A range with a greater weight (`q=`) comes first; of one weight those that say more, then
//! those that stand first.

use http::{HeaderMap, header};

/// How an answer is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Format {
    Json,
    Yaml,
}

/// One range: `application/json;as=Table;v=v1;g=meta.k8s.io`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MediaRange<'a> {
    text: &'a str,
}

impl<'a> MediaRange<'a> {
    fn name(self) -> &'a str {
        self.text.split(';').next().unwrap_or_default().trim()
    }

    /// How an answer of this range is written; `None` if we cannot.
    pub(crate) fn format(self) -> Option<Format> {
        match self.name() {
            "application/json" | "application/*" | "*/*" => Some(Format::Json),
            "application/yaml" => Some(Format::Yaml),
            _ => None,
        }
    }

    /// True if it is this media type.
    pub(crate) fn is(self, media_type: &str) -> bool {
        self.name() == media_type
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

    /// Its weight in thousandths; 0 is not acceptable at all.
    fn weight(self) -> u16 {
        let weight = match self.parameter("q").trim() {
            "" => 1.0,
            text => text.parse::<f32>().unwrap_or(1.0).clamp(0.0, 1.0),
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is between 0 and 1000"
        )]
        let thousandths = (weight * 1000.0).round() as u16;
        thousandths
    }

    /// How much its name leaves open.
    fn wildcards(self) -> usize {
        self.name().matches('*').count()
    }
}

/// The ranges of every `Accept` header, empty and unacceptable ones left out.
pub(crate) fn ranges(headers: &HeaderMap) -> Vec<MediaRange<'_>> {
    let mut ranges: Vec<_> = headers
        .get_all(header::ACCEPT)
        .iter()
        .flat_map(|value| value.to_str().unwrap_or("invalid").split(','))
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .map(|text| MediaRange { text })
        .filter(|range| range.weight() > 0)
        .collect();
    if ranges.len() > 1 {
        ranges.sort_by_key(|range| (std::cmp::Reverse(range.weight()), range.wildcards()));
    }
    ranges
}
