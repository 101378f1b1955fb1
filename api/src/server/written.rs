//! How answers are written: YAML for those who ask for it, indented with `pretty`, compressed if long.
//!
//! Looks at answers in JSON whose length is known, whoever made them; watches and logs pass as they are.
//! As in Kubernetes, answers of 128 KiB and more are compressed for clients that take gzip.

use axum::{
    body::Body,
    extract::Request,
    middleware::Next,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use serde_json::Value;

use super::gzip::Gzip;
use crate::{accept::Format, encoding, error::Error, verbs::accept};

/// Answers that are at least this long are compressed.
const COMPRESSED: u64 = 128 * 1024;
/// Answers longer than this are only written as they are: to be written otherwise, one is read whole.
const REWRITTEN: u64 = 16 * 1024 * 1024;
/// Answers that are at least this long are rewritten where they keep nobody waiting.
const LONG: usize = 128 * 1024;

/// How a client wants its answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Style {
    Plain,
    Pretty,
    Yaml,
}

pub(crate) async fn write(request: Request, next: Next) -> Response {
    let style = style(&request);
    let compressed = takes_gzip(request.headers());
    let head = request.method() == Method::HEAD;
    let mut response = next.run(request).await;
    if style != Style::Plain && is_json(response.headers()) && !head {
        response = rewrite(response, style).await;
    }
    if head {
        return bare(response);
    }
    if compressed && response.body().size_hint().exact() >= Some(COMPRESSED) {
        response = compress(response);
    }
    response
}

fn style(request: &Request) -> Style {
    let headers = request.headers();
    if let Ok((_, Format::Yaml)) = accept::negotiate(headers) {
        return Style::Yaml;
    }
    let query = request.uri().query().unwrap_or_default();
    let asked = query
        .split('&')
        .find_map(|pair| match pair.split_once('=') {
            Some(("pretty", value)) => Some(!matches!(value, "" | "false" | "0")),
            _ => None,
        });
    if asked.unwrap_or_else(|| is_read_by_people(headers)) {
        Style::Pretty
    } else {
        Style::Plain
    }
}

/// True for the programs whose answers Kubernetes indents unasked.
fn is_read_by_people(headers: &HeaderMap) -> bool {
    let agent = headers.get(header::USER_AGENT).map(HeaderValue::as_bytes);
    let programs: [&[u8]; 3] = [b"curl", b"Wget", b"Mozilla/5.0"];
    agent.is_some_and(|agent| programs.iter().any(|program| agent.starts_with(program)))
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| {
            let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
            let refused = weight
                .trim()
                .strip_prefix("q=")
                .is_some_and(|weight| weight.parse::<f32>().is_ok_and(|weight| weight == 0.0));
            name.trim() == "gzip" && !refused
        })
}

fn is_json(headers: &HeaderMap) -> bool {
    let json = HeaderValue::from_static("application/json");
    headers.get(header::CONTENT_TYPE) == Some(&json)
}

/// Writes an answer in another way.
async fn rewrite(response: Response, style: Style) -> Response {
    let size = response.body().size_hint().exact();
    let Some(size) = size.filter(|size| *size > 0) else {
        return response;
    };
    if size > REWRITTEN {
        return match style {
            Style::Yaml => Error::BadRequest(
                "the answer is too long to be written as YAML: ask for JSON, or for fewer objects with limit"
                    .to_owned(),
            )
            .into_response(),
            Style::Pretty | Style::Plain => response,
        };
    }
    let (mut parts, body) = response.into_parts();
    let written = match body.collect().await {
        Ok(body) => written(body.to_bytes(), style).await,
        Err(error) => Err(Error::internal(error)),
    };
    match written {
        Ok(text) => {
            parts.headers.remove(header::CONTENT_LENGTH);
            if style == Style::Yaml {
                let yaml = HeaderValue::from_static("application/yaml");
                parts.headers.insert(header::CONTENT_TYPE, yaml);
            }
            Response::from_parts(parts, Body::from(text))
        }
        Err(error) => error.into_response(),
    }
}

async fn written(bytes: Bytes, style: Style) -> Result<String, Error> {
    if bytes.len() < LONG {
        return text(&bytes, style);
    }
    let written = tokio::task::spawn_blocking(move || text(&bytes, style));
    written.await.map_err(Error::internal)?
}

fn text(bytes: &[u8], style: Style) -> Result<String, Error> {
    let value: Value = serde_json::from_slice(bytes).map_err(Error::internal)?;
    match style {
        Style::Yaml => encoding::to_yaml(&value).map_err(Error::internal),
        Style::Plain | Style::Pretty => {
            serde_json::to_string_pretty(&value).map_err(Error::internal)
        }
    }
}

/// The answer to a HEAD: what a GET would answer, without its body.
fn bare(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    if let Some(size) = body.size_hint().exact() {
        parts.headers.insert(header::CONTENT_LENGTH, size.into());
    }
    Response::from_parts(parts, Body::empty())
}

fn compress(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    let gzip = HeaderValue::from_static("gzip");
    parts.headers.insert(header::CONTENT_ENCODING, gzip);
    let vary = HeaderValue::from_static("Accept-Encoding");
    parts.headers.append(header::VARY, vary);
    Response::from_parts(parts, Body::new(Gzip::new(body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, headers: &[(&str, &str)], expected: Style) {
        let mut request = Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).expect("a request");
        assert_eq!(style(&request), expected, "{path} {headers:?}");
    }

    #[test]
    fn people_get_indented_text_and_programs_do_not() {
        check("/api", &[], Style::Plain);
        check("/api?pretty=true", &[], Style::Pretty);
        check("/api?limit=1&pretty=1", &[], Style::Pretty);
        check("/api", &[("user-agent", "curl/8.0")], Style::Pretty);
        check(
            "/api?pretty=false",
            &[("user-agent", "curl/8.0")],
            Style::Plain,
        );
        check(
            "/api?pretty=1",
            &[("accept", "application/yaml")],
            Style::Yaml,
        );
    }

    #[test]
    fn gzip_is_sent_to_those_who_take_it() {
        let takes = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("accept-encoding", value.parse().expect("a header"));
            takes_gzip(&headers)
        };
        assert!(takes("gzip") && takes("deflate, gzip;q=0.5"));
        assert!(!takes("identity") && !takes("gzip;q=0"));
        assert!(!takes_gzip(&HeaderMap::new()));
    }
}
