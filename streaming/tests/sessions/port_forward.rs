use std::{io, sync::Mutex, time::Duration};

use expect_test::expect;
use streaming::{PortForward, Purpose, SessionError, spdy::Frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use crate::client::{Channels, Spdy, spdy, websocket, wire};

pub(crate) fn session(ports: &[u16]) -> PortForward {
    PortForward {
        pod: "web".to_owned(),
        uid: "u1".to_owned(),
        ports: ports.to_vec(),
        idle: Duration::from_secs(3600),
    }
}

/// Ports in memory: 80 answers each line in upper case and closes when its client does; 81 says its name and
/// closes; nothing listens elsewhere.
async fn connect(port: u16) -> io::Result<DuplexStream> {
    let (ours, mut theirs) = duplex(1024);
    match port {
        80 => {
            // It lives as long as its connection.
            drop(tokio::task::spawn_local(async move {
                let mut text = String::new();
                theirs.read_to_string(&mut text).await.unwrap();
                theirs
                    .write_all(text.to_uppercase().as_bytes())
                    .await
                    .unwrap();
            }));
        }
        81 => theirs.write_all(b"eighty-one").await?,
        _ => return Err(io::ErrorKind::ConnectionRefused.into()),
    }
    Ok(ours)
}

async fn open(client: &mut Spdy, first: u32, port: &str, request: &str) {
    for (id, kind) in [(first, "error"), (first + 2, "data")] {
        client
            .open(
                id,
                &[("streamtype", kind), ("port", port), ("requestid", request)],
            )
            .await;
    }
    // As kubectl does: it writes nothing there.
    client.data(first, "", true).await;
}

/// Runs a client against a session, and what the session came to when the client has gone.
async fn run<T>(client: impl AsyncFnOnce(Spdy) -> T) -> (T, Result<(), SessionError>) {
    let (io, server) = wire();
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let negotiated = spdy(Purpose::PortForward, "portforward.k8s.io");
            tokio::join!(
                client(Spdy::new(io)),
                session(&[]).serve(server, &negotiated, connect)
            )
        })
        .await
}

fn ends(stream: u32) -> impl Fn(&Frame) -> bool {
    move |frame| matches!(frame, Frame::Data { stream: id, fin: true, .. } if *id == stream)
}

