//! What a path under `/v2/` is about. Pure.
//!
//! A repository's name has slashes: paths are read from their end.

use std::borrow::Cow;

use http::Method;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Route<'a> {
    Version,
    Token,
    Catalog,
    Blob {
        name: &'a str,
        digest: Cow<'a, str>,
    },
    Uploads {
        name: &'a str,
    },
    Upload {
        name: &'a str,
        id: &'a str,
    },
    Manifest {
        name: &'a str,
        reference: Cow<'a, str>,
    },
    Tags {
        name: &'a str,
    },
    Referrers {
        name: &'a str,
        digest: Cow<'a, str>,
    },
}

/// Reads a path; `None` if there is nothing at it.
pub(super) fn parse(path: &str) -> Option<Route<'_>> {
    let rest = path.strip_prefix("/v2")?;
    let rest = match rest {
        "" | "/" => return Some(Route::Version),
        rest => rest.strip_prefix('/')?,
    };
    match rest {
        "token" => return Some(Route::Token),
        "_catalog" => return Some(Route::Catalog),
        _ => {}
    }
    if let Some(name) = rest.strip_suffix("/tags/list") {
        return Some(Route::Tags { name });
    }
    let uploads = rest
        .strip_suffix("/blobs/uploads")
        .or(rest.strip_suffix("/blobs/uploads/"));
    if let Some(name) = uploads {
        return Some(Route::Uploads { name });
    }
    let (before, last) = rest.rsplit_once('/')?;
    if let Some(name) = before.strip_suffix("/blobs/uploads") {
        return Some(Route::Upload { name, id: last });
    }
    let (name, sort) = before.rsplit_once('/')?;
    match sort {
        "blobs" => Some(Route::Blob {
            name,
            digest: decode(last),
        }),
        "manifests" => Some(Route::Manifest {
            name,
            reference: decode(last),
        }),
        "referrers" => Some(Route::Referrers {
            name,
            digest: decode(last),
        }),
        _ => None,
    }
}

/// The one character of digests that some clients encode.
fn decode(text: &str) -> Cow<'_, str> {
    match text.split_once("%3A").or_else(|| text.split_once("%3a")) {
        Some((algorithm, hex)) => format!("{algorithm}:{hex}").into(),
        None => text.into(),
    }
}

impl<'a> Route<'a> {
    /// The repository that it is about.
    pub(super) fn name(&self) -> Option<&'a str> {
        match self {
            Route::Version | Route::Token | Route::Catalog => None,
            Route::Blob { name, .. }
            | Route::Uploads { name }
            | Route::Upload { name, .. }
            | Route::Manifest { name, .. }
            | Route::Tags { name }
            | Route::Referrers { name, .. } => Some(name),
        }
    }

    /// What is asked, for metrics.
    pub(super) fn operation(&self, method: &Method) -> &'static str {
        let reads = matches!(*method, Method::GET | Method::HEAD);
        match self {
            Route::Version => "version",
            Route::Token => "token",
            Route::Catalog | Route::Tags { .. } | Route::Referrers { .. } => "list",
            Route::Uploads { .. } | Route::Upload { .. } => "push_blob",
            Route::Blob { .. } if reads => "pull_blob",
            Route::Manifest { .. } if reads => "pull_manifest",
            Route::Manifest { .. } if *method == Method::PUT => "push_manifest",
            Route::Blob { .. } | Route::Manifest { .. } => "delete",
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(path: &str, want: Expect) {
        want.assert_eq(&format!("{:?}", parse(path)));
    }

    #[test]
    fn paths_are_read_from_their_end() {
        check("/v2", expect!["Some(Version)"]);
        check("/v2/", expect!["Some(Version)"]);
        check("/v1/", expect!["None"]);
        check("/v2/a", expect!["None"]);
        check(
            "/v2/a/b/blobs/sha256%3Aab",
            expect![[r#"Some(Blob { name: "a/b", digest: "sha256:ab" })"#]],
        );
        check(
            "/v2/a/manifests/blobs/manifests/v1",
            expect![[r#"Some(Manifest { name: "a/manifests/blobs", reference: "v1" })"#]],
        );
        check(
            "/v2/a/b/blobs/uploads/",
            expect![[r#"Some(Uploads { name: "a/b" })"#]],
        );
        check(
            "/v2/a/b/blobs/uploads",
            expect![[r#"Some(Uploads { name: "a/b" })"#]],
        );
        check(
            "/v2/a/b/blobs/uploads/1",
            expect![[r#"Some(Upload { name: "a/b", id: "1" })"#]],
        );
        check(
            "/v2/a/tags/tags/list",
            expect![[r#"Some(Tags { name: "a/tags" })"#]],
        );
        check(
            "/v2/a/b/referrers/sha256:ab",
            expect![[r#"Some(Referrers { name: "a/b", digest: "sha256:ab" })"#]],
        );
    }
}
