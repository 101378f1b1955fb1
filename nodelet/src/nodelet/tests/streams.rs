//! Exec, attach and port-forward: a client of SPDY over a connection in memory, under paused time, and kube's own of
//! WebSocket over a real one.

use std::{collections::BTreeMap, net::IpAddr};

use axum::http::Uri;
use bytes::BytesMut;
use expect_test::{Expect, expect};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, AttachParams, AttachedProcess};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use streaming::spdy::{Decoder, Encoder, Frame, Headers};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex},
    net::{TcpListener, TcpStream},
};
use tower::util::MapRequest;

use super::*;

/// A connection to the nodelet's server that was upgraded to SPDY/3.1.
struct Spdy<Io = DuplexStream> {
    io: Io,
    encoder: Encoder,
    decoder: Decoder,
    input: BytesMut,
}

impl Spdy {
    /// Asks for `path`; the answer if the connection is not upgraded.
    async fn open(nodelet: &mut Running, path: &str, protocol: &str) -> Result<Spdy, String> {
        let (io, server) = duplex(64 * 1024);
        let service = TowerToHyperService::new(nodelet.handle.router());
        nodelet.connections.spawn(async move {
            let builder = hyper::server::conn::http1::Builder::new();
            let connection = builder.serve_connection(TokioIo::new(server), service);
            // The client is the one to say what it sees.
            let _ = connection.with_upgrades().await;
        });
        Spdy::over(io, path, protocol).await
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Spdy<Io> {
    /// Asks for `path`; the answer if the connection is not upgraded.
    async fn over(mut io: Io, path: &str, protocol: &str) -> Result<Spdy<Io>, String> {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: n1\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
             X-Stream-Protocol-Version: {protocol}\r\nContent-Length: 0\r\n\r\n"
        );
        io.write_all(request.as_bytes()).await.expect("write");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(io.read_u8().await.expect("an answer"));
        }
        let head = String::from_utf8(head).expect("text");
        if !head.starts_with("HTTP/1.1 101 Switching Protocols\r\n") {
            return Err(head);
        }
        Ok(Spdy {
            io,
            encoder: Encoder::new(),
            decoder: Decoder::new(),
            input: BytesMut::new(),
        })
    }

    async fn send(&mut self, frame: Frame) {
        let mut out = BytesMut::new();
        self.encoder.encode(&frame, &mut out);
        self.io.write_all(&out).await.expect("write");
    }

    async fn stream(&mut self, stream: u32, headers: &[(&str, &str)]) {
        let headers = Headers::new(headers.iter().copied());
        self.send(Frame::SynStream {
            stream,
            associated: 0,
            priority: 0,
            fin: false,
            unidirectional: false,
            headers,
        })
        .await;
    }

    async fn data(&mut self, stream: u32, bytes: &'static str, fin: bool) {
        let bytes = bytes.into();
        self.send(Frame::Data { stream, fin, bytes }).await;
    }

    /// What comes on the streams, in their order, until the server says goodbye or closes.
    async fn rest(&mut self) -> String {
        let mut streams = BTreeMap::<u32, String>::new();
        loop {
            match self.decoder.decode(&mut self.input).expect("SPDY") {
                Some(Frame::Data { stream, bytes, .. }) => {
                    streams
                        .entry(stream)
                        .or_default()
                        .push_str(&String::from_utf8_lossy(&bytes));
                }
                Some(Frame::GoAway { .. }) => break,
                Some(_) => {}
                None => {
                    if self.io.read_buf(&mut self.input).await.expect("read") == 0 {
                        streams.insert(0, "closed".to_owned());
                        break;
                    }
                }
            }
        }
        let lines = streams.iter().filter(|(_, text)| !text.is_empty());
        let lines: Vec<_> = lines
            .map(|(stream, text)| format!("{stream} {}", text.trim_end()))
            .collect();
        lines.join("\n")
    }
}

/// What a SPDY client of exec or attach sees that sends "hello" and ends its input.
async fn spoken(nodelet: &mut Running, path: &str) -> String {
    let mut client = match Spdy::open(nodelet, path, "v4.channel.k8s.io").await {
        Ok(client) => client,
        Err(head) => return head,
    };
    let asked = [
        ("", "error"),
        ("input", "stdin"),
        ("output", "stdout"),
        ("error", "stderr"),
    ];
    for (stream, (parameter, kind)) in (0..).zip(asked) {
        if path.contains(&format!("{parameter}=1")) || kind == "error" {
            client.stream(2 * stream + 1, &[("streamtype", kind)]).await;
        }
    }
    if path.contains("input=1") {
        client.data(3, "hello", true).await;
    }
    client.rest().await
}

