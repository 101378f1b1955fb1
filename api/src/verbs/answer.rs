//! A successful answer: code, JSON, and warnings for the user.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::payload::Payload;
use crate::error::Subject;

/// What a verb answers.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: StatusCode,
    pub(crate) body: Payload,
    pub(crate) warnings: Vec<String>,
}

impl Answer {
    pub(crate) fn new(code: StatusCode, body: impl Into<Payload>) -> Self {
        Self {
            code,
            body: body.into(),
            warnings: Vec::new(),
        }
    }

    pub(crate) fn ok(body: impl Into<Payload>) -> Self {
        Self::new(StatusCode::OK, body)
    }

    pub(crate) fn json(code: StatusCode, value: &Value) -> Self {
        Self::new(code, Bytes::from(value.to_string()))
    }

    /// A `Status` that says that all went well.
    pub(crate) fn success(code: StatusCode, subject: &Subject, uid: &str) -> Self {
        let mut details = json!({"kind": subject.resource});
        for (key, text) in [
            ("name", &*subject.name),
            ("group", subject.group),
            ("uid", uid),
        ] {
            if !text.is_empty() {
                details[key] = text.into();
            }
        }
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
        });
        Self::json(code, &status)
    }

    pub(crate) fn with_warnings(mut self, warnings: Vec<String>) -> Self {
        self.warnings = warnings;
        self
    }
}

/// RFC 7234's warning with the code for "miscellaneous", as Kubernetes uses it.
pub(crate) fn warning(text: &str) -> Option<HeaderValue> {
    let mut quoted = String::with_capacity(text.len() + 8);
    for character in text.chars().filter(|character| !character.is_control()) {
        if matches!(character, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()).ok()
}

/// Adds `Warning` headers to an answer.
pub(crate) fn warn(response: &mut Response, warnings: &[String]) {
    let headers = response.headers_mut();
    for value in warnings.iter().filter_map(|text| warning(text)) {
        headers.append(header::WARNING, value);
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.code;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        warn(&mut response, &self.warnings);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_quoted_and_hold_no_control_characters() {
        let value = warning("unknown field \"spec.foo\"\r\nX: y").expect("a value");
        assert_eq!(
            value.as_bytes(),
            br#"299 - "unknown field \"spec.foo\"X: y""#
        );
    }
}
