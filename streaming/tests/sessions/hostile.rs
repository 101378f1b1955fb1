use std::time::Duration;

use runtimes::Stdio;
use streaming::{Purpose, SessionError, spdy::Frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    client::{Spdy, spdy, websocket, wire},
    port_forward,
    program::{cat, process},
    remote_command::exec,
};

const PLAIN: Stdio = Stdio {
    stdin: true,
    stdout: true,
    stderr: false,
    tty: false,
};

/// What a port-forward session comes to for a client that sends these frames, and what the client sees.
async fn send(frames: Vec<Frame>) -> (String, Result<(), SessionError>) {
    let (io, server) = wire();
    let negotiated = spdy(Purpose::PortForward, "portforward.k8s.io");
    let client = async {
        let mut client = Spdy::new(io);
        for frame in frames {
            client.send(frame).await;
        }
        client.rest().await
    };
    let connect = |_| {
        std::future::ready(Err::<tokio::io::DuplexStream, _>(
            std::io::ErrorKind::ConnectionRefused.into(),
        ))
    };
    let session = port_forward::session(&[]).serve(server, &negotiated, connect);
    tokio::join!(client, async {
        tokio::time::timeout(Duration::from_secs(60), session)
            .await
            .unwrap_or(Ok(()))
    })
}

fn open(stream: u32) -> Frame {
    Frame::SynStream {
        stream,
        associated: 0,
        priority: 0,
        fin: false,
        unidirectional: false,
        headers: streaming::spdy::Headers::new([
            ("streamtype", "data"),
            ("port", "80"),
            ("requestid", &*stream.to_string()),
        ]),
    }
}

#[tokio::test(start_paused = true)]
async fn ids_that_are_even_or_go_back_end_the_connection() {
    for frames in [
        vec![open(2)],
        vec![open(3), open(1)],
        vec![open(1), open(1)],
    ] {
        let (seen, served) = send(frames).await;
        assert!(seen.ends_with("goodbye 1"), "{seen}");
        assert!(
            matches!(served, Err(SessionError::Protocol(_))),
            "{served:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn streams_beyond_the_bound_are_refused() {
    let (io, server) = wire();
    let negotiated = spdy(Purpose::PortForward, "portforward.k8s.io");
    let (mut reader, mut writer) = tokio::io::split(io);
    let client = async {
        let (mut encoder, mut out) = (streaming::spdy::Encoder::new(), bytes::BytesMut::new());
        for number in 0..300 {
            encoder.encode(&open(2 * number + 1), &mut out);
        }
        writer.write_all(&out).await.unwrap();
    };
    let count = async {
        let (mut decoder, mut input) = (streaming::spdy::Decoder::new(), bytes::BytesMut::new());
        let (mut accepted, mut refused) = (0, 0);
        while accepted + refused < 300 {
            reader.read_buf(&mut input).await.unwrap();
            while let Some(frame) = decoder.decode(&mut input).unwrap() {
                match frame {
                    Frame::SynReply { .. } => accepted += 1,
                    Frame::RstStream { status: 3, .. } => refused += 1,
                    frame => panic!("{frame:?}"),
                }
            }
        }
        (accepted, refused)
    };
    let connect = |_| std::future::pending::<std::io::Result<tokio::io::DuplexStream>>();
    tokio::select! {
        served = port_forward::session(&[]).serve(server, &negotiated, connect) => panic!("{served:?}"),
        (counts, ()) = async { tokio::join!(count, client) } => assert_eq!(counts, (256, 44)),
    }
}

#[tokio::test(start_paused = true)]
async fn data_of_a_stream_that_nobody_opened_is_answered_with_a_reset() {
    let bytes = bytes::Bytes::from_static(b"?");
    let (io, server) = wire();
    let negotiated = spdy(Purpose::PortForward, "portforward.k8s.io");
    let client = async {
        let mut client = Spdy::new(io);
        client
            .send(Frame::Data {
                stream: 9,
                fin: false,
                bytes,
            })
            .await;
        client
            .until(|frame| matches!(frame, Frame::RstStream { .. }))
            .await
    };
    let connect = |_| std::future::pending::<std::io::Result<tokio::io::DuplexStream>>();
    let session = port_forward::session(&[]);
    let (seen, served) = tokio::join!(client, session.serve(server, &negotiated, connect));
    served.unwrap();
    assert_eq!(seen, "9 reset 2");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_the_protocol_ends_the_session() {
    for (negotiated, bytes) in [
        (
            spdy(Purpose::RemoteCommand, "v4.channel.k8s.io"),
            &b"GET / HTTP/1.1\r\n\r\n\x80\x02\0\x01\0\0\0\0"[..],
        ),
        (
            spdy(Purpose::RemoteCommand, "v4.channel.k8s.io"),
            &[0xff; 64],
        ),
        (
            websocket(Purpose::RemoteCommand, "v5.channel.k8s.io"),
            &[0xff; 64],
        ),
        // An unmasked message, a message of 2⁶² bytes, and one of three bytes that ends a channel.
        (
            websocket(Purpose::RemoteCommand, "v5.channel.k8s.io"),
            b"\x82\x02\0x",
        ),
        (
            websocket(Purpose::RemoteCommand, "v5.channel.k8s.io"),
            b"\x82\xff\x40\0\0\0\0\0\0\0\0\0\0\0",
        ),
        (
            websocket(Purpose::RemoteCommand, "v5.channel.k8s.io"),
            b"\x82\x83\0\0\0\0\xff\0\0",
        ),
        (
            websocket(Purpose::RemoteCommand, "base64.channel.k8s.io"),
            b"\x81\x82\0\0\0\x000!",
        ),
    ] {
        let (io, server) = wire();
        let (mut reader, mut writer) = tokio::io::split(io);
        let session = exec(PLAIN).serve(server, &negotiated, async { Ok(process(cat)) });
        let client = async {
            writer.write_all(bytes).await.unwrap();
            reader.read_to_end(&mut Vec::new()).await.unwrap();
        };
        let (served, ()) = tokio::join!(session, client);
        served.unwrap_err();
    }
}
