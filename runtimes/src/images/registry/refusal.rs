//! What a registry's refusals and a network's failures are in a user's words, and whether to try again.

use std::{io::ErrorKind, time::Duration};

use jiff::{Timestamp, fmt::rfc2822};
use oci_client::errors::OciDistributionError;
use reqwest::{Response, StatusCode, header};

/// The most of a refusal's body that is read.
const MAX_BODY: u64 = 16 << 10;

/// The most of it that is told.
const MAX_TOLD: usize = 300;

/// Why a host did not give what it was asked for.
#[derive(Clone, Debug)]
pub(in crate::images) struct Refusal {
    pub(in crate::images) kind: Kind,
    /// With the host's name.
    pub(in crate::images) message: String,
}

/// What to do about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::images) enum Kind {
    /// The way to the host broke; the next attempt may get through.
    Transport,
    /// The host is at fault, perhaps not for long.
    Server,
    /// It wants to be asked later; it may say when.
    TooMany(Option<Duration>),
    /// Another account may be let in.
    Account,
    /// It is as it is.
    Final,
}

impl Refusal {
    pub(super) fn new(kind: Kind, host: &str, message: &str) -> Refusal {
        Refusal {
            kind,
            message: format!("{host}: {message}"),
        }
    }

    /// Of a request that had no answer, or whose answer broke off.
    pub(super) fn of_transport(host: &str, error: &reqwest::Error) -> Refusal {
        Refusal {
            kind: Kind::Transport,
            message: transport_in_words(host, error),
        }
    }

    /// Of an answer that is none of success.
    pub(super) async fn of_answer(host: &str, response: Response) -> Refusal {
        let status = response.status();
        let wait = response.headers().get(header::RETRY_AFTER);
        let wait = wait.and_then(|value| retry_after(value.to_str().ok()?, Timestamp::now()));
        let body = read(response, MAX_BODY).await.unwrap_or_default();
        Refusal::of_status(host, status, wait, &said(&body))
    }

    fn of_status(host: &str, status: StatusCode, wait: Option<Duration>, said: &str) -> Refusal {
        let or = |words: &str| if said.is_empty() { words } else { said }.to_owned();
        let (kind, message) = match status {
            StatusCode::UNAUTHORIZED => (
                Kind::Account,
                "unauthorized: authentication required".to_owned(),
            ),
            StatusCode::FORBIDDEN => (
                Kind::Account,
                format!(
                    "denied: {}",
                    or("requested access to the resource is denied")
                ),
            ),
            StatusCode::NOT_FOUND => (Kind::Final, or("not found")),
            StatusCode::TOO_MANY_REQUESTS => {
                let again = match wait {
                    Some(wait) => format!("; try again in {} s", wait.as_secs()),
                    None => String::new(),
                };
                (
                    Kind::TooMany(wait),
                    format!("too many requests: {}{again}", or("the limit is reached")),
                )
            }
            status if status.is_server_error() => (
                Kind::Server,
                match said {
                    "" => status.to_string(),
                    said => format!("{status}: {said}"),
                },
            ),
            status => (Kind::Final, format!("{status}: {}", or("refused"))),
        };
        Refusal::new(kind, host, &message)
    }

    /// Of an account's exchange for a token.
    pub(super) fn of_authentication(host: &str, error: &OciDistributionError) -> Refusal {
        match error {
            OciDistributionError::RequestError(error) => Refusal::of_transport(host, error),
            OciDistributionError::AuthenticationFailure(body) => {
                let message = match said(body.as_bytes()).as_str() {
                    "" => "unauthorized: authentication required".to_owned(),
                    said => format!("unauthorized: authentication required: {said}"),
                };
                Refusal::new(Kind::Account, host, &message)
            }
            error => Refusal::new(Kind::Account, host, &format!("authentication: {error}")),
        }
    }
}