#[tokio::test(start_paused = true)]
async fn each_pair_is_a_connection_and_a_half_closed_one_still_answers() {
    let (seen, served) = run(async |mut client: Spdy| {
        open(&mut client, 1, "80", "0").await;
        open(&mut client, 5, "80", "1").await;
        client.data(7, "second", true).await;
        let second = client.until(ends(5)).await;
        client.data(3, "first", true).await;
        let first = client.until(ends(1)).await;
        format!("{second}\n{first}")
    })
    .await;
    served.unwrap();
    expect![[r#"
        1 accepted
        3 accepted
        5 accepted
        7 accepted
        5 "".
        7 "SECOND".
        1 "".
        3 "FIRST"."#]]
    .assert_eq(&seen);
}

#[tokio::test(start_paused = true)]
async fn a_port_where_nothing_listens_is_told_on_the_error_stream() {
    let (seen, served) = run(async |mut client: Spdy| {
        open(&mut client, 1, "82", "0").await;
        let refused = client.until(ends(1)).await;
        open(&mut client, 5, "81", "1").await;
        format!("{refused}\n{}", client.until(ends(5)).await)
    })
    .await;
    served.unwrap();
    expect![[r#"
        1 accepted
        3 accepted
        1 "error forwarding port 82 to pod web, uid u1: failed to connect to localhost:82 inside the pod: connection refused".
        3 "".
        5 accepted
        7 accepted
        5 "".
        7 "eighty-one"."#]]
    .assert_eq(&seen);
}

#[tokio::test(start_paused = true)]
async fn streams_that_say_no_port_or_kind_are_refused_and_half_a_pair_is_ended() {
    let (seen, served) = run(async |mut client: Spdy| {
        client.open(1, &[("streamtype", "data")]).await;
        client
            .open(3, &[("streamtype", "data"), ("port", "0")])
            .await;
        client.open(5, &[("streamtype", "x"), ("port", "80")]).await;
        client
            .open(
                7,
                &[("streamtype", "error"), ("port", "80"), ("requestid", "1")],
            )
            .await;
        client
            .open(
                9,
                &[("streamtype", "error"), ("port", "80"), ("requestid", "1")],
            )
            .await;
        client.until(ends(7)).await
    })
    .await;
    served.unwrap();
    expect![[r#"
        1 reset 1
        3 reset 1
        5 reset 1
        7 accepted
        9 accepted
        9 reset 1
        7 "error processing stream for request 1: error stream already assigned(stream=7) timed out waiting for streams"."#]]
    .assert_eq(&seen);
}

#[tokio::test(start_paused = true)]
async fn old_clients_name_no_request() {
    let (seen, _) = run(async |mut client: Spdy| {
        client
            .open(1, &[("streamtype", "error"), ("port", "81")])
            .await;
        client
            .open(3, &[("streamtype", "data"), ("port", "81")])
            .await;
        client.until(ends(1)).await
    })
    .await;
    expect![[r#"
        1 accepted
        3 accepted
        1 "".
        3 "eighty-one"."#]]
    .assert_eq(&seen);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_the_client_resets_ends_its_connection() {
    let (io, server) = wire();
    let pod = Mutex::new(None);
    let connect = |_| {
        let (ours, theirs) = duplex(1024);
        *pod.lock().unwrap() = Some(theirs);
        std::future::ready(Ok::<_, io::Error>(ours))
    };
    let negotiated = spdy(Purpose::PortForward, "portforward.k8s.io");
    let client = async {
        let mut client = Spdy::new(io);
        open(&mut client, 1, "80", "0").await;
        client.data(3, "hi", false).await;
        client
            .until(|frame| matches!(frame, Frame::SynReply { stream: 3, .. }))
            .await;
        client
            .send(Frame::RstStream {
                stream: 3,
                status: 5,
            })
            .await;
        client.until(ends(1)).await
    };
    let (seen, served) = tokio::join!(client, session(&[]).serve(server, &negotiated, connect));
    served.unwrap();
    assert_eq!(seen, "1 \"\".");
    let mut pod = pod.into_inner().unwrap().unwrap();
    let mut text = String::new();
    pod.read_to_string(&mut text).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_does_not_read_stops_its_client() {
    let (io, server) = wire();
    let connect = |_| {
        // Kept, and never read.
        let (ours, theirs) = duplex(1024);
        std::mem::forget(theirs);
        std::future::ready(Ok::<_, io::Error>(ours))
    };
    let negotiated = spdy(Purpose::PortForward, "portforward.k8s.io");
    let mut sent = 0;
    let client = async {
        let mut client = Spdy::new(io);
        open(&mut client, 1, "80", "0").await;
        loop {
            client
                .data(3, "0123456789012345678901234567890123456789", false)
                .await;
            sent += 40;
        }
    };
    tokio::select! {
        () = client => {}
        served = session(&[]).serve(server, &negotiated, connect) => panic!("{served:?}"),
        () = tokio::time::sleep(Duration::from_secs(10)) => {}
    }
    assert!((1024..1 << 20).contains(&sent), "{sent} bytes");
}

#[tokio::test(start_paused = true)]
async fn spdy_goes_through_binary_messages() {
    let (io, server) = wire();
    let local = tokio::task::LocalSet::new();
    let negotiated = websocket(Purpose::PortForward, "SPDY/3.1+portforward.k8s.io");
    let client = async {
        // The client's SPDY in messages cut anywhere.
        let (spdy, mut tunnel) = duplex(1024);
        let mut socket = Channels::new(io).await.0;
        let pump = async {
            use futures::{SinkExt, StreamExt};
            let mut buffer = [0; 7];
            loop {
                tokio::select! {
                    length = tunnel.read(&mut buffer) => match length {
                        Ok(0) | Err(_) => return,
                        Ok(length) => {
                            let bytes = buffer[..length].to_vec();
                            socket.send(tokio_tungstenite::tungstenite::Message::binary(bytes)).await.unwrap();
                        }
                    },
                    message = socket.next() => match message {
                        Some(Ok(message)) => tunnel.write_all(&message.into_data()).await.unwrap(),
                        _ => return,
                    },
                }
            }
        };
        let talk = async {
            let mut client = Spdy::new(spdy);
            open(&mut client, 1, "80", "0").await;
            client.data(3, "hello", true).await;
            client.until(ends(1)).await
        };
        tokio::join!(pump, talk).1
    };
    let (seen, _) = local
        .run_until(async { tokio::join!(client, session(&[]).serve(server, &negotiated, connect)) })
        .await;
    expect![[r#"
        1 accepted
        3 accepted
        1 "".
        3 "HELLO"."#]]
    .assert_eq(&seen);
}

#[tokio::test(start_paused = true)]
async fn old_websocket_clients_have_two_channels_a_port() {
    let (io, server) = wire();
    let negotiated = websocket(Purpose::PortForward, "v4.channel.k8s.io");
    assert!(negotiated.ports_in_request());
    let client = async { Channels::new(io).await.rest().await };
    let (seen, served) = tokio::join!(
        client,
        session(&[81, 82]).serve(server, &negotiated, connect)
    );
    served.unwrap();
    let mut lines: Vec<_> = seen.lines().collect();
    lines.sort_by_key(|line| line.split(' ').next());
    expect![[r#"
        0 "Q\0"
        0 "eighty-one"
        1 "Q\0"
        2 "R\0"
        3 "R\0"
        3 "error forwarding port 82 to pod web, uid u1: failed to connect to localhost:82 inside the pod: connection refused"
        closed 1000"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn ports_of_a_request_are_read() {
    let parse = |values: &[&str]| streaming::port_forward::parse_ports(values.iter().copied());
    assert_eq!(parse(&["80", "81,82"]), Ok(vec![80, 81, 82]));
    let wrong = |values: &[&str]| parse(values).unwrap_err();
    assert_eq!(wrong(&[]), "query parameter \"port\" is required");
    assert_eq!(wrong(&[""]), "query parameter \"port\" cannot be empty");
    assert_eq!(wrong(&["0"]), "port \"0\" must be > 0");
    assert_eq!(
        wrong(&["x"]),
        "unable to parse \"x\" as a port: invalid digit found in string"
    );
    assert_eq!(
        wrong(&["1"; 65]),
        "at most 64 ports can be forwarded at once"
    );
}
