//! Frames against bytes: tables of the format, and what must hold for any bytes.

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<char> = hex.chars().filter(|c| !c.is_whitespace()).collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn encoded(frames: &[Frame]) -> Vec<u8> {
    let (mut encoder, mut out) = (Encoder::new(), BytesMut::new());
    frames
        .iter()
        .for_each(|frame| encoder.encode(frame, &mut out));
    out.to_vec()
}

/// Every frame in bytes that come in these chunks; data that follows data of the same stream is joined to it.
fn decoded<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Frame>, Option<FrameError>) {
    let (mut decoder, mut input) = (Decoder::new(), BytesMut::new());
    let mut frames: Vec<Frame> = Vec::new();
    for chunk in chunks {
        input.extend_from_slice(chunk);
        loop {
            match decoder.decode(&mut input) {
                Ok(None) => break,
                Ok(Some(Frame::Data { stream, fin, bytes })) => {
                    if let Some(Frame::Data {
                        stream: last,
                        fin: ended,
                        bytes: all,
                    }) = frames.last_mut()
                        && *last == stream
                        && !*ended
                    {
                        *all = [&all[..], &bytes[..]].concat().into();
                        *ended = fin;
                    } else {
                        frames.push(Frame::Data { stream, fin, bytes });
                    }
                }
                Ok(Some(frame)) => frames.push(frame),
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

#[track_caller]
fn check_written(frame: Frame, expected: Expect) {
    expected.assert_eq(&hex(&encoded(&[frame])));
}

#[track_caller]
fn check_read(input: &str, expected: Expect) {
    let (frames, error) = decoded([&bytes(input)[..]]);
    let lines = frames.iter().map(|frame| format!("{frame:?}"));
    let lines: Vec<_> = lines.chain(error.map(|error| error.to_string())).collect();
    expected.assert_eq(&lines.join("\n"));
}

#[test]
fn frames_without_headers_are_written_as_the_draft_says() {
    check_written(
        Frame::RstStream {
            stream: 1,
            status: 5,
        },
        expect!["80030003000000080000000100000005"],
    );
    check_written(Frame::Ping(2), expect!["800300060000000400000002"]);
    check_written(
        Frame::GoAway { last: 7, status: 0 },
        expect!["80030007000000080000000700000000"],
    );
    check_written(
        Frame::Settings(vec![(4, 100)]),
        expect!["800300040000000c000000010000000400000064"],
    );
    check_written(
        Frame::WindowUpdate {
            stream: 3,
            delta: 9,
        },
        expect!["80030009000000080000000300000009"],
    );
    let bytes = Bytes::from_static(b"hi");
    check_written(
        Frame::Data {
            stream: 5,
            fin: false,
            bytes: bytes.clone(),
        },
        expect!["00000005000000026869"],
    );
    check_written(
        Frame::Data {
            stream: 5,
            fin: true,
            bytes,
        },
        expect!["00000005010000026869"],
    );
    check_written(
        Frame::Data {
            stream: 5,
            fin: true,
            bytes: Bytes::new(),
        },
        expect!["0000000501000000"],
    );
}

#[test]
fn the_dictionary_is_that_of_the_draft() {
    // A compressed block begins with zlib's header and the checksum of the dictionary.
    let bytes = encoded(&[Frame::SynReply {
        stream: 1,
        fin: false,
        headers: Headers::default(),
    }]);
    assert_eq!(hex(&bytes[14..18]), "e3c6a7c2");
}

#[test]
fn frames_without_headers_are_read() {
    check_read(
        "80030003 00000008 00000001 00000005",
        expect!["RstStream { stream: 1, status: 5 }"],
    );
    check_read("80030006 00000004 00000001", expect!["Ping(1)"]);
    check_read(
        "80030004 0000000c 00000001 01000004 00000064",
        expect!["Settings([(4, 100)])"],
    );
    check_read(
        "00000005 00000002 6869 00000005 01000000",
        expect![[r#"Data { stream: 5, fin: true, bytes: b"hi" }"#]],
    );
    check_read(
        "8003000a 00000002 ffff 80030006 00000004 00000003",
        expect!["Ping(3)"],
    );
}

#[test]
fn what_is_not_spdy_is_refused() {
    check_read(
        "80020006 00000004 00000001",
        expect!["SPDY version 2 is not supported: 3 is"],
    );
    check_read(
        "80030006 00ffffff",
        expect!["a SPDY control frame of 16777215 bytes is longer than 16384"],
    );
    check_read(
        "00000000 00000001 00",
        expect!["a SPDY frame cannot be read: its stream is 0"],
    );
    check_read(
        "80030003 00000004 00000001",
        expect!["a SPDY frame cannot be read: it is cut off"],
    );
    check_read(
        "80030006 00000005 00000001 00",
        expect!["a SPDY frame cannot be read: it is longer than its kind"],
    );
    check_read(
        "80030004 00000004 ffffffff",
        expect!["a SPDY frame cannot be read: it is cut off"],
    );
    check_read(
        "80030001 0000000c 00000001 00000000 0000 ffff",
        expect!["the headers of a SPDY frame cannot be decompressed"],
    );
}

/// A block as a client's library compresses it, on its own.
fn compressed(block: &[u8]) -> Vec<u8> {
    let mut stream = flate2::Compress::new(flate2::Compression::best(), true);
    stream
        .set_dictionary(&super::super::dictionary::DICTIONARY)
        .unwrap();
    let mut out = Vec::with_capacity(block.len() + 1024);
    stream
        .compress_vec(block, &mut out, flate2::FlushCompress::Sync)
        .unwrap();
    out
}

#[track_caller]
fn check_block(block: &[u8], expected: Expect) {
    let block = compressed(block);
    let mut frame = BytesMut::new();
    control(&mut frame, 2, 0, 4 + block.len());
    frame.put_u32(1);
    frame.put_slice(&block);
    check_read(&hex(&frame), expected);
}

#[test]
fn headers_are_read_and_refused() {
    check_block(
        &bytes("00000000"),
        expect!["SynReply { stream: 1, fin: false, headers: Headers([]) }"],
    );
    check_block(
        &bytes("00000001 00000004 706f7274 00000002 3830"),
        expect![[r#"SynReply { stream: 1, fin: false, headers: Headers([("port", "80")]) }"#]],
    );
    check_block(
        &bytes("00000001"),
        expect!["a SPDY frame cannot be read: headers are cut off"],
    );
    check_block(
        &bytes("000000ff"),
        expect!["a SPDY frame cannot be read: too many headers"],
    );
    check_block(
        &bytes("00000001 ffffffff 61"),
        expect!["a SPDY frame cannot be read: headers are cut off"],
    );
    check_block(
        &bytes("00000001 00000001 41 00000000"),
        expect!["a SPDY frame cannot be read: a header's name is not in lower case"],
    );
    check_block(
        &bytes("00000002 00000001 61 00000000 00000001 61 00000000"),
        expect!["a SPDY frame cannot be read: a header comes twice"],
    );
    check_block(
        &bytes("00000001 00000001 61 00000001 ff"),
        expect!["a SPDY frame cannot be read: a header is not text"],
    );
    check_block(
        &bytes("00000000 00"),
        expect!["a SPDY frame cannot be read: bytes after the headers"],
    );
}

#[test]
fn headers_that_grow_without_end_are_refused() {
    check_block(
        &vec![0; 1 << 20],
        expect!["a SPDY frame cannot be read: headers are too long"],
    );
}

#[test]
fn a_long_data_frame_comes_in_pieces() {
    let mut decoder = Decoder::new();
    let mut input = BytesMut::from(&bytes("00000001 01ffffff")[..]);
    assert_eq!(decoder.decode(&mut input), Ok(None));
    input.extend_from_slice(&[7; 100]);
    let bytes = Bytes::from_static(&[7; 100]);
    assert_eq!(
        decoder.decode(&mut input),
        Ok(Some(Frame::Data {
            stream: 1,
            fin: false,
            bytes
        }))
    );
}

fn headers() -> impl Strategy<Value = Headers> {
    prop::collection::btree_map("[a-z]{1,12}", "[ -~]{0,40}", 0..6).prop_map(|headers| {
        Headers::new(
            headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str())),
        )
    })
}

fn frame() -> impl Strategy<Value = Frame> {
    let stream = 1..=ID;
    let syn_stream = (
        stream.clone(),
        0..=ID,
        0_u8..8,
        any::<[bool; 2]>(),
        headers(),
    )
        .prop_map(
            |(stream, associated, priority, [fin, unidirectional], headers)| Frame::SynStream {
                stream,
                associated,
                priority,
                fin,
                unidirectional,
                headers,
            },
        );
    prop_oneof![
        syn_stream,
        (stream.clone(), any::<bool>(), headers()).prop_map(|(stream, fin, headers)| {
            Frame::SynReply {
                stream,
                fin,
                headers,
            }
        }),
        (stream.clone(), any::<u32>())
            .prop_map(|(stream, status)| Frame::RstStream { stream, status }),
        prop::collection::vec((0_u32..1 << 24, any::<u32>()), 0..4).prop_map(Frame::Settings),
        any::<u32>().prop_map(Frame::Ping),
        (0..=ID, any::<u32>()).prop_map(|(last, status)| Frame::GoAway { last, status }),
        (stream.clone(), any::<bool>(), headers()).prop_map(|(stream, fin, headers)| {
            Frame::Headers {
                stream,
                fin,
                headers,
            }
        }),
        (0..=ID, 0..=ID).prop_map(|(stream, delta)| Frame::WindowUpdate { stream, delta }),
        // Ends its stream, so that two in a row stay two.
        (stream, prop::collection::vec(any::<u8>(), 0..200)).prop_map(|(stream, bytes)| {
            Frame::Data {
                stream,
                fin: true,
                bytes: bytes.into(),
            }
        }),
    ]
}

/// `bytes`, cut into chunks of these lengths, and the rest.
fn cut<'a>(mut bytes: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let mut chunks = Vec::new();
    for length in lengths {
        let (chunk, rest) = bytes.split_at((*length).min(bytes.len()));
        chunks.push(chunk);
        bytes = rest;
    }
    chunks.push(bytes);
    chunks
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn frames_read_as_they_were_written_however_they_are_cut(
        frames in prop::collection::vec(frame(), 0..8),
        lengths in prop::collection::vec(0_usize..40, 0..60),
    ) {
        let bytes = encoded(&frames);
        prop_assert_eq!(decoded(cut(&bytes, &lengths)), (frames, None));
    }

    #[test]
    fn any_bytes_are_read_or_refused_alike_however_they_are_cut(
        frames in prop::collection::vec(frame(), 0..4),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        noise in prop::collection::vec(any::<u8>(), 0..64),
        lengths in prop::collection::vec(0_usize..40, 0..60),
    ) {
        let mut bytes = [encoded(&frames), noise].concat();
        for (at, byte) in flips {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] ^= byte;
            }
        }
        prop_assert_eq!(decoded(cut(&bytes, &lengths)), decoded([&bytes[..]]));
    }
}
