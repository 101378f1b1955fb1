//! The ways into a pod: exec, attach and port-forward, from the client's connection to the nodelet's.

use std::{io, net::SocketAddr, sync::Arc, sync::Mutex};

use api::{
    auth::{MASTERS, User},
    proxy::{Answer, NodeProxy, NodeProxyError, NodeTarget, connection},
};
use async_trait::async_trait;
use axum::{Extension, Router, body::Body, extract::Request, response::Response};
use http::{HeaderValue, StatusCode, header};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::harness::{Cluster, DEADLINE, JANE, PODS};

/// A nodelet whose connections begin with what was asked for and go on with what they are sent, but for those
/// of the container `none`, which it refuses.
#[derive(Clone, Default)]
struct Nodelet(Arc<Mutex<JoinSet<()>>>);

impl Nodelet {
    fn answer(&self, mut request: Request) -> Response {
        let path = request.uri().to_string();
        if path.contains("/none") {
            let mut refusal = Response::new(Body::from("container not found (\"none\")\n"));
            *refusal.status_mut() = StatusCode::NOT_FOUND;
            return refusal;
        }
        let headers = request.headers();
        let asked = format!(
            "{} {path} {} {}\n",
            request.method(),
            headers["upgrade"].to_str().expect("text"),
            headers.contains_key("authorization")
        );
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let upgrade = headers["upgrade"].clone();
        response.headers_mut().insert(header::UPGRADE, upgrade);
        for (name, value) in [
            ("connection", "Upgrade"),
            ("x-secret", "1"),
            ("x-stream-protocol-version", "v4"),
        ] {
            response
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
        }
        let upgraded = hyper::upgrade::on(&mut request);
        self.0
            .lock()
            .expect("no test panics here")
            .spawn(async move {
                let mut stream = TokioIo::new(upgraded.await.expect("an upgrade"));
                stream
                    .write_all(asked.as_bytes())
                    .await
                    .expect("bytes pass");
                let (mut from, mut to) = tokio::io::split(stream);
                tokio::io::copy(&mut from, &mut to)
                    .await
                    .expect("bytes pass");
                to.shutdown().await.expect("bytes pass");
            });
        response
    }
}

#[async_trait]
impl NodeProxy for Nodelet {
    async fn request(
        &self,
        node: &NodeTarget,
        _request: Request,
    ) -> Result<Response, NodeProxyError> {
        Err(NodeProxyError::Unreachable {
            node: node.name.clone(),
            source: None,
        })
    }

    async fn upgrade(&self, node: &NodeTarget, request: Request) -> Result<Answer, NodeProxyError> {
        let own = self.clone();
        let router = Router::new().fallback(async move |request: Request| own.answer(request));
        let answer = connection::send_in_process(router, request, DEADLINE).await;
        answer.map_err(|source| NodeProxyError::Unreachable {
            node: node.name.clone(),
            source: Some(source.into()),
        })
    }

    async fn dial(&self, address: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect(address).await
    }
}

/// A cluster with a pod on a node, and where it listens.
struct Open {
    cluster: Cluster,
    address: SocketAddr,
    stop: CancellationToken,
    _tasks: JoinSet<()>,
}

/// A connection and the head of what was answered to its request.
struct Client {
    stream: BufReader<TcpStream>,
    head: String,
}

