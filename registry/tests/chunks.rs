//! However a blob is cut into chunks, and whatever goes wrong between them, it arrives as it was.
#![expect(clippy::unwrap_used, reason = "a test fails where its scenery does")]

mod fake_cluster;

use fake_cluster::Client;
use proptest::prelude::*;
use registry::Digest;

/// What a client does next.
#[derive(Clone, Debug)]
enum Step {
    /// Sends the next bytes, with or without saying which they are.
    Send { length: usize, says: bool },
    /// Sends a chunk from a wrong offset.
    Skip(u64),
    /// Sends bytes of which the connection loses the end.
    Break { length: usize, kept: usize },
    /// Comes to another process with the same storage.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..40_usize, any::<bool>()).prop_map(|(length, says)| Step::Send { length, says }),
        1 => (1..50_u64).prop_map(Step::Skip),
        2 => (1..40_usize, 0..40_usize).prop_map(|(length, kept)| Step::Break { length, kept: kept.min(length) }),
        1 => Just(Step::Restart),
    ]
}

async fn upload(bytes: &[u8], steps: &[Step]) {
    let dir = tempfile::tempdir().unwrap();
    let mut client = Client::at(dir.path());
    let location = client.begin("a/x").await;
    let patch = format!("PATCH {location}");
    let mut at = 0;
    for step in steps {
        let next = |length: usize| &bytes[at..(at + length).min(bytes.len())];
        match step {
            Step::Send { length, says } => {
                let chunk = next(*length).to_vec();
                let range = format!("{at}-{}", (at + chunk.len()).saturating_sub(1));
                let range = [("Content-Range", range.as_str())];
                let range = if *says && !chunk.is_empty() {
                    &range[..]
                } else {
                    &[]
                };
                at += chunk.len();
                assert_eq!(client.send(&patch, range, chunk).await.status, 202);
            }
            Step::Skip(by) => {
                let first = at as u64 + by;
                let range = format!("{first}-{first}");
                let answer = client.send(&patch, &[("Content-Range", &range)], "x").await;
                assert_eq!(answer.status, 416);
            }
            Step::Break { length, kept } => {
                let chunk = next(*length).to_vec();
                let kept = chunk[..(*kept).min(chunk.len())].to_vec();
                at += kept.len();
                let pieces = [Ok(kept), Err(std::io::Error::other("lost"))];
                let body = axum::body::Body::from_stream(futures::stream::iter(pieces));
                assert_eq!(client.send(&patch, &[], body).await.status, 400);
            }
            Step::Restart => client = Client::at(dir.path()),
        }
        let told = client.send(&format!("GET {location}"), &[], "").await;
        assert_eq!(told.header("range"), format!("0-{}", at.saturating_sub(1)));
    }
    let digest = Digest::of(bytes);
    let put = format!("PUT {location}?digest={digest}");
    let answer = client.send(&put, &[], bytes[at..].to_vec()).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let got = client
        .send(&format!("GET /v2/a/x/blobs/{digest}"), &[], "")
        .await;
    assert_eq!(got.body, bytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_blob_arrives_as_it_was(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        steps in proptest::collection::vec(step(), 0..8),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(upload(&bytes, &steps));
    }
}
