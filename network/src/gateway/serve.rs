//! One request: its route, its headers, its answer.

use std::{borrow::Cow, sync::Arc};

use http::{HeaderValue, Request, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::{
    answer::Refusal,
    body::{Outgoing, Upload},
    function::{self, Called},
    headers::{self, REQUEST_ID},
    link::Link,
    metrics,
    routes::{Found, claim::To, host, row::Function},
    service,
    upgrade::Wanted,
};

/// A request on its way, and what is known of it.
pub(super) struct Job<'a> {
    pub(super) link: &'a Link,
    pub(super) begun: Instant,
    pub(super) request: Request<Upload>,
    pub(super) upgrade: Option<Wanted>,
}

/// Answers a request, whatever comes of it.
pub(super) async fn answer(link: &Arc<Link>, request: Request<Incoming>) -> Response<Outgoing> {
    let begun = Instant::now();
    let in_flight = metrics::InFlight::new(begun);
    let id = headers::request_id(request.headers());
    let said = Said::of(&request, &id);
    let response = match route(link, request, &id, begun).await {
        Ok(mut response) => {
            let headers = response.headers_mut();
            headers.insert(REQUEST_ID.clone(), id);
            response
        }
        Err((refusal, request_headers)) => {
            if let Some(cause) = &refusal.cause {
                tracing::warn!(
                    status = refusal.status.as_u16(),
                    request = said.id.to_str().unwrap_or_default(),
                    cause,
                    "a request was not answered"
                );
            }
            refusal.response(&request_headers, &said.id)
        }
    };
    metrics::answered(response.status());
    said.log(link, &response, begun);
    response.map(|body| body.counting(in_flight))
}

/// What the access log says of a request.
struct Said {
    id: HeaderValue,
    line: Option<(http::Method, http::Uri, Version)>,
}

impl Said {
    fn of(request: &Request<Incoming>, id: &HeaderValue) -> Self {
        let logged = tracing::enabled!(tracing::Level::DEBUG);
        let line = || {
            (
                request.method().clone(),
                request.uri().clone(),
                request.version(),
            )
        };
        Self {
            id: id.clone(),
            line: logged.then(line),
        }
    }

    fn log(&self, link: &Link, response: &Response<Outgoing>, begun: Instant) {
        let Some((method, uri, version)) = &self.line else {
            return;
        };
        tracing::debug!(
            peer = %link.ends.peer,
            %method,
            path = uri.path(),
            ?version,
            status = response.status().as_u16(),
            elapsed = ?begun.elapsed(),
            request = self.id.to_str().unwrap_or_default(),
            "request"
        );
    }
}

type Refused = (Refusal, http::HeaderMap);

async fn route(
    link: &Arc<Link>,
    mut request: Request<Incoming>,
    id: &HeaderValue,
    begun: Instant,
) -> Result<Response<Outgoing>, Refused> {
    let shared = &link.shared;
    let table = shared.table();
    let host = host::of(request.uri(), request.headers()).map(Cow::into_owned);
    let found = match (&link.to, &host) {
        (Some(key), _) => match table.function(key) {
            Some(function) => Ok(Target::Function(function.clone(), None)),
            None => Err(Refusal::new(
                StatusCode::NOT_FOUND,
                format!("there is no function {}", spoken(key)),
            )),
        },
        (None, Some(host)) => match table.find(host, request.uri().path(), request.method()) {
            Found::Function(function, tag) => {
                Ok(Target::Function(function.clone(), tag.map(str::to_owned)))
            }
            Found::To(To::Function(key)) => match table.function(key) {
                Some(function) => Ok(Target::Function(function.clone(), None)),
                None => Err(Refusal::no_host(host)),
            },
            Found::To(To::Service(name, port)) => Ok(Target::Service(name.clone(), port.clone())),
            Found::To(To::Nothing) => Err(Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the Ingress' backend is not a Service",
            )),
            Found::OtherMethods(methods) => Err(Refusal::other_methods(methods)),
            Found::NoPath => Err(Refusal::no_path(host, request.uri().path())),
            Found::NoHost => Err(Refusal::no_host(host)),
        },
        (None, None) => Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "a request names one host",
        )),
    };
    let found = match found {
        Ok(found) => found,
        Err(refusal) => return Err((refusal, std::mem::take(request.headers_mut()))),
    };
    let limit = shared.config.max_body;
    if request.body().size_hint().lower() > limit {
        let refusal = Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("a request's body has at most {limit} bytes"),
        );
        return Err((refusal, std::mem::take(request.headers_mut())));
    }
    let protocol = (request.version() == Version::HTTP_11)
        .then(|| headers::upgrade(request.headers()))
        .flatten();
    let upgrade = protocol.map(|protocol| Wanted {
        protocol,
        client: hyper::upgrade::on(&mut request),
    });
    let authority = request.uri().authority().map(|it| it.as_str().to_owned());
    let accept = request.headers().get(http::header::ACCEPT).cloned();
    headers::forward(
        request.headers_mut(),
        id,
        link.ends,
        link.tls,
        authority.as_deref(),
    );
    let request = request.map(|body| Upload::Streamed { body, left: limit });
    let job = Job {
        link,
        begun,
        request,
        upgrade,
    };
    let answered = match found {
        Target::Function(function, tag) => {
            let called = Called {
                function: &function,
                tag: tag.as_deref(),
            };
            function::call(job, called).await
        }
        Target::Service(name, port) => service::forward(job, &name, &port).await,
    };
    answered.map_err(|refusal| {
        let mut headers = http::HeaderMap::new();
        headers.extend(accept.map(|accept| (http::header::ACCEPT, accept)));
        (refusal, headers)
    })
}

/// Where a request goes.
enum Target {
    Function(Arc<Function>, Option<String>),
    Service(crate::directory::Name, super::routes::claim::Port),
}

/// `NAME.NAMESPACE` as `NAMESPACE/NAME`.
fn spoken(key: &str) -> String {
    key.split_once('.').map_or_else(
        || key.to_owned(),
        |(name, namespace)| format!("{namespace}/{name}"),
    )
}
