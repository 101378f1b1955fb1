//! `grpc`: `grpc.health.v1.Health/Check`, over HTTP/2 without TLS.
//!
//! Source: the gRPC health checking protocol, and gRPC over HTTP/2. The two messages are small enough to be written
//! and read by hand.

use std::{fmt, time::Duration};

use ::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use bytes::{BufMut as _, Bytes, BytesMut};
use k8s_openapi::api::core::v1::GRPCAction;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout_at},
};

use super::{
    Target,
    attempt::Outcome,
    dial::{self, beside, go_seconds},
};

const PATH: &str = "/grpc.health.v1.Health/Check";
/// Between tries to connect.
const RECONNECT: Duration = Duration::from_secs(1);
/// What is read of an answer, which has a few bytes.
const LONGEST_ANSWER: usize = 4 << 10;

/// Status codes in their order.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];
const UNKNOWN: usize = 2;
const DEADLINE_EXCEEDED: usize = 4;
const PERMISSION_DENIED: usize = 7;
const UNIMPLEMENTED: usize = 12;
const INTERNAL: usize = 13;
const UNAVAILABLE: usize = 14;
const UNAUTHENTICATED: usize = 16;

/// A call that failed.
#[derive(Debug)]
struct Status {
    code: usize,
    message: String,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = CODES.get(self.code).unwrap_or(&"Unknown");
        write!(f, "rpc error: code = {code} desc = {}", self.message)
    }
}

impl From<h2::Error> for Status {
    fn from(error: h2::Error) -> Status {
        Status {
            code: UNAVAILABLE,
            message: error.to_string(),
        }
    }
}

/// Asks whether the service is well.
pub(super) async fn probe(target: &Target, action: &GRPCAction, timeout: Duration) -> Outcome {
    let Ok(port @ 1..) = u16::try_from(action.port) else {
        return Outcome::unknown(format!("invalid port number: {}", action.port));
    };
    let deadline = Instant::now() + timeout;
    let host = target.address.ip.to_string();
    let within = go_seconds(timeout);
    let address = dial::join(&host, port);
    let Ok(stream) = timeout_at(deadline, connect(&host, port)).await else {
        return Outcome::Failure(format!(
            "timeout: failed to connect service {address:?} within {within}: context deadline exceeded"
        ));
    };
    let service = action.service.as_deref().unwrap_or_default();
    let late = || {
        Outcome::Failure(format!(
            "timeout: health rpc did not complete within {within}"
        ))
    };
    match timeout_at(deadline, check(stream, &address, service, timeout)).await {
        Err(_) => late(),
        Ok(Ok(1)) => Outcome::Success("service healthy".to_owned()),
        Ok(Ok(status)) => {
            let status = match status {
                0 => "UNKNOWN".to_owned(),
                2 => "NOT_SERVING".to_owned(),
                3 => "SERVICE_UNKNOWN".to_owned(),
                other => other.to_string(),
            };
            Outcome::Failure(format!("service unhealthy (responded with {status:?})"))
        }
        Ok(Err(status)) if status.code == UNIMPLEMENTED => Outcome::Failure(format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {}",
            status.message
        )),
        Ok(Err(status)) if status.code == DEADLINE_EXCEEDED => late(),
        Ok(Err(status)) => Outcome::Failure(format!("error: health rpc probe failed: {status}")),
    }
}

/// Tries until there is a connection.
async fn connect(host: &str, port: u16) -> TcpStream {
    loop {
        if let Ok(stream) = dial::tcp(host, port).await {
            return stream;
        }
        sleep(RECONNECT).await;
    }
}

/// Makes the call; answers the service's state as a number.
async fn check(
    stream: TcpStream,
    authority: &str,
    service: &str,
    timeout: Duration,
) -> Result<u64, Status> {
    let bad = |error: ::http::Error| Status {
        code: INTERNAL,
        message: error.to_string(),
    };
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://{authority}{PATH}"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::USER_AGENT, "kube-probe/1.36")
        .header(header::TE, "trailers")
        .header("grpc-timeout", format!("{}m", timeout.as_millis()))
        .body(())
        .map_err(bad)?;
    let (sender, connection) = h2::client::handshake(stream).await?;
    let work = async {
        let mut sender = sender.ready().await?;
        let (answer, mut body) = sender.send_request(request, false)?;
        body.send_data(question(service), true)?;
        let answer = answer.await?;
        let (head, mut body) = answer.into_parts();
        // An error may come without a body: its status is in the head then.
        status(head.status, &head.headers, false)?;
        let mut message = BytesMut::new();
        while let Some(data) = body.data().await {
            let data = data?;
            let _ = body.flow_control().release_capacity(data.len());
            if message.len() + data.len() > LONGEST_ANSWER {
                let message = format!("received message larger than max ({LONGEST_ANSWER})");
                return Err(Status { code: 8, message });
            }
            message.extend_from_slice(&data);
        }
        let trailers = body.trailers().await?.unwrap_or_default();
        status(head.status, &trailers, true)?;
        answered(&message).ok_or_else(|| Status {
            code: INTERNAL,
            message: "the answer is not a HealthCheckResponse".to_owned(),
        })
    };
    beside(connection, work).await
}

