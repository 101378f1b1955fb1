//! Sessions against clients that send nearly what clients send: cut, joined, repeated, flipped. Each ends when its
//! client does, soon, without a panic.
//!
//! A bounded number of cases a run, by proptest.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use runtimes::Stdio;
use streaming::{
    Negotiated, Purpose,
    spdy::{Encoder, Frame, Headers},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    client::{spdy, websocket, wire},
    port_forward,
    program::{cat, process},
    remote_command::exec,
};

/// How long one session may take; generous, since debug builds share two cores.
const BUDGET: Duration = Duration::from_secs(5);
/// Bytes of an input: repeats of repeats would be megabytes.
const MOST_BYTES: usize = 64 * 1024;

/// One change of some bytes.
#[derive(Clone, Debug)]
enum Change {
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index, prop::sample::Index),
    Repeat(prop::sample::Index, prop::sample::Index, usize),
    Insert(prop::sample::Index, Vec<u8>),
}

impl Change {
    fn any() -> impl Strategy<Value = Self> {
        let at = any::<prop::sample::Index>;
        prop_oneof![
            (at(), any::<u8>()).prop_map(|(at, byte)| Self::Flip(at, byte)),
            (at(), at()).prop_map(|(from, to)| Self::Cut(from, to)),
            (at(), at(), 2_usize..40).prop_map(|(from, to, times)| Self::Repeat(from, to, times)),
            (at(), prop::collection::vec(any::<u8>(), 0..12))
                .prop_map(|(at, bytes)| Self::Insert(at, bytes)),
        ]
    }

    fn apply(&self, bytes: &mut Vec<u8>) {
        let range = |from: &prop::sample::Index, to: &prop::sample::Index| {
            let (from, to) = (from.index(bytes.len() + 1), to.index(bytes.len() + 1));
            from.min(to)..from.max(to)
        };
        match self {
            Self::Flip(at, byte) if !bytes.is_empty() => {
                let at = at.index(bytes.len());
                bytes[at] ^= byte;
            }
            Self::Flip(..) => {}
            Self::Cut(from, to) => {
                let range = range(from, to);
                bytes.drain(range);
            }
            Self::Repeat(from, to, times) => {
                let range = range(from, to);
                let part = bytes[range.clone()].repeat(*times);
                bytes.splice(range, part);
            }
            Self::Insert(at, more) => {
                let at = at.index(bytes.len() + 1);
                bytes.splice(at..at, more.iter().copied());
            }
        }
    }
}

/// Runs a session with a client that sends these bytes, reads everything and goes.
fn session(negotiated: &Negotiated, purpose: Purpose, bytes: &[u8]) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let (io, server) = wire();
        let (mut reader, mut writer) = tokio::io::split(io);
        let client = async {
            let send = async {
                // The session may have ended before it has taken everything.
                let _ = writer.write_all(bytes).await;
                let _ = writer.shutdown().await;
            };
            let mut seen = Vec::new();
            tokio::join!(send, reader.read_to_end(&mut seen)).1.unwrap();
        };
        let serve = async {
            let all = Stdio {
                stdin: true,
                stdout: true,
                stderr: true,
                tty: false,
            };
            let served = match purpose {
                Purpose::RemoteCommand => {
                    exec(all)
                        .serve(server, negotiated, async { Ok(process(cat)) })
                        .await
                }
                Purpose::PortForward => {
                    // An echo: what is written is read.
                    let connect = |_| {
                        let (reader, writer) = tokio::io::simplex(256);
                        std::future::ready(Ok::<_, std::io::Error>(tokio::io::join(reader, writer)))
                    };
                    port_forward::session(&[80, 81])
                        .serve(server, negotiated, connect)
                        .await
                }
            };
            drop(served);
        };
        tokio::join!(client, serve);
    });
}

/// Gives a session these inputs, and inputs near to them.
fn fuzz(negotiated: &Negotiated, purpose: Purpose, seeds: Vec<Vec<u8>>) {
    let timed = |bytes: &[u8]| {
        let start = Instant::now();
        session(negotiated, purpose, bytes);
        start.elapsed()
    };
    for seed in &seeds {
        assert!(timed(seed) < BUDGET, "slow: {seed:?}");
    }
    let input = (
        prop::sample::select(seeds),
        prop::collection::vec(Change::any(), 0..6),
    );
    let config = Config {
        cases: 150,
        failure_persistence: None,
        ..Config::default()
    };
    let ran = TestRunner::new(config).run(&input, |(mut bytes, changes)| {
        changes.iter().for_each(|change| change.apply(&mut bytes));
        bytes.truncate(MOST_BYTES);
        prop_assert!(timed(&bytes) < BUDGET, "slow: {bytes:?}");
        Ok(())
    });
    if let Err(failure) = ran {
        panic!("{failure}");
    }
}