impl Open {
    async fn start() -> Self {
        let cluster = Cluster::start_among(Arc::new(Nodelet::default())).await;
        cluster
            .ok("POST /api/v1/nodes", r#"{"metadata":{"name":"n1"}}"#)
            .await;
        for (name, node) in [("web", Some("n1")), ("waits", None)] {
            let pod = json!({
                "metadata": {"name": name},
                "spec": {
                    "nodeName": node,
                    "containers": [{"name": "a", "image": "i"}, {"name": "none", "image": "i"}],
                },
            });
            cluster.ok(&format!("POST {PODS}"), &pod.to_string()).await;
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let stop = CancellationToken::new();
        let router = cluster
            .router
            .clone()
            .layer(Extension(api::serve::Draining(stop.clone())))
            .layer(Extension(User::new("admin", &[MASTERS])));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let service = TowerToHyperService::new(router.clone());
                connections.spawn(async move {
                    let served = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades();
                    served.await.expect("it is served");
                });
            }
        });
        Self {
            cluster,
            address,
            stop,
            _tasks: tasks,
        }
    }

    /// Asks for an upgrade; `line` is method and path.
    async fn ask(&self, line: &str, protocol: &str) -> Client {
        let mut stream = TcpStream::connect(self.address)
            .await
            .expect("a connection");
        let request = format!(
            "{line} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer x\r\nconnection: Upgrade\r\nupgrade: {protocol}\r\ncontent-length: 0\r\n\r\n"
        );
        stream
            .write_all(request.as_bytes())
            .await
            .expect("it is sent");
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        timeout(DEADLINE, async {
            while !head.ends_with("\r\n\r\n") {
                assert_ne!(
                    stream.read_line(&mut head).await.expect("a line"),
                    0,
                    "{head}"
                );
            }
        })
        .await
        .expect("an answer in time");
        Client { stream, head }
    }

    async fn lasting(&self) -> String {
        let text = self.cluster.send("GET /metrics", "").await.text;
        let lines = text.lines().filter(|line| {
            line.starts_with("apiserver_longrunning_requests") && line.contains("exec")
        });
        lines
            .map(|line| line.rsplit(' ').next().unwrap_or_default())
            .collect()
    }
}

impl Client {
    async fn line(&mut self) -> String {
        let mut line = String::new();
        timeout(DEADLINE, self.stream.read_line(&mut line))
            .await
            .expect("a line in time")
            .expect("a line");
        line
    }

    /// The rest of what comes.
    async fn rest(&mut self) -> String {
        let mut rest = String::new();
        timeout(DEADLINE, self.stream.read_to_string(&mut rest))
            .await
            .expect("an end in time")
            .expect("text");
        rest
    }
}

#[tokio::test]
async fn what_the_client_sends_goes_to_the_nodelet_and_back_as_it_is() {
    let open = Open::start().await;
    for (line, protocol, asked) in [
        (
            format!(
                "POST {PODS}/web/exec?container=a&command=echo&command=a%20b&stdin=true&stdout=1&tty=false"
            ),
            "SPDY/3.1",
            "POST /exec/default/web/a?input=1&output=1&error=0&tty=0&command=echo&command=a%20b SPDY/3.1 false\n",
        ),
        (
            format!("GET {PODS}/web/attach?container=a&stdout=true&stderr=true"),
            "websocket",
            "GET /attach/default/web/a?input=0&output=1&error=1&tty=0 websocket false\n",
        ),
        (
            format!("POST {PODS}/web/portforward?ports=80&ports=81"),
            "SPDY/3.1",
            "POST /portForward/default/web?port=80,81 SPDY/3.1 false\n",
        ),
    ] {
        let mut client = open.ask(&line, protocol).await;
        assert!(client.head.starts_with("HTTP/1.1 101"), "{}", client.head);
        let head = client.head.to_lowercase();
        assert!(head.contains("x-stream-protocol-version: v4") && !head.contains("x-secret"));
        assert_eq!(client.line().await, asked);
        let long = "long ".repeat(100_000);
        let (mut from, mut to) = client.stream.into_inner().into_split();
        let sent = async {
            to.write_all(long.as_bytes()).await.expect("it is sent");
            to.shutdown().await.expect("its end, too");
        };
        let mut back = String::new();
        let (received, ()) = tokio::join!(from.read_to_string(&mut back), sent);
        received.expect("text");
        assert!(back == long, "{} bytes came back", back.len());
    }
}