/// What headers or trailers say of the call; without `grpc-status` the head's status decides, if this is the end.
fn status(http: StatusCode, fields: &HeaderMap, end: bool) -> Result<(), Status> {
    let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
    if let Some(code) = fields.get("grpc-status").map(text) {
        let code = code.parse().unwrap_or(UNKNOWN);
        let message = fields.get("grpc-message").map(text).unwrap_or_default();
        let message = unescape(&message);
        return if code == 0 {
            Ok(())
        } else {
            Err(Status { code, message })
        };
    }
    if http == StatusCode::OK && !end {
        return Ok(());
    }
    let code = match http.as_u16() {
        400 => INTERNAL,
        401 => UNAUTHENTICATED,
        403 => PERMISSION_DENIED,
        404 => UNIMPLEMENTED,
        429 | 502..=504 => UNAVAILABLE,
        _ => UNKNOWN,
    };
    let message = if http == StatusCode::OK {
        "server closed the stream without sending trailers".to_owned()
    } else {
        format!("unexpected HTTP status code received from server: {http}")
    };
    Err(Status { code, message })
}

/// `%20` to a space.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = after
            .get(..2)
            .and_then(|code| std::str::from_utf8(code).ok());
        let code = code.and_then(|code| u8::from_str_radix(code, 16).ok());
        match (byte, code) {
            (b'%', Some(code)) => {
                bytes.push(code);
                rest = &after[2..];
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A `HealthCheckRequest` with its prefix: not compressed, its length; field 1 is the service's name.
fn question(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.put_u8((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.put_u8(length as u8);
        message.put_slice(service.as_bytes());
    }
    let mut framed = BytesMut::with_capacity(5 + message.len());
    framed.put_u8(0);
    framed.put_u32(message.len() as u32);
    framed.put_slice(&message);
    framed.freeze()
}

/// Field 1 of a `HealthCheckResponse`, a number; other fields are skipped. `None` if this is not a message.
fn answered(framed: &[u8]) -> Option<u64> {
    let (prefix, message) = framed.split_at_checked(5)?;
    let length = u32::from_be_bytes(prefix[1..].try_into().ok()?) as usize;
    if prefix[0] != 0 || message.len() != length {
        return None;
    }
    let (mut rest, mut status) = (message, 0);
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        match (tag >> 3, tag & 7) {
            (1, 0) => status = varint(&mut rest)?,
            (_, 0) => drop(varint(&mut rest)?),
            (_, 1) => rest = rest.get(8..)?,
            (_, 2) => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                rest = rest.get(length..)?;
            }
            (_, 5) => rest = rest.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_question_is_a_framed_message() {
        assert_eq!(question("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(question("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(question(&"x".repeat(200))[5..8], [0x0a, 0xc8, 1]);
    }

    #[test]
    fn an_answer_is_its_first_field() {
        assert_eq!(answered(&[0, 0, 0, 0, 2, 8, 1]), Some(1));
        assert_eq!(answered(&[0, 0, 0, 0, 0]), Some(0));
        assert_eq!(answered(&[0, 0, 0, 0, 5, 0x12, 1, 7, 8, 2]), Some(2));
        assert_eq!(answered(&[1, 0, 0, 0, 2, 8, 1]), None);
        assert_eq!(answered(b"HTTP/1.1 400"), None);
    }

    #[test]
    fn messages_are_unescaped() {
        assert_eq!(unescape("a%20b%"), "a b%");
    }

    proptest! {
        #[test]
        fn no_answer_is_too_odd_to_be_read(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut framed = vec![0];
            framed.extend((bytes.len() as u32).to_be_bytes());
            framed.extend(bytes);
            let _ = answered(&framed);
        }
    }
}
