//! A Function's answer: its revision is chosen, its policies are asked, and a component is called in place or a container
//! through one of its pods; what failed is sent again where that is safe.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header::CONTENT_LENGTH};
use http_body_util::{BodyExt, Full, Limited};
use rand::RngExt;
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    activator::{Capacity, NoPod},
    answer::Refusal,
    body::{self, Held, Outgoing, Upload},
    headers, metrics,
    routes::row::{Function, Revision},
    serve::Job,
    upgrade,
    upstream::{Broken, Speaks},
};

/// The node ends a component in time; after this much more the gateway does not wait for it.
const GRACE: Duration = Duration::from_secs(2);
/// Bytes of a body that is kept to be sent again.
const KEPT: u64 = 64 * 1024;
/// Pods that one attempt may try, as long as none has been sent anything.
const PODS: usize = 3;
/// The port of a Function's Service, which policies about a component's ports are about.
const PORT: u16 = 80;

/// The Function that a request is for.
pub(super) struct Called<'a> {
    pub(super) function: &'a Arc<Function>,
    pub(super) tag: Option<&'a str>,
}

/// A Function by its name, in answers.
struct Who<'a>(&'a Function);

impl fmt::Display for Who<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "function {}/{}", self.0.namespace, self.0.name)
    }
}

/// Answers for a Function.
pub(super) async fn call(
    mut job: Job<'_>,
    called: Called<'_>,
) -> Result<Response<Outgoing>, Refusal> {
    let Called { function, tag } = called;
    let who = Who(function);
    let dice = |sides| rand::rng().random_range(0..sides);
    let Some(revision) = function.choose(tag, dice).cloned() else {
        return Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!(
                "{who} has no revision that is ready: kubectl describe function -n {} {}",
                function.namespace, function.name
            ),
        ));
    };
    if !admits(&job, function, &revision) {
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            format!("a NetworkPolicy keeps this client from {who}"),
        ));
    }
    let deadline = job.begun + revision.timeout;
    let mut again = match revision.attempts {
        0 => None,
        _ => Again::keep(&mut job.request, deadline).await?,
    };
    let mut left = revision.attempts;
    let mut backoff = revision.backoff;
    let upgrade = job.upgrade.take();
    if let Some(wanted) = &upgrade {
        again = None;
        if revision.pods.is_none() && !wanted.is_optional() {
            let message = format!("{who} is a component, which serves no WebSocket");
            return Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, message));
        }
    }
    let mut attempt = Attempt {
        job,
        revision: &revision,
        who,
        deadline,
        upgrade,
    };
    loop {
        let refusal = match attempt.run().await {
            Ok(response) => return Ok(response),
            Err(refusal) => refusal,
        };
        let Some(again) = again.as_ref().filter(|_| left > 0 && refusal.passing) else {
            return Err(refusal);
        };
        // Half of it to all of it, so that what failed together does not come back together.
        let pause = backoff.mul_f64(rand::rng().random_range(0.5..1.0));
        if Instant::now() + pause >= deadline {
            return Err(refusal);
        }
        sleep(pause).await;
        left -= 1;
        backoff *= 2;
        attempt.job.request = again.request();
    }
}

/// Whether NetworkPolicies let the client in. A node reaches what it runs, whatever they say.
fn admits(job: &Job<'_>, function: &Function, revision: &Revision) -> bool {
    let network = &job.link.shared.network;
    let policies = network.policies();
    if !policies.any() {
        return true;
    }
    let client = &job.link.client;
    if network.is_own_client(client.ip, client.local) {
        return true;
    }
    let mut labels = revision.labels.clone();
    let own = [
        (function_kinds::FUNCTION_LABEL, function.name.to_string()),
        (function_kinds::REVISION_LABEL, revision.id.name.clone()),
    ];
    labels.extend(own.map(|(name, value)| (name.to_owned(), value)));
    policies.admits(&function.namespace, &labels, client.ip, PORT)
}

/// One way through a revision.
struct Attempt<'a> {
    job: Job<'a>,
    revision: &'a Revision,
    who: Who<'a>,
    deadline: Instant,
    upgrade: Option<upgrade::Wanted>,
}