#[tokio::test]
async fn a_connection_counts_until_it_ends_and_ends_with_the_server() {
    let open = Open::start().await;
    let line = format!("POST {PODS}/web/exec?container=a&command=x&stdout=true");
    let mut client = open.ask(&line, "SPDY/3.1").await;
    assert!(client.line().await.starts_with("POST /exec/"));
    assert_eq!(open.lasting().await, "1");
    open.stop.cancel();
    assert_eq!(client.rest().await, "");
    timeout(DEADLINE, async {
        while open.lasting().await != "0" {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it is counted no more");
}

#[tokio::test]
async fn what_cannot_be_opened_is_said() {
    let open = Open::start().await;
    let refused = async |line: &str| {
        let mut client = open.ask(line, "websocket").await;
        let length = match client.head.to_lowercase().split_once("content-length: ") {
            Some((_, rest)) => rest.lines().next().expect("a number").parse(),
            None => usize::from_str_radix(client.line().await.trim(), 16), // one chunk
        };
        let mut body = vec![0; length.expect("a length")];
        client.stream.read_exact(&mut body).await.expect("a body");
        let status: serde_json::Value = serde_json::from_slice(&body).expect("a Status");
        format!(
            "{} {}: {}",
            status["code"],
            status["reason"].as_str().unwrap_or_default(),
            status["message"].as_str().unwrap_or_default()
        )
    };
    for (line, expected) in [
        (
            format!("GET {PODS}/web/exec?command=x"),
            "400 BadRequest: a container name must be specified for pod web, choose one of: [a none]",
        ),
        (
            format!("GET {PODS}/web/exec?command=x&container=c"),
            "400 BadRequest: container c is not valid for pod web",
        ),
        (
            format!("GET {PODS}/web/exec?container=a"),
            "400 BadRequest: you must specify at least one command for the container",
        ),
        (
            format!("GET {PODS}/gone/attach?container=a"),
            r#"404 NotFound: pods "gone" not found"#,
        ),
        (
            format!("GET {PODS}/waits/attach?container=a"),
            "400 BadRequest: pod waits does not have a host assigned",
        ),
        (
            format!("GET {PODS}/web/attach?container=none&stdout=true"),
            r#"404 NotFound: container not found ("none")"#,
        ),
        (
            format!("GET {PODS}/web/portforward?ports=http"),
            r#"400 BadRequest: ports: Invalid value: "http": must be between 1 and 65535, inclusive"#,
        ),
        (
            format!("PUT {PODS}/web/portforward"),
            "405 MethodNotAllowed: the server does not allow this method on the requested resource",
        ),
    ] {
        assert_eq!(refused(&line).await, expected, "{line}");
    }
    let plain = format!("GET {PODS}/web/exec?container=a&command=x");
    assert_eq!(
        open.cluster.failure(&plain, "").await,
        "400 BadRequest: Upgrade request required"
    );
}

#[tokio::test]
async fn a_websocket_needs_what_spdy_needs() {
    let open = Open::start().await;
    let rules = json!({
        "metadata": {"name": "reader"},
        "rules": [{"apiGroups": [""], "resources": ["pods/exec", "nodes/proxy"], "verbs": ["get"]}],
    });
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let cluster = &open.cluster;
    cluster
        .ok(&format!("POST {rbac}/clusterroles"), &rules.to_string())
        .await;
    let binding = json!({
        "metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "reader"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}],
    });
    cluster
        .ok(
            &format!("POST {rbac}/clusterrolebindings"),
            &binding.to_string(),
        )
        .await;
    let line = format!("GET {PODS}/web/exec?container=a&command=x");
    let refused = cluster.send_with(&line, "", &[JANE]).await;
    assert_eq!(
        refused.failure(),
        r#"403 Forbidden: pods "web" is forbidden: User "jane" cannot create resource "pods/exec" in API group "" in the namespace "default""#
    );
}

#[tokio::test]
async fn a_nodelets_own_connections_pass_through_the_proxy() {
    let open = Open::start().await;
    let line = "GET /api/v1/nodes/n1/proxy/exec/default/web/a?output=1&command=x";
    let mut client = open.ask(line, "websocket").await;
    assert!(client.head.starts_with("HTTP/1.1 101"), "{}", client.head);
    assert_eq!(
        client.line().await,
        "GET /exec/default/web/a?output=1&command=x websocket false\n"
    );
}
