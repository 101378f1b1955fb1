//! What a component asks of the API: `rest_client_requests_total` and how long answers take.
//!
//! A [`tower::Layer`] around a client's service. Never changes a request or an answer.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use http::{Method, Request, Response};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};
use tower::{Layer, Service};

/// What is known of a request when it is answered.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Answered {
    code: String,
    method: &'static str,
    host: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Asked {
    verb: &'static str,
    host: String,
}

/// The metrics of all clients of a process.
#[derive(Clone, Debug)]
pub struct RestClient {
    requests: Family<Answered, Counter>,
    durations: Family<Asked, Histogram>,
}

const BUCKETS: [f64; 12] = [
    0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0,
];

impl RestClient {
    /// Puts them into a registry.
    pub fn new(registry: &mut Registry) -> Self {
        let made = Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
        };
        registry.register(
            "rest_client_requests",
            "Number of HTTP requests, partitioned by status code, method, and host",
            made.requests.clone(),
        );
        registry.register(
            "rest_client_request_duration_seconds",
            "Request latency in seconds. Broken down by verb, and host",
            made.durations.clone(),
        );
        made
    }
}

/// The methods that a label may name.
fn method(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        _ => "OTHER",
    }
}

impl<S> Layer<S> for RestClient {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted {
            inner,
            metrics: self.clone(),
        }
    }
}

/// A service whose requests are counted.
#[derive(Clone, Debug)]
pub struct Counted<S> {
    inner: S,
    metrics: RestClient,
}

impl<S, B, R> Service<Request<B>> for Counted<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let method = method(request.method());
        // A request in this process names no host.
        let host = request.uri().host().unwrap_or("in-process").to_owned();
        let metrics = self.metrics.clone();
        let begun = Instant::now();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            let code = match &answer {
                Ok(response) => response.status().as_str().to_owned(),
                Err(_) => "<error>".to_owned(),
            };
            let asked = Asked {
                verb: method,
                host: host.clone(),
            };
            let seconds = begun.elapsed().as_secs_f64();
            metrics.durations.get_or_create(&asked).observe(seconds);
            let answered = Answered { code, method, host };
            metrics.requests.get_or_create(&answered).inc();
            answer
        })
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tower::{ServiceExt, service_fn};

    use super::*;

    #[tokio::test]
    async fn requests_are_counted_by_code_and_method() {
        let metrics = crate::Metrics::new();
        let layer = metrics.register(RestClient::new);
        let service = layer.layer(service_fn(|_: Request<()>| async {
            Ok::<_, Infallible>(
                Response::builder()
                    .status(404)
                    .body(())
                    .expect("a response"),
            )
        }));
        let request = Request::builder().uri("/api").body(()).expect("a request");
        let answer = service.oneshot(request).await.expect("an answer");
        assert_eq!(answer.status(), 404);
        let counted = r#"rest_client_requests_total{code="404",method="GET",host="in-process"} 1"#;
        assert!(metrics.text().contains(counted), "{}", metrics.text());
    }
}
