//! Answers every request with a greeting.

use std::env;

use wstd::http::{Body, Error, Request, Response};

#[wstd::http_server]
async fn main(mut request: Request<Body>) -> Result<Response<Body>, Error> {
    let greeting = env::var("GREETING").unwrap_or_else(|_| "Hello".to_owned());
    let body = request.body_mut().contents().await?.to_vec();
    let name = query(request.uri().query().unwrap_or_default(), "name").unwrap_or("world");
    let agent = request.headers().get("user-agent").and_then(|agent| agent.to_str().ok());

    let text = format!(
        "{greeting}, {name}!\nYou sent {} {} with {} bytes by {}.\n",
        request.method(),
        request.uri().path(),
        body.len(),
        agent.unwrap_or("something unnamed"),
    );
    let response = Response::builder().header("content-type", "text/plain; charset=utf-8");
    Ok(response.body(text.into())?)
}

/// A value of the query, as it was sent; the crate `form_urlencoded` decodes them.
fn query<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}
