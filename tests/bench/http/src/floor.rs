//! The least that an answer costs: bare hyper, bytes that are there already, no TLS.
//!
//! `/bytes/<n>` answers n bytes; `/watch/<bytes>` sends every event of `/events/<count>` to its client,
//! those that wait together.

use std::{convert::Infallible, sync::Arc};

use anyhow::{Context, Result};
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Request, Response};
use http_body_util::{Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

use crate::child::{self, Core};

/// Events sent together are at most this long.
const FRAME: usize = 64 * 1024;

pub(crate) fn run() -> Result<()> {
    child::pin(Core::Server)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("start a runtime")?;
    runtime.block_on(serve())
}

async fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await.context("listen")?;
    let address = listener.local_addr().context("read the address")?;
    println!("{address} {address}");
    let events = Arc::new(watch::Sender::new(0_usize));
    let long = Bytes::from(vec![b'x'; 64 << 20]);
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.context("accept")?;
        while connections.try_join_next().is_some() {}
        stream.set_nodelay(true).context("set an option")?;
        let (events, long) = (events.clone(), long.clone());
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let response = answer(&request, &events, &long);
                async move { Ok::<_, Infallible>(response) }
            });
            // A client that goes away ends its connection with an error.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

fn answer(
    request: &Request<Incoming>,
    events: &Arc<watch::Sender<usize>>,
    long: &Bytes,
) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
    let mut segments = request.uri().path().trim_start_matches('/').split('/');
    let what = segments.next().unwrap_or_default();
    let number = segments.next().and_then(|text| text.parse().ok());
    let number = number.unwrap_or(0_usize);
    Response::new(match what {
        "watch" => watch(events.subscribe(), long.clone(), number),
        "events" => {
            events.send_modify(|sent| *sent += number);
            UnsyncBoxBody::new(Full::default())
        }
        _ => UnsyncBoxBody::new(Full::new(long.slice(..number.min(long.len())))),
    })
}

/// Sends an event of so many bytes for each that there was since.
fn watch(
    events: watch::Receiver<usize>,
    long: Bytes,
    bytes: usize,
) -> UnsyncBoxBody<Bytes, Infallible> {
    // An event ends as the API's do: the client counts them by that.
    let event = [&long[..bytes.saturating_sub(2)], b"}\n"].concat();
    let many = Bytes::from(event.repeat((FRAME / bytes.max(1)).max(1)));
    let sent = *events.borrow();
    let body = stream::unfold((events, sent), move |(mut events, sent)| {
        let many = many.clone();
        async move {
            let all = *events.wait_for(|all| *all > sent).await.ok()?;
            let count = (all - sent).min(many.len() / bytes);
            let frame = Frame::data(many.slice(..count * bytes));
            Some((frame, (events, sent + count)))
        }
    });
    UnsyncBoxBody::new(StreamBody::new(body.map(Ok)))
}