fn spdy_bytes(streams: &[&[(&str, &str)]], more: &[Frame]) -> Vec<u8> {
    let (mut encoder, mut out) = (Encoder::new(), BytesMut::new());
    for (number, headers) in (0..).zip(streams) {
        let frame = Frame::SynStream {
            stream: 2 * number + 1,
            associated: 0,
            priority: 0,
            fin: false,
            unidirectional: false,
            headers: Headers::new(headers.iter().copied()),
        };
        encoder.encode(&frame, &mut out);
    }
    more.iter()
        .for_each(|frame| encoder.encode(frame, &mut out));
    out.to_vec()
}

fn data(stream: u32, fin: bool) -> Frame {
    let bytes = "hello\n".into();
    Frame::Data { stream, fin, bytes }
}

#[test]
fn spdy_commands_end_with_their_client() {
    let streams: [&[_]; 4] = [
        &[("streamtype", "error")],
        &[("streamtype", "stdin")],
        &[("streamtype", "stdout")],
        &[("streamtype", "stderr")],
    ];
    let more = [
        Frame::Ping(1),
        data(3, false),
        data(3, true),
        Frame::RstStream {
            stream: 5,
            status: 5,
        },
    ];
    let seeds = vec![
        spdy_bytes(&streams, &more),
        spdy_bytes(&streams, &more[..3]),
    ];
    fuzz(
        &spdy(Purpose::RemoteCommand, "v4.channel.k8s.io"),
        Purpose::RemoteCommand,
        seeds,
    );
}

#[test]
fn spdy_connections_end_with_their_client() {
    let streams: [&[_]; 4] = [
        &[("streamtype", "error"), ("port", "80"), ("requestid", "0")],
        &[("streamtype", "data"), ("port", "80"), ("requestid", "0")],
        &[("streamtype", "error"), ("port", "80")],
        &[("streamtype", "data"), ("port", "80")],
    ];
    let more = [
        data(3, false),
        data(7, true),
        Frame::RstStream {
            stream: 3,
            status: 5,
        },
        Frame::GoAway { last: 0, status: 0 },
    ];
    let seeds = vec![spdy_bytes(&streams, &more), spdy_bytes(&streams[2..], &[])];
    fuzz(
        &spdy(Purpose::PortForward, "portforward.k8s.io"),
        Purpose::PortForward,
        seeds,
    );
}

/// Messages as a client masks them, with a mask that changes nothing.
fn messages(messages: &[(u8, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (kind, bytes) in messages {
        let length = u8::try_from(bytes.len()).unwrap();
        out.extend([0x80 | kind, 0x80 | length, 0, 0, 0, 0]);
        out.extend_from_slice(bytes);
    }
    out
}

#[test]
fn websocket_sessions_end_with_their_client() {
    let commands = vec![
        messages(&[(2, b"\0hello\n"), (9, b""), (2, b"\xff\0")]),
        messages(&[
            (1, b"\0hello\n"),
            (2, b"\x04{\"Width\":1,\"Height\":1}"),
            (8, b"\x03\xe8"),
        ]),
    ];
    let purpose = Purpose::RemoteCommand;
    fuzz(&websocket(purpose, "v5.channel.k8s.io"), purpose, commands);
    let commands = vec![messages(&[(1, b"0aGVsbG8K"), (1, b"0!")])];
    fuzz(
        &websocket(purpose, "v4.base64.channel.k8s.io"),
        purpose,
        commands,
    );
    let purpose = Purpose::PortForward;
    let connections = vec![messages(&[
        (2, b"\0hello\n"),
        (2, b"\x02hello\n"),
        (8, b""),
    ])];
    fuzz(
        &websocket(purpose, "v4.channel.k8s.io"),
        purpose,
        connections,
    );
    let streams: [&[_]; 2] = [
        &[("streamtype", "error"), ("port", "80")],
        &[("streamtype", "data"), ("port", "80")],
    ];
    let spdy = spdy_bytes(&streams, &[data(3, true)]);
    let tunnel = vec![
        spdy.chunks(20)
            .flat_map(|part| messages(&[(2, part)]))
            .collect(),
    ];
    fuzz(
        &websocket(purpose, "SPDY/3.1+portforward.k8s.io"),
        purpose,
        tunnel,
    );
}
