use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use expect_test::{Expect, expect};
use runtimes::{Process, RuntimeError, Stdio};
use streaming::{Purpose, RemoteCommand, SessionError, Verb, spdy::Frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::{
    client::{Channels, Spdy, spdy, websocket, wire},
    program::{Streams, cat, process},
};

const PLAIN: Stdio = Stdio {
    stdin: true,
    stdout: true,
    stderr: true,
    tty: false,
};
const TERMINAL: Stdio = Stdio {
    stdin: true,
    stdout: true,
    stderr: false,
    tty: true,
};

pub(crate) fn exec(stdio: Stdio) -> RemoteCommand {
    RemoteCommand {
        verb: Verb::Exec {
            command: vec!["sh".to_owned(), "-c".to_owned()],
        },
        stdio,
        idle: Duration::from_secs(3600),
    }
}

/// The server's end of a session that is served with `process`.
async fn serve(
    session: RemoteCommand,
    protocol: &str,
    io: DuplexStream,
    process: Result<Process, RuntimeError>,
) -> Result<(), SessionError> {
    let negotiated = match protocol.strip_prefix("ws ") {
        Some(protocol) => websocket(Purpose::RemoteCommand, protocol),
        None => spdy(Purpose::RemoteCommand, protocol),
    };
    session.serve(io, &negotiated, async { process }).await
}

/// What a SPDY client sees that opens its streams, sends a line and the end of its input.
async fn spoken(protocol: &str, process: Result<Process, RuntimeError>) -> String {
    let (io, server) = wire();
    let client = async {
        let mut client = Spdy::new(io);
        for (id, kind) in [(1, "error"), (3, "stdin"), (5, "stdout"), (7, "stderr")] {
            client.open(id, &[("streamtype", kind)]).await;
        }
        client.data(3, "hello\n", true).await;
        client.rest().await
    };
    let (seen, served) = tokio::join!(client, serve(exec(PLAIN), protocol, server, process));
    served.unwrap();
    seen
}

#[track_caller]
fn check(seen: &str, expected: Expect) {
    expected.assert_eq(seen);
}

#[tokio::test(start_paused = true)]
async fn a_spdy_client_gets_output_and_how_it_ended() {
    check(
        &spoken("v4.channel.k8s.io", Ok(process(cat))).await,
        expect![[r#"
            1 accepted
            3 accepted
            5 accepted
            7 accepted
            goodbye 0
            1 "{\"metadata\":{},\"status\":\"Success\"}".
            3 "".
            5 "hello\n".
            7 ""."#]],
    );
}

async fn complain(mut streams: Streams) -> i32 {
    streams.stderr.write_all(b"no\n").await.unwrap();
    7
}

#[tokio::test(start_paused = true)]
async fn an_exit_code_is_told_in_a_status_or_in_words() {
    check(
        &spoken("v5.channel.k8s.io", Ok(process(complain))).await,
        expect![[r#"
            1 accepted
            3 accepted
            5 accepted
            7 accepted
            goodbye 0
            1 "{\"metadata\":{},\"status\":\"Failure\",\"message\":\"command terminated with non-zero exit code: error executing command [sh -c], exit code 7\",\"reason\":\"NonZeroExitCode\",\"details\":{\"causes\":[{\"reason\":\"ExitCode\",\"message\":\"7\"}]}}".
            3 "".
            5 "".
            7 "no\n"."#]],
    );
    check(
        &spoken("v2.channel.k8s.io", Ok(process(complain))).await,
        expect![[r#"
            1 accepted
            3 accepted
            5 accepted
            7 accepted
            goodbye 0
            1 "command terminated with non-zero exit code: error executing command [sh -c], exit code 7".
            3 "".
            5 "".
            7 "no\n"."#]],
    );
}

#[tokio::test(start_paused = true)]
async fn a_process_that_does_not_start_says_why_on_the_error_stream() {
    let error = RuntimeError::Invalid("no such program".to_owned());
    check(
        &spoken("v3.channel.k8s.io", Err(error)).await,
        expect![[r#"
            1 accepted
            3 accepted
            5 accepted
            7 accepted
            goodbye 0
            1 "Internal error occurred: error executing command in container: no such program".
            3 "".
            5 "".
            7 ""."#]],
    );
}

/// What a WebSocket client sees that sends these messages.
async fn channels(protocol: &str, stdio: Stdio, messages: &[&[u8]], process: Process) -> String {
    let (io, server) = wire();
    let protocol = format!("ws {protocol}");
    let client = async {
        let mut client = Channels::new(io).await;
        for message in messages {
            client.send(message).await;
        }
        client.rest().await
    };
    let (seen, served) = tokio::join!(client, serve(exec(stdio), &protocol, server, Ok(process)));
    served.unwrap();
    seen
}

#[tokio::test(start_paused = true)]
async fn a_websocket_client_ends_its_input_from_v5_on() {
    check(
        &channels(
            "v5.channel.k8s.io",
            PLAIN,
            &[b"\0hello\n", b"\xff\0"],
            process(cat),
        )
        .await,
        expect![[r#"
            1 ""
            1 "hello\n"
            3 "{\"metadata\":{},\"status\":\"Success\"}"
            closed 1000"#]],
    );
}

/// Copies one line of its input.
async fn line(mut streams: Streams) -> i32 {
    let mut line = [0; 6];
    streams.stdin.read_exact(&mut line).await.unwrap();
    streams.stdout.write_all(&line).await.unwrap();
    0
}

#[tokio::test(start_paused = true)]
async fn old_websocket_clients_are_told_in_words_and_base64() {
    check(
        &channels(
            "v4.channel.k8s.io",
            PLAIN,
            &[b"\0hello\n", b"\xff\0", b"\x09?", b""],
            process(line),
        )
        .await,
        expect![[r#"
            1 ""
            1 "hello\n"
            3 "{\"metadata\":{},\"status\":\"Success\"}"
            closed 1000"#]],
    );
    check(
        &channels("channel.k8s.io", PLAIN, &[b"\0hello\n"], process(line)).await,
        expect![[r#"
            1 ""
            1 "hello\n"
            closed 1000"#]],
    );
    check(
        &channels(
            "base64.channel.k8s.io",
            PLAIN,
            &[b"0aGVsbG8K"],
            process(line),
        )
        .await,
        expect![[r#"
            1
            1aGVsbG8K
            closed 1000"#]],
    );
}

/// Prints a size, and its input.
async fn size(mut streams: Streams) -> i32 {
    let size = streams.sizes.recv().await.unwrap();
    let text = format!("{}x{}", size.width, size.height);
    streams.stdout.write_all(text.as_bytes()).await.unwrap();
    0
}

#[tokio::test(start_paused = true)]
async fn a_terminal_gets_its_size() {
    let message = b"\x04{\"Width\":80,\"Height\":24}";
    check(
        &channels("v5.channel.k8s.io", TERMINAL, &[message], process(size)).await,
        expect![[r#"
            1 ""
            1 "80x24"
            3 "{\"metadata\":{},\"status\":\"Success\"}"
            closed 1000"#]],
    );
    let (io, server) = wire();
    let client = async {
        let mut client = Spdy::new(io);
        let kinds = [
            (1, "error"),
            (3, "stdin"),
            (5, "stdout"),
            (7, "stderr"),
            (9, "resize"),
        ];
        for (id, kind) in kinds {
            client.open(id, &[("streamtype", kind)]).await;
        }
        client.data(9, "{\"Width\":1,\"Height\":2}\n", false).await;
        client.rest().await
    };
    let served = serve(
        exec(TERMINAL),
        "v4.channel.k8s.io",
        server,
        Ok(process(size)),
    );
    let (seen, served) = tokio::join!(client, served);
    served.unwrap();
    check(
        &seen,
        expect![[r#"
            1 accepted
            3 accepted
            5 accepted
            7 reset 3
            9 accepted
            goodbye 0
            1 "{\"metadata\":{},\"status\":\"Success\"}".
            3 "".
            5 "1x2".
            9 ""."#]],
    );
}

/// Writes without end, and counts.
fn flood(written: Arc<AtomicUsize>) -> Process {
    process(|mut streams| async move {
        while streams.stdout.write_all(&[b'x'; 1000]).await.is_ok() {
            written.fetch_add(1000, Ordering::Relaxed);
        }
        0
    })
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_stops_the_process() {
    for protocol in ["v4.channel.k8s.io", "ws v5.channel.k8s.io"] {
        let (io, server) = wire();
        let mut client = Spdy::new(io);
        let written = Arc::new(AtomicUsize::new(0));
        let served = serve(exec(PLAIN), protocol, server, Ok(flood(written.clone())));
        let session = async {
            if !protocol.starts_with("ws") {
                for (id, kind) in [(1, "error"), (3, "stdin"), (5, "stdout"), (7, "stderr")] {
                    client.open(id, &[("streamtype", kind)]).await;
                }
            }
            // Time stands still until nobody can go on.
            tokio::time::sleep(Duration::from_secs(10)).await;
        };
        tokio::select! {
            served = served => panic!("{served:?}"),
            () = session => {}
        }
        let written = written.load(Ordering::Relaxed);
        assert!(
            (1000..600_000).contains(&written),
            "{protocol}: {written} bytes written"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_ends_the_process_though_it_reads_nothing() {
    for protocol in ["v4.channel.k8s.io", "ws v5.channel.k8s.io"] {
        let (io, server) = wire();
        let (alive, mut gone) = tokio::sync::oneshot::channel::<()>();
        let sleep = process(|streams| async move {
            let _keep = (streams, alive);
            std::future::pending().await
        });
        let client = async {
            let mut client = Spdy::new(io);
            for (id, kind) in [(1, "error"), (3, "stdin"), (5, "stdout"), (7, "stderr")] {
                if !protocol.starts_with("ws") {
                    client.open(id, &[("streamtype", kind)]).await;
                }
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        };
        let (_, served) = tokio::join!(client, serve(exec(PLAIN), protocol, server, Ok(sleep)));
        assert_eq!(served.is_ok(), !protocol.starts_with("ws"), "{served:?}");
        assert!(
            gone.try_recv()
                .is_err_and(|error| error == tokio::sync::oneshot::error::TryRecvError::Closed)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_attached_process_keeps_its_input_unless_it_is_for_one_client() {
    for stdin_once in [false, true] {
        let (io, server) = wire();
        let (told, ended) = tokio::sync::oneshot::channel();
        let reader = process(|mut streams| async move {
            let (mut own, rest) = (streams.stdin, streams.stdout);
            let mut text = String::new();
            // The end of the pipe is that somebody ended it, or dropped it with the session.
            own.read_to_string(&mut text).await.unwrap();
            drop((rest, streams.stderr.shutdown().await));
            let _ = told.send(text);
            0
        });
        let session = RemoteCommand {
            verb: Verb::Attach { stdin_once },
            ..exec(PLAIN)
        };
        let client = async {
            let mut client = Channels::new(io).await;
            client.send(b"\0hi").await;
            client.send(b"\xff\0").await;
            client.rest().await
        };
        let served = serve(session, "ws v5.channel.k8s.io", server, Ok(reader));
        let (seen, served) = tokio::join!(client, served);
        served.unwrap();
        assert_eq!(ended.await.unwrap(), "hi");
        assert!(seen.contains("Success"), "{seen}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_opens_no_streams_or_is_silent_is_left() {
    let (_io, server) = wire();
    let served = serve(exec(PLAIN), "v4.channel.k8s.io", server, Ok(process(cat))).await;
    assert!(matches!(served, Err(SessionError::NoStreams)), "{served:?}");
    let (io, server) = wire();
    let mut client = Channels::new(io).await;
    let served = serve(
        exec(PLAIN),
        "ws v5.channel.k8s.io",
        server,
        Ok(process(cat)),
    );
    // The client answers pings: those are no sign of use.
    let (served, seen) = tokio::join!(served, client.rest());
    assert!(matches!(served, Err(SessionError::Idle(_))), "{served:?}");
    assert_eq!(seen, "1 \"\"\nbroken");
}

#[tokio::test(start_paused = true)]
async fn pings_are_answered_and_sent() {
    let (io, server) = wire();
    let mut client = Spdy::new(io);
    let served = serve(exec(PLAIN), "v4.channel.k8s.io", server, Ok(process(cat)));
    let asked = async {
        client.open(1, &[("streamtype", "error")]).await;
        client.open(3, &[("streamtype", "stdin")]).await;
        client.open(5, &[("streamtype", "stdout")]).await;
        client.open(7, &[("streamtype", "stderr")]).await;
        client.send(Frame::Ping(9)).await;
        let seen = client.until(|frame| *frame == Frame::Ping(9)).await;
        assert!(seen.contains("Ping(9)"), "{seen}");
        client.until(|frame| *frame == Frame::Ping(2)).await
    };
    tokio::select! {
        served = served => panic!("{served:?}"),
        seen = asked => assert!(seen.ends_with("Ping(2)"), "{seen}"),
    }
}
