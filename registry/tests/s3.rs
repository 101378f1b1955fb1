//! The same registry over S3: moto's server, which `cargo xtask test` installs from PyPI.
#![expect(clippy::unwrap_used, reason = "a test fails where its scenery does")]

mod fake_cluster;
mod served;

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use served::Served;

/// Serves a bucket named `images` until its input ends.
const SERVER: &str = r#"
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
import boto3
endpoint = f"http://{host}:{port}"
account = dict(aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")
boto3.client("s3", endpoint_url=endpoint, **account).create_bucket(Bucket="images")
print(endpoint, flush=True)
sys.stdin.read()
"#;

struct S3 {
    child: Child,
    endpoint: String,
}

impl S3 {
    fn start() -> S3 {
        let python = std::env::var_os("WK_MOTO").unwrap_or_else(|| {
            // As `cargo xtask test` has it beside what it builds.
            let test = std::env::current_exe().unwrap();
            let found = test
                .ancestors()
                .map(|dir| dir.join("tools/moto/bin/python"));
            let found = found.into_iter().find(|path| path.exists());
            found
                .expect("moto is installed by `cargo xtask test`")
                .into()
        });
        let mut child = Command::new(python)
            .args(["-c", SERVER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut endpoint = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut endpoint).unwrap();
        let endpoint = endpoint.trim().to_owned();
        assert!(endpoint.starts_with("http://"), "moto starts");
        S3 { child, endpoint }
    }

    fn serve(&self) -> Served {
        let environment = [
            ("AWS_ENDPOINT_URL", self.endpoint.as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
        ];
        Served::start("s3://images/wk/registry", &environment)
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn serves() {
    served::serve().await;
}

#[tokio::test]
async fn images_are_kept_in_a_bucket_that_several_processes_share() {
    let s3 = S3::start();
    let (one, other) = (s3.serve(), s3.serve());
    let pushed = one.push_image("v1", b"a small layer", 5).await.unwrap();
    assert_eq!(other.check_image("v1").await, Some(pushed));

    // Longer than what is written at once, so in parts.
    let long: Vec<u8> = (0..20_000_003_u32).map(|at| (at >> 7) as u8).collect();
    let digest = one.push_blob(&long, long.len()).await.unwrap();
    let path = format!("/v2/a/x/blobs/{digest}");
    assert_eq!(other.pull(&path).await.as_ref(), Some(&long));
    let part = other
        .request("GET", &path)
        .header("Range", "bytes=19999999-");
    let part = part.send().await.unwrap();
    assert_eq!(
        (part.status().as_u16(), part.bytes().await.unwrap().as_ref()),
        (206, &long[19_999_999..])
    );

    // An upload goes on at another process.
    let begun = one
        .request("POST", "/v2/a/x/blobs/uploads/")
        .send()
        .await
        .unwrap();
    let location = begun.headers()["location"].to_str().unwrap().to_owned();
    let patch = one
        .request("PATCH", &location)
        .body("hello ")
        .send()
        .await
        .unwrap();
    assert_eq!(patch.status(), 202);
    one.kill();
    let digest = registry::Digest::of(b"hello world");
    let put = other.request("PUT", &format!("{location}?digest={digest}"));
    let put = put.body("world").send().await.unwrap();
    assert_eq!(put.status(), 201, "{}", put.text().await.unwrap());

    let wrong = registry::Digest::of(b"something else");
    let post = format!("/v2/a/x/blobs/uploads/?digest={wrong}");
    let post = other
        .request("POST", &post)
        .body("hello")
        .send()
        .await
        .unwrap();
    assert_eq!(post.status(), 400);
    assert_eq!(other.pull(&format!("/v2/a/x/blobs/{wrong}")).await, None);

    let delete = other
        .request("DELETE", "/v2/a/x/manifests/v1")
        .send()
        .await
        .unwrap();
    assert_eq!(delete.status(), 202);
    assert_eq!(other.check_image("v1").await, None);
}
