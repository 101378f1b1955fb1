//! One probe, and what came of it.

use std::time::Duration;

use k8s_openapi::api::core::v1::Probe;
use tokio::time::Instant;

use super::{
    Target, exec, grpc,
    http::{self, GetError},
    seconds, tcp,
};

/// How often a probe that could not be made is tried before it is given up until the next period.
const TRIES: u32 = 3;

/// What came of a probe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// With what the container answered.
    Success(String),
    /// Passed, but somebody should look.
    Warning(String),
    Failure(String),
    /// The probe itself did not work; `state` is `unknown` or `failure`, for the Event.
    Error {
        state: &'static str,
        message: String,
    },
}

impl Outcome {
    pub(super) fn unknown(message: impl Into<String>) -> Outcome {
        Outcome::Error {
            state: "unknown",
            message: message.into(),
        }
    }
}

/// Probes once.
pub(super) async fn attempt(target: &Target, probe: &Probe) -> Outcome {
    let timeout = seconds(probe.timeout_seconds, 1);
    let mut outcome = once(target, probe, timeout).await;
    for _ in 1..TRIES {
        if !matches!(outcome, Outcome::Error { .. }) {
            break;
        }
        outcome = once(target, probe, timeout).await;
    }
    outcome
}

async fn once(target: &Target, probe: &Probe, timeout: Duration) -> Outcome {
    let deadline = Instant::now() + timeout;
    if let Some(action) = &probe.exec {
        let command = action.command.clone().unwrap_or_default();
        exec::probe(target, command, timeout).await
    } else if let Some(action) = &probe.http_get {
        match http::get(target, action, "kube-probe/1.36", Some(deadline)).await {
            Ok(answer) if answer.status >= 400 || answer.status < 200 => {
                // Never the body: whoever reads Events need not be allowed to ask the pod.
                let status = answer.status;
                Outcome::Failure(format!("HTTP probe failed with statuscode: {status}"))
            }
            Ok(answer) if answer.status >= 300 => Outcome::Warning(format!(
                "Probe terminated redirects, Response body: {}",
                answer.body
            )),
            Ok(answer) => Outcome::Success(answer.body),
            Err(GetError::Port(message)) => Outcome::unknown(message),
            Err(error @ (GetError::Request { .. } | GetError::PlainHttp { .. })) => {
                Outcome::Failure(error.to_string())
            }
            Err(GetError::Body(message)) => Outcome::Error {
                state: "failure",
                message,
            },
        }
    } else if let Some(action) = &probe.tcp_socket {
        tcp::probe(target, action, deadline).await
    } else if let Some(action) = &probe.grpc {
        grpc::probe(target, action, timeout).await
    } else {
        let (name, pod) = (&target.container, &target.pod);
        let (pod, namespace) = (&pod.name, &pod.namespace);
        Outcome::unknown(format!(
            "missing probe handler for {namespace}:{pod}:{name}"
        ))
    }
}