/// An answer's body, of which more than `max_bytes` is an error.
pub(super) async fn read(mut response: Response, max_bytes: u64) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(ReadError::Transport)? {
        if (bytes.len() + chunk.len()) as u64 > max_bytes {
            return Err(ReadError::TooLong);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// Why a body is not here.
pub(super) enum ReadError {
    TooLong,
    Transport(reqwest::Error),
}

/// What a registry says in a refusal, as the distribution specification has it, or in its own words; one line.
fn said(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Envelope {
        errors: Vec<Said>,
    }
    #[derive(serde::Deserialize)]
    struct Said {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let text = match serde_json::from_slice::<Envelope>(body) {
        Ok(Envelope { errors }) => {
            let one = |said: Said| match (said.code.as_str(), said.message) {
                ("MANIFEST_UNKNOWN", _) => "manifest unknown".to_owned(),
                ("NAME_UNKNOWN", _) => "repository unknown".to_owned(),
                (code, message) if message.is_empty() => code.to_owned(),
                (_, message) => message,
            };
            errors.into_iter().map(one).collect::<Vec<_>>().join("; ")
        }
        // A page for browsers tells nothing.
        Err(_) if body.trim_ascii_start().starts_with(b"<") => String::new(),
        Err(_) => {
            let details: Option<serde_json::Value> = serde_json::from_slice(body).ok();
            let details = details.and_then(|json| json["details"].as_str().map(str::to_owned));
            details.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned())
        }
    };
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(MAX_TOLD).collect()
}

/// How long to wait, as `Retry-After` says: in seconds, or until a date.
fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = rfc2822::DateTimeParser::new()
        .parse_timestamp(value.trim())
        .ok()?;
    Some(Duration::try_from(then.duration_since(now)).unwrap_or_default())
}

fn transport_in_words(host: &str, error: &dyn std::error::Error) -> String {
    let mut deepest = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            match io.kind() {
                ErrorKind::ConnectionRefused => {
                    return format!("connect to {host}: connection refused");
                }
                ErrorKind::TimedOut => return format!("{host} did not answer in time"),
                _ => {}
            }
        }
        deepest = error.to_string();
        cause = error.source();
    }
    if deepest.contains("failed to lookup address") {
        return format!("connect to {host}: no such host");
    }
    format!("connect to {host}: {deepest}")
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(status: u16, wait: Option<u64>, body: &str, want: Expect) {
        let status = StatusCode::from_u16(status).unwrap();
        let wait = wait.map(Duration::from_secs);
        let refusal = Refusal::of_status("r.example", status, wait, &said(body.as_bytes()));
        want.assert_eq(&format!("{:?} {}", refusal.kind, refusal.message));
    }

    #[test]
    fn refusals_are_told_in_a_users_words() {
        let errors =
            |code: &str| format!(r#"{{"errors": [{{"code": "{code}", "message": "its words"}}]}}"#);
        check(
            401,
            None,
            &errors("UNAUTHORIZED"),
            expect!["Account r.example: unauthorized: authentication required"],
        );
        check(
            403,
            None,
            &errors("DENIED"),
            expect!["Account r.example: denied: its words"],
        );
        check(
            404,
            None,
            &errors("MANIFEST_UNKNOWN"),
            expect!["Final r.example: manifest unknown"],
        );
        check(
            404,
            None,
            "<html>no page</html>",
            expect!["Final r.example: not found"],
        );
        check(
            429,
            Some(90),
            &errors("TOOMANYREQUESTS"),
            expect![
                "TooMany(Some(90s)) r.example: too many requests: its words; try again in 90 s"
            ],
        );
        check(
            429,
            None,
            "",
            expect!["TooMany(None) r.example: too many requests: the limit is reached"],
        );
        check(
            503,
            None,
            "back\n soon",
            expect!["Server r.example: 503 Service Unavailable: back soon"],
        );
        check(
            418,
            None,
            r#"{"details": "tea"}"#,
            expect!["Final r.example: 418 I'm a teapot: tea"],
        );
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Timestamp::from_second(1_445_412_420).unwrap();
        let check = |value: &str, want: Option<u64>| {
            assert_eq!(retry_after(value, now), want.map(Duration::from_secs));
        };
        check("120", Some(120));
        check("Wed, 21 Oct 2015 07:28:00 GMT", Some(60));
        check("Wed, 21 Oct 2015 07:00:00 GMT", Some(0));
        check("soon", None);
    }
}
