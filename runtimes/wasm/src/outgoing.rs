//! Requests that a component sends: names, Services and source address as its pod has them.
//!
//! HTTP/1.1, in the clear or over TLS with the web's certificate authorities. One connection a request,
//! and a bounded number of them for a container: further requests wait for their turn, and of those that
//! wait there is a bounded number too.

use std::{
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, LazyLock},
    time::Duration,
};

use http::{Request, Response, Uri, uri::Scheme};
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::OwnedSemaphorePermit,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use crate::{pod::Pod, traffic::Counted};

/// How long anything may take that the guest set no time for.
const DEADLINE: Duration = Duration::from_secs(60);

/// Sends the requests of one instance.
pub(crate) struct Outgoing {
    pod: Arc<Pod>,
}

impl Outgoing {
    pub(crate) fn new(pod: Arc<Pod>) -> Outgoing {
        Outgoing { pod }
    }
}

type Connection = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Sent = Result<(Response<WasiBody>, Connection), Error>;

impl WasiHttpHooks for Outgoing {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _body: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let pod = self.pod.clone();
        Box::new(async move { send(&pod, request, options.unwrap_or_default()).await })
    }
}

async fn send(pod: &Pod, mut request: Request<WasiBody>, options: RequestOptions) -> Sent {
    let connect_deadline = options.connect_timeout.unwrap_or(DEADLINE);
    let turn = turn(pod, connect_deadline).await?;
    let stream = timeout(connect_deadline, connect(pod, request.uri())).await;
    let stream = stream.map_err(|_| Error::ConnectionTimeout)??;
    let stream = Counted::new(stream, pod.sent.clone());
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // The target goes to the server itself, not to a proxy: path and query only.
    let target = request.uri().path_and_query();
    *request.uri_mut() = target
        .map_or("/", |target| target.as_str())
        .parse()
        .map_err(|_| Error::HttpRequestUriInvalid)?;
    let mut connection: Pin<Connection> = Box::pin(async move {
        // The turn lasts as long as the connection.
        let _turn = turn;
        Ok(connection.await?)
    });
    let first_byte_deadline = options.first_byte_timeout.unwrap_or(DEADLINE);
    let mut closed = false;
    let answer = timeout(first_byte_deadline, async {
        let mut answer = std::pin::pin!(sender.send_request(request));
        // The connection moves only when it is polled; once it has ended, the answer is there or lost.
        tokio::select! {
            answer = &mut answer => return answer.map_err(Error::from),
            ended = &mut connection => {
                closed = true;
                ended?;
            }
        }
        answer.await.map_err(Error::from)
    });
    let answer = answer.await.map_err(|_| Error::ConnectionReadTimeout)??;
    let response = answer.map(|body| body.map_err(Error::from).boxed_unsync());
    // A future that has ended must not be polled again.
    let rest: Connection = if closed {
        Box::new(async { Ok(()) })
    } else {
        Box::new(connection)
    };
    Ok((response, rest))
}

/// Waits for a turn, if there is room to wait.
async fn turn(pod: &Pod, patience: Duration) -> Result<OwnedSemaphorePermit, Error> {
    let refused = || Error::ConnectionLimitReached;
    let _place = pod.waiting.try_acquire().map_err(|_| refused())?;
    let turn = timeout(patience, pod.requests.clone().acquire_owned()).await;
    turn.map_err(|_| refused())?.map_err(|_| refused())
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn connect(pod: &Pod, uri: &Uri) -> Result<Box<dyn Stream>, Error> {
    let host = uri.host().ok_or(Error::HttpRequestUriInvalid)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let tls = uri.scheme() == Some(&Scheme::HTTPS);
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let addresses = pod.resolve(host).await;
    let addresses = addresses.map_err(|error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => Error::HttpRequestDenied,
        _ => Error::DnsError {
            rcode: Some(error.to_string()),
            info_code: None,
        },
    })?;
    if addresses.is_empty() {
        return Err(Error::DestinationNotFound);
    }
    let mut refusal = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
    for address in addresses {
        match pod.connect(SocketAddr::new(address, port)).await {
            Ok(stream) if tls => return Ok(Box::new(encrypt(host, stream).await?)),
            Ok(stream) => return Ok(Box::new(stream)),
            Err(error) => refusal = error,
        }
    }
    if refusal.kind() == std::io::ErrorKind::PermissionDenied {
        return Err(Error::HttpRequestDenied);
    }
    Err(Error::Connect(refusal))
}

async fn encrypt(
    host: &str,
    stream: tokio::net::TcpStream,
) -> Result<tokio_rustls::client::TlsStream<tokio::net::TcpStream>, Error> {
    static CONFIG: LazyLock<Arc<rustls::ClientConfig>> = LazyLock::new(|| {
        let roots = webpki_roots::TLS_SERVER_ROOTS.iter().cloned();
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(ring)
            .with_safe_default_protocol_versions()
            .expect("ring has the default versions")
            .with_root_certificates(rustls::RootCertStore {
                roots: roots.collect(),
            })
            .with_no_client_auth();
        Arc::new(config)
    });
    let name = ServerName::try_from(host.to_owned()).map_err(|_| Error::HttpRequestUriInvalid)?;
    let connector = TlsConnector::from(CONFIG.clone());
    connector.connect(name, stream).await.map_err(Error::Tls)
}