impl Attempt<'_> {
    async fn run(&mut self) -> Result<Response<Outgoing>, Refusal> {
        let request = std::mem::replace(&mut self.job.request, Request::new(nothing()));
        match &self.revision.pods {
            Some(pods) => self.through(pods, request).await,
            None => self.invoke(request).await,
        }
    }

    fn late(&self) -> Refusal {
        Refusal::late(&self.who, self.revision.timeout)
    }

    async fn invoke(&self, request: Request<Upload>) -> Result<Response<Outgoing>, Refusal> {
        let invoke = &self.job.link.shared.invoke;
        let deadline = self.deadline + GRACE;
        let invoked = invoke.invoke(&self.revision.id, request.map(body::boxed));
        match timeout_at(deadline, invoked).await {
            Ok(Ok(response)) => {
                let mut response = response.map(Outgoing::invoked);
                headers::remove_hop_by_hop(response.headers_mut());
                Ok(response.map(|body| body.until(Some(deadline))))
            }
            Ok(Err(error)) => Err(Refusal::of(&error, &self.who, self.revision.timeout)),
            Err(_) => Err(self.late()),
        }
    }

    async fn through(
        &mut self,
        pods: &Arc<Capacity>,
        mut request: Request<Upload>,
    ) -> Result<Response<Outgoing>, Refusal> {
        let shared = &self.job.link.shared;
        if let Some(wanted) = &self.upgrade {
            wanted.ask(request.headers_mut());
        }
        in_origin_form(&mut request);
        let mut counted = Some(pods.count());
        let mut tried: Vec<SocketAddr> = Vec::new();
        loop {
            let waited = Instant::now();
            let permit = pods.acquire(self.deadline, &tried, &shared.waker).await;
            metrics::waited(waited.elapsed());
            let permit = permit.map_err(|error| match error {
                NoPod::Full => Refusal::busy(&self.who),
                NoPod::Late => self.late(),
            })?;
            let address = permit.address;
            let sending = shared.pool.send(address, Speaks::Http1, request);
            let sent = timeout_at(self.deadline, sending).await;
            match sent {
                Ok(Ok((response, lease))) => {
                    let held = Held {
                        lease,
                        permit: counted.take().map(|counted| (permit, counted)),
                    };
                    return self.answered(response, held);
                }
                Ok(Err(Broken::Unsent(unsent, cause))) => {
                    tried.push(address);
                    if tried.len() >= PODS {
                        return Err(self.unreachable(cause));
                    }
                    request = *unsent;
                }
                Ok(Err(Broken::Sent { cause, .. })) => return Err(self.unreachable(cause)),
                Err(_) => return Err(self.late()),
            }
        }
    }

    fn answered(
        &mut self,
        response: Response<hyper::body::Incoming>,
        held: Held,
    ) -> Result<Response<Outgoing>, Refusal> {
        if let Some(wanted) = self.upgrade.take() {
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                let state = &self.job.link.state;
                return Ok(upgrade::join(response, wanted, held, state));
            }
            if wanted.is_mistaken(response.status()) {
                let message = format!("{} serves no WebSocket here", self.who);
                return Err(Refusal::new(StatusCode::BAD_GATEWAY, message));
            }
        }
        let mut response = response.map(|body| Outgoing::endpoint(body, held));
        headers::remove_hop_by_hop(response.headers_mut());
        Ok(response.map(|body| body.until(Some(self.deadline))))
    }

    fn unreachable(&self, cause: String) -> Refusal {
        let message = format!("a pod of {} broke off", self.who);
        Refusal::new(StatusCode::BAD_GATEWAY, message)
            .passing()
            .because(cause)
    }
}

/// The form that a server takes: the path alone, on HTTP/1.1.
pub(super) fn in_origin_form(request: &mut Request<Upload>) {
    if request.uri().authority().is_some() {
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = path.map_or_else(|| http::Uri::from_static("/"), http::Uri::from);
    }
    *request.version_mut() = http::Version::HTTP_11;
}

pub(super) fn nothing() -> Upload {
    Upload::Kept(Full::new(Bytes::new()))
}

/// A request that may be sent once more.
pub(super) struct Again {
    method: Method,
    uri: http::Uri,
    headers: http::HeaderMap,
    body: Bytes,
}

impl Again {
    /// Keeps a request that is safe to repeat (RFC 9110, 9.2.2; or it says so by Idempotency-Key) and small. One whose
    /// body breaks off or is late is refused: there is nothing to send.
    async fn keep(
        request: &mut Request<Upload>,
        deadline: Instant,
    ) -> Result<Option<Self>, Refusal> {
        use http_body::Body as _;
        let safe =
            is_idempotent(request.method()) || request.headers().contains_key("idempotency-key");
        if !safe {
            return Ok(None);
        }
        let body = match request.body().size_hint().exact() {
            Some(0) => Bytes::new(),
            Some(length) if length <= KEPT => {
                let limit = usize::try_from(KEPT).expect("it is small");
                let body = std::mem::replace(request.body_mut(), nothing());
                let body = Limited::new(body, limit).collect();
                let late = |_| {
                    let message = "the request's body did not come in time";
                    Refusal::new(StatusCode::REQUEST_TIMEOUT, message)
                };
                let broken = |cause| {
                    let message = "the request's body broke off";
                    Refusal::new(StatusCode::BAD_REQUEST, message).because(cause)
                };
                let body = timeout_at(deadline, body).await.map_err(late)?;
                body.map_err(broken)?.to_bytes()
            }
            _ => return Ok(None),
        };
        let again = Self::new(request, body);
        *request = again.request();
        Ok(Some(again))
    }

    /// Keeps a request without a body that is safe to repeat.
    pub(super) fn without_body(request: &Request<Upload>) -> Option<Self> {
        use http_body::Body as _;
        let empty = request.body().is_end_stream();
        (empty && is_idempotent(request.method())).then(|| Self::new(request, Bytes::new()))
    }

    fn new(request: &Request<Upload>, body: Bytes) -> Self {
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            headers: request.headers().clone(),
            body,
        }
    }

    pub(super) fn request(&self) -> Request<Upload> {
        let mut request = Request::new(Upload::Kept(Full::new(self.body.clone())));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        // Of the body that is sent, whatever the client said.
        let headers = request.headers_mut();
        if !self.body.is_empty() || headers.contains_key(CONTENT_LENGTH) {
            headers.insert(CONTENT_LENGTH, self.body.len().into());
        }
        request
    }
}

fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    )
}
