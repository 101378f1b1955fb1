//! A registry in a process of its own, so that it can be killed; and a client over HTTP.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use registry::{Config, Digest, Storage};

use crate::fake_cluster::{Client, OCI, image};

/// Where the process keeps its content: set, it serves; else it is a test.
const STORAGE: &str = "WK_TEST_REGISTRY_STORAGE";
const ANSWER: Duration = Duration::from_secs(60);

/// To be called by a test named `serves`: serves if this is such a process.
pub(crate) async fn serve() {
    let Ok(storage) = std::env::var(STORAGE) else {
        return;
    };
    install_cryptography();
    let client = Client::new(Storage::open(&storage).unwrap(), Config::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    eprintln!("serving {}", listener.local_addr().unwrap());
    let router = client.registry.router(registry::Scheme::Http);
    axum::serve(listener, router).await.unwrap();
}

/// reqwest brings none, and asks for it also where it is not used.
fn install_cryptography() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Such a process; it is killed when the value goes.
pub(crate) struct Served {
    child: Child,
    pub(crate) url: String,
    http: reqwest::Client,
}

impl Served {
    /// Starts one, with more variables of its environment.
    pub(crate) fn start(storage: &str, environment: &[(&str, &str)]) -> Served {
        install_cryptography();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["serves", "--exact", "--nocapture"])
            .env(STORAGE, storage)
            .envs(environment.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = lines
            .find_map(|line| line.unwrap().strip_prefix("serving ").map(str::to_owned))
            .expect("it serves");
        // Whatever it says later must not stop it.
        std::thread::spawn(move || lines.for_each(drop));
        Served {
            child,
            url: format!("http://{address}"),
            http: reqwest::Client::builder().timeout(ANSWER).build().unwrap(),
        }
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = method.parse().unwrap();
        let request = self.http.request(method, format!("{}{path}", self.url));
        request.header("Authorization", "Bearer ann-token")
    }

    /// A blob's or manifest's bytes; `None` if it is not there.
    pub(crate) async fn pull(&self, path: &str) -> Option<Vec<u8>> {
        let answer = self.request("GET", path).send().await.unwrap();
        match answer.status().as_u16() {
            200 => Some(answer.bytes().await.unwrap().to_vec()),
            404 => None,
            other => panic!("{path}: {other} {}", answer.text().await.unwrap()),
        }
    }

    /// Pushes a blob in chunks; an error if the connection breaks.
    pub(crate) async fn push_blob(&self, bytes: &[u8], chunk: usize) -> reqwest::Result<String> {
        let begun = self
            .request("POST", "/v2/a/x/blobs/uploads/")
            .send()
            .await?;
        let location = begun.headers()["location"].to_str().unwrap().to_owned();
        for chunk in bytes.chunks(chunk) {
            let patch = self.request("PATCH", &location).body(chunk.to_vec());
            patch.send().await?.error_for_status()?;
        }
        let digest = Digest::of(bytes).to_string();
        let put = self.request("PUT", &format!("{location}?digest={digest}"));
        put.send().await?.error_for_status()?;
        Ok(digest)
    }

    /// Pushes an image of one layer under a tag; its manifest's digest.
    pub(crate) async fn push_image(
        &self,
        tag: &str,
        layer: &[u8],
        chunk: usize,
    ) -> reqwest::Result<String> {
        let config = self.push_blob(b"{}", 2).await?;
        let digest = self.push_blob(layer, chunk).await?;
        let manifest = image(&config, 2, &digest, layer.len());
        let put = self.request("PUT", &format!("/v2/a/x/manifests/{tag}"));
        let put = put.header("Content-Type", OCI).body(manifest.clone());
        put.send().await?.error_for_status()?;
        Ok(Digest::of(manifest.as_bytes()).to_string())
    }

    /// Checks that what a reference names is all there, as it should be; its digest. `None` if there is no such.
    pub(crate) async fn check_image(&self, reference: &str) -> Option<String> {
        let bytes = self.pull(&format!("/v2/a/x/manifests/{reference}")).await?;
        let manifest: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let blobs = [&manifest["config"], &manifest["layers"][0]];
        for blob in blobs.map(|blob| blob["digest"].as_str().unwrap()) {
            let path = format!("/v2/a/x/blobs/{blob}");
            let bytes = self
                .pull(&path)
                .await
                .expect("what a manifest names is there");
            assert_eq!(Digest::of(&bytes).to_string(), blob);
        }
        Some(Digest::of(&bytes).to_string())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
