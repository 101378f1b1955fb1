//! Lifecycle handlers (`postStart`, `preStop`), run once as the kubelet runs them.
//!
//! Neither exec nor httpGet has a deadline here: the caller has, where Kubernetes has one. Any HTTP answer will do,
//! whatever its status. `tcpSocket` always fails: Kubernetes keeps the field and has no such handler.

use std::time::Duration;

use k8s_openapi::api::core::v1::{HTTPGetAction, LifecycleHandler};

use crate::probe::{
    Target, exec,
    http::{self, GetError},
};

/// Who asks, in HTTP.
const AGENT: &str = "kube-lifecycle/1.36";

/// Runs a handler; the error is what a container that waits for it, or an Event, says.
pub(crate) async fn run(target: &Target, handler: &LifecycleHandler) -> Result<(), String> {
    let pod = &target.pod;
    let place = format!(
        "for Container {:?} in Pod \"{}_{}({})\"",
        target.container, pod.name, pod.namespace, pod.uid
    );
    if let Some(action) = &handler.exec {
        let command = action.command.clone().unwrap_or_default();
        let words = command.join(" ");
        let failed = |error: String, output: &str| {
            Err(format!(
                "Exec lifecycle hook ([{words}]) {place} failed - error: {error}, message: {output:?}"
            ))
        };
        match exec::run(target, command).await {
            Ok(ended) if ended.code == 0 => Ok(()),
            Ok(ended) => {
                let stderr = String::from_utf8_lossy(&ended.stderr);
                let output = String::from_utf8_lossy(&ended.stdout).into_owned() + &stderr;
                let code = ended.code;
                failed(
                    format!("command '{words}' exited with {code}: {stderr}"),
                    &output,
                )
            }
            Err(error) => failed(error.to_string(), ""),
        }
    } else if let Some(action) = &handler.http_get {
        get(target, action).await.map_err(|error| {
            let path = action.path.as_deref().unwrap_or_default();
            format!("HTTP lifecycle hook ({path}) {place} failed - error: {error}")
        })
    } else if let Some(action) = &handler.sleep {
        let seconds = u64::try_from(action.seconds).unwrap_or(0);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        Ok(())
    } else {
        let what = if handler.tcp_socket.is_some() {
            "tcpSocket is not supported"
        } else {
            "it is empty"
        };
        Err(format!("Cannot run handler: invalid handler: {what}"))
    }
}

/// A server that turns out not to speak TLS is asked once more without, and without its credentials.
async fn get(target: &Target, action: &HTTPGetAction) -> Result<(), GetError> {
    match http::get(target, action, AGENT, None).await {
        Err(GetError::PlainHttp { .. }) => {
            let mut plain = action.clone();
            plain.scheme = Some("HTTP".to_owned());
            if let Some(headers) = &mut plain.http_headers {
                headers.retain(|header| !header.name.eq_ignore_ascii_case("authorization"));
            }
            http::get(target, &plain, AGENT, None).await.map(drop)
        }
        // The body is nobody's concern.
        Ok(_) | Err(GetError::Body(_)) => Ok(()),
        Err(error) => Err(error),
    }
}
