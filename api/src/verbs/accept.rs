//! What a client wants to see: the objects, a table of them, or only their metadata.
//!
//! Pure. The first acceptable media range wins; ranges we cannot write (protobuf, CBOR) are passed over.

use http::HeaderMap;

use crate::{
    accept::{self, Format, MediaRange},
    error::Error,
};

/// The API version of a view in `meta.k8s.io`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum MetaVersion {
    V1,
    V1Beta1,
}

impl MetaVersion {
    pub(crate) fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "meta.k8s.io/v1",
            Self::V1Beta1 => "meta.k8s.io/v1beta1",
        }
    }
}

/// How objects are shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum View {
    Object,
    Table(MetaVersion),
    /// `PartialObjectMetadata`.
    Metadata(MetaVersion),
}

/// Reads the `Accept` header: what to show, and how it is written.
pub(crate) fn negotiate(headers: &HeaderMap) -> Result<(View, Format), Error> {
    if headers
        .get(http::header::ACCEPT)
        .is_none_or(|value| value.is_empty())
    {
        return Ok((View::Object, Format::Json));
    }
    let ranges = accept::ranges(headers);
    ranges
        .into_iter()
        .find_map(|range| Some((range_view(range)?, range.format()?)))
        .ok_or(Error::NotAcceptable)
}

fn range_view(range: MediaRange<'_>) -> Option<View> {
    range.format()?;
    let kind = range.parameter("as");
    if kind.is_empty() {
        return Some(View::Object);
    }
    let version = match (range.parameter("g"), range.parameter("v")) {
        ("" | "meta.k8s.io", "" | "v1") => MetaVersion::V1,
        ("" | "meta.k8s.io", "v1beta1") => MetaVersion::V1Beta1,
        _ => return None,
    };
    match kind {
        "Table" => Some(View::Table(version)),
        "PartialObjectMetadata" | "PartialObjectMetadataList" => Some(View::Metadata(version)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use http::header;

    use super::*;

    #[track_caller]
    fn check(accept: &str, expected: Expect) {
        let mut headers = HeaderMap::new();
        if !accept.is_empty() {
            headers.insert(header::ACCEPT, accept.parse().expect("a header"));
        }
        expected.assert_eq(&match negotiate(&headers) {
            Ok((view, Format::Json)) => format!("{view:?}"),
            Ok((view, Format::Yaml)) => format!("{view:?} in YAML"),
            Err(error) => error.code().to_string(),
        });
    }

    #[test]
    fn clients_get_what_they_ask_for_first() {
        check("", expect!["Object"]);
        check("*/*", expect!["Object"]);
        check("application/json", expect!["Object"]);
        check(
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
            expect!["Table(V1)"],
        );
        check(
            "application/json;as=Table;v=v9;g=meta.k8s.io, application/json",
            expect!["Object"],
        );
        check(
            "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
            expect!["Metadata(V1)"],
        );
    }

    #[test]
    fn weights_go_before_order() {
        check(
            "application/json;q=0.5, application/yaml",
            expect!["Object in YAML"],
        );
        check("*/*, application/yaml", expect!["Object in YAML"]);
        check("application/yaml;q=0, */*;q=0.1", expect!["Object"]);
        check(
            "application/yaml;as=Table;g=meta.k8s.io;v=v1",
            expect!["Table(V1) in YAML"],
        );
        check("application/json;q=0", expect!["406 Not Acceptable"]);
    }

    #[test]
    fn protobuf_falls_back_to_json_or_is_refused() {
        check(
            "application/vnd.kubernetes.protobuf,application/json",
            expect!["Object"],
        );
        check(
            "application/vnd.kubernetes.protobuf",
            expect!["406 Not Acceptable"],
        );
        check("text/html", expect!["406 Not Acceptable"]);
    }
}