#[track_caller]
fn check(seen: &str, expected: Expect) {
    expected.assert_eq(seen);
}

#[tokio::test(start_paused = true)]
async fn a_command_runs_in_a_container_and_its_end_is_told() {
    let bench = Bench::new();
    let mut nodelet = bench.run();
    bench.pod("web", json!({}));
    bench.ready("web").await;
    let path = "/exec/ns/web/c?command=cat&input=1&output=1&error=1";
    check(
        &spoken(&mut nodelet, path).await,
        expect![[r#"
            1 {"metadata":{},"status":"Success"}
            5 hello"#]],
    );
    let path = "/exec/ns/web/c?command=fail&command=no&command=good&output=1&error=1";
    check(
        &spoken(&mut nodelet, path).await,
        expect![[r#"
            1 {"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code: error executing command [fail no good], exit code 1","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"1"}]}}
            7 no good"#]],
    );
    bench
        .runtime
        .fail_next(runtimes::fake::Call::Exec, "out of memory");
    check(
        &spoken(&mut nodelet, "/exec/ns/web/c?command=cat&output=1").await,
        expect![[
            r#"1 {"metadata":{},"status":"Failure","message":"Internal error occurred: error executing command in container: out of memory","reason":"InternalError","details":{"causes":[{"message":"error executing command in container: out of memory"}]},"code":500}"#
        ]],
    );
    let (_, metrics) = get(&nodelet.handle, "/metrics").await;
    assert!(
        metrics.contains(r#"wk_nodelet_sessions_opened_total{kind="exec"} 3"#),
        "{metrics}"
    );
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_attaches_is_told_of_the_containers_end() {
    let bench = Bench::new();
    let mut nodelet = bench.run();
    bench.pod("web", json!({"restartPolicy": "Never"}));
    bench.ready("web").await;
    let seen = spoken(&mut nodelet, "/attach/ns/web/c?input=1&output=1&error=1");
    let exit = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(bench.runtime.exit(&bench.id("web", 0), 3));
    };
    let (seen, ()) = tokio::join!(seen, exit);
    check(&seen, expect![[r#"1 {"metadata":{},"status":"Success"}"#]]);
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_command_is_left_when_its_container_or_the_nodelet_ends() {
    let bench = Bench::new();
    let mut nodelet = bench.run();
    bench.pod("web", json!({"restartPolicy": "Never"}));
    bench.pod("other", json!({}));
    bench.ready("web").await;
    bench.ready("other").await;
    let mut clients = Vec::new();
    for pod in ["web", "other"] {
        let path = format!("/exec/ns/{pod}/c?command=sleep&output=1");
        let client = Spdy::open(&mut nodelet, &path, "v4.channel.k8s.io").await;
        let mut client = client.expect("an upgrade");
        client.stream(1, &[("streamtype", "error")]).await;
        client.stream(3, &[("streamtype", "stdout")]).await;
        clients.push(client);
    }
    assert!(bench.runtime.exit(&bench.id("web", 0), 0));
    check(&clients[0].rest().await, expect!["0 closed"]);
    let (_, metrics) = get(&nodelet.handle, "/metrics").await;
    assert!(
        metrics.contains(r#"wk_nodelet_sessions{kind="exec"} 1"#),
        "{metrics}"
    );
    nodelet.stop().await;
    check(&clients[1].rest().await, expect!["0 closed"]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_is_refused_before_the_connection_changes() {
    let bench = Bench::new();
    let mut nodelet = bench.run();
    bench.runtime.script("img-done", Script::exits(0));
    bench.pod("web", json!({}));
    bench.pod("done", json!({"restartPolicy": "Never"}));
    bench.ready("web").await;
    bench
        .status("done", "to end", |status| status["phase"] == "Succeeded")
        .await;
    let mut seen = Vec::new();
    for path in [
        "/exec/ns/none/c?command=cat&output=1",
        "/exec/ns/web/x?command=cat&output=1",
        "/exec/ns/done/c?command=cat&output=1",
        "/exec/ns/web/c?command=cat",
        "/exec/ns/web/c?output=1",
        "/exec/ns/web/c?command=cat&output=1",
        "/attach/ns/web/x?output=1",
        "/attach/ns/web/c",
        "/portForward/ns/none",
        "/portForward/ns/web",
    ] {
        let (code, body) = get(&nodelet.handle, path).await;
        let status: Value = serde_json::from_str(&body).expect("a Status");
        let (reason, message) = (&status["reason"], &status["message"]);
        seen.push(format!(
            "{code} {} {}",
            reason.as_str().unwrap_or("?"),
            message.as_str().unwrap_or("?")
        ));
    }
    check(
        &seen.join("\n"),
        expect![[r#"
            404 NotFound pod does not exist
            404 NotFound container not found ("x")
            400 BadRequest container not found ("c")
            400 BadRequest you must specify at least 1 of stdin, stdout, stderr
            400 BadRequest you must specify at least 1 command
            400 BadRequest Upgrade request required
            404 NotFound container not found ("x")
            400 BadRequest you must specify at least 1 of stdin, stdout, stderr
            404 NotFound pod does not exist
            400 BadRequest Upgrade request required"#]],
    );
    let refused = Spdy::open(&mut nodelet, "/portForward/ns/web", "v9.portforward.k8s.io").await;
    let head = refused.err().expect("a refusal");
    assert!(head.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{head}");
    assert!(
        head.contains("x-accepted-stream-protocol-versions: portforward.k8s.io\r\n"),
        "{head}"
    );
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_forwarded_port_lasts_as_long_as_its_pod() {
    let bench = Bench::new();
    let mut nodelet = bench.run();
    bench.pod("web", json!({}));
    bench.ready("web").await;
    let client = Spdy::open(&mut nodelet, "/portForward/ns/web", "portforward.k8s.io").await;
    let mut client = client.expect("an upgrade");
    bench.api.delete("pods", "ns", "web", 1);
    check(&client.rest().await, expect!["0 closed"]);
    nodelet.stop().await;
}

/// A client of the nodelet's server, which asks for a pod's subresources as of the apiserver.
async fn client(nodelet: &mut Running) -> kube::Client {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    let rewrite = |mut request: axum::extract::Request| {
        *request.uri_mut() = nodelets(request.uri());
        request
    };
    let service = MapRequest::new(nodelet.handle.router(), rewrite);
    let server = axum::serve(listener, tower::make::Shared::new(service));
    nodelet
        .connections
        .spawn(async move { server.await.expect("a server") });
    // Whoever is first sets it for the process.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = kube::Config::new(format!("http://{address}").parse().expect("a URI"));
    kube::Client::try_from(config).expect("a client")
}

/// `/api/v1/namespaces/ns/pods/web/exec?stdin=true` becomes `/exec/ns/web/c?input=true`.
fn nodelets(uri: &Uri) -> Uri {
    let parts: Vec<_> = uri.path().split('/').collect();
    let (namespace, pod) = (parts[4], parts[6]);
    let path = match parts[7] {
        "portforward" => format!("/portForward/{namespace}/{pod}"),
        verb => format!("/{verb}/{namespace}/{pod}/c"),
    };
    let query = uri.query().unwrap_or_default();
    let query = query
        .replace("stdin=", "input=")
        .replace("stdout=", "output=");
    let query = query
        .replace("stderr=", "error=")
        .replace("ports=", "port=");
    format!("{path}?{query}").parse().expect("a URI")
}

/// What comes from a process that is given "hello" and the end of its input, and its status.
async fn output(mut process: AttachedProcess) -> (String, Option<String>) {
    if let Some(mut stdin) = process.stdin() {
        stdin.write_all(b"hello").await.expect("write");
        stdin.shutdown().await.expect("end");
    }
    let status = process.take_status().expect("a status");
    let mut text = String::new();
    process
        .stdout()
        .expect("stdout")
        .read_to_string(&mut text)
        .await
        .expect("read");
    (
        text,
        status
            .await
            .and_then(|status| status.message.or(status.status)),
    )
}

#[tokio::test]
async fn kubes_client_runs_commands_and_attaches() {
    let bench = Bench::new();
    let mut nodelet = bench.run();
    bench.pod("web", json!({}));
    bench.ready("web").await;
    let pods: Api<Pod> = Api::namespaced(client(&mut nodelet).await, "ns");
    let both = AttachParams::default().stderr(false).stdin(true);
    let process = pods.exec("web", ["cat"], &both).await.expect("a process");
    assert_eq!(
        output(process).await,
        ("hello".to_owned(), Some("Success".to_owned()))
    );
    let output_only = AttachParams::default().stderr(false);
    let process = pods.exec("web", ["exit", "7"], &output_only);
    let (_, status) = output(process.await.expect("a process")).await;
    let message =
        "command terminated with non-zero exit code: error executing command [exit 7], exit code 7";
    assert_eq!(status.as_deref(), Some(message));
    let terminal = AttachParams::interactive_tty();
    let process = pods.exec("web", ["size"], &terminal);
    let mut process = process.await.expect("a process");
    let mut sizes = process.terminal_size().expect("a terminal");
    let size = kube::api::TerminalSize {
        width: 80,
        height: 24,
    };
    futures::SinkExt::send(&mut sizes, size)
        .await
        .expect("send");
    let mut line = [0; 6];
    process
        .stdout()
        .expect("stdout")
        .read_exact(&mut line)
        .await
        .expect("read");
    assert_eq!(&line, b"80x24\n");
    drop(process);
    let process = pods.attach("web", &both).await.expect("a process");
    let seen = output(process);
    let exit = async { assert!(bench.runtime.exit(&bench.id("web", 0), 0)) };
    let ((_, status), ()) = tokio::join!(seen, exit);
    assert_eq!(status.as_deref(), Some("Success"));
    nodelet.stop().await;
}

#[tokio::test]
async fn kubes_client_reaches_a_pods_port() {
    let mut bench = Bench::new();
    bench.network = Arc::new(FakeNetwork::loopback(77));
    let mut nodelet = bench.run();
    bench.pod("web", json!({}));
    let status = bench.ready("web").await;
    let ip: IpAddr = status["podIP"]
        .as_str()
        .and_then(|ip| ip.parse().ok())
        .expect("an IP");
    let listener = TcpListener::bind((ip, 0)).await.expect("a listener");
    let port = listener.local_addr().expect("an address").port();
    nodelet.connections.spawn(async move {
        let (mut socket, _) = listener.accept().await.expect("a connection");
        let mut line = [0; 5];
        socket.read_exact(&mut line).await.expect("read");
        line.make_ascii_uppercase();
        socket.write_all(&line).await.expect("write");
    });
    let pods: Api<Pod> = Api::namespaced(client(&mut nodelet).await, "ns");
    let mut forwarder = pods
        .portforward("web", &[port])
        .await
        .expect("a connection");
    let mut stream = forwarder.take_stream(port).expect("a stream");
    stream.write_all(b"hello").await.expect("write");
    let mut text = [0; 5];
    stream.read_exact(&mut text).await.expect("read");
    assert_eq!(&text, b"HELLO");
    drop((stream, forwarder));
    nodelet.stop().await;
}

/// A certificate of `authority` for a name, and its key.
fn certificate(
    authority: &CertifiedIssuer<'_, KeyPair>,
    name: &str,
) -> (
    Vec<rustls::pki_types::CertificateDer<'static>>,
    rustls::pki_types::PrivateKeyDer<'static>,
) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
    params.distinguished_name.push(DnType::CommonName, name);
    let certificate = params.signed_by(&key, authority).expect("a certificate");
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    (vec![certificate.der().clone()], key.into())
}

#[tokio::test]
async fn sessions_go_over_the_nodelets_own_listener() {
    let bench = Bench::new();
    let mut nodelet = bench.run();
    bench.pod("web", json!({}));
    bench.ready("web").await;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let authority = CertifiedIssuer::self_signed(params, key).expect("an authority");
    let root = authority.der().clone();
    let (chain, key) = certificate(&authority, "system:node:n1");
    let config = crate::server::tls(chain, key, [root.clone()]).expect("a configuration");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    let (router, stop) = (nodelet.handle.router(), CancellationToken::new());
    let served = crate::serve(listener, config, router, stop.clone());
    nodelet
        .connections
        .spawn(async move { served.await.expect("a server") });

    let (chain, key) = certificate(&authority, crate::server::API_SERVER);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(root).expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .expect("a certificate");
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let socket = TcpStream::connect(address).await.expect("a connection");
    let name = ServerName::try_from("localhost").expect("a name");
    let io = connector.connect(name, socket).await.expect("TLS");
    let path = "/exec/ns/web/c?command=cat&input=1&output=1";
    let client = Spdy::over(io, path, "v4.channel.k8s.io").await;
    let mut client = client.expect("an upgrade");
    for (stream, kind) in [(1, "error"), (3, "stdin"), (5, "stdout")] {
        client.stream(stream, &[("streamtype", kind)]).await;
    }
    // The listener waits for requests, not for sessions: those end with the nodelet.
    stop.cancel();
    nodelet.connections.join_next().await;
    client.data(3, "hello", true).await;
    check(
        &client.rest().await,
        expect![[r#"
            1 {"metadata":{},"status":"Success"}
            5 hello"#]],
    );
    nodelet.stop().await;
}
