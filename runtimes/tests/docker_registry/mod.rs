//! Debian's docker-registry on a free port, its data in a directory of its own.

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    str::FromStr as _,
    time::{Duration, Instant},
};

use oci_client::{
    Client, Reference,
    client::{ClientConfig, ClientProtocol, Config, ImageLayer},
    secrets::RegistryAuth,
};
use runtimes::images::{Config as StoreConfig, ImageStore};

const SOON: Duration = Duration::from_secs(30);

/// A registry of its own for each test, ended with it.
pub(crate) struct Registry {
    child: Child,
    pub(crate) host: String,
    pub(crate) dir: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Registry {
    /// Starts one on a free port; with `account` it lets only that one in.
    pub(crate) fn start(account: Option<&str>) -> Registry {
        // The client that pushes needs it; the store brings its own.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let deadline = Instant::now() + SOON;
        loop {
            // The port may be taken between our giving it back and the registry's bind: then again.
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            let host = free.local_addr().unwrap().to_string();
            drop(free);
            if let Some(registry) = Registry::try_start(host, account) {
                return registry;
            }
            assert!(Instant::now() < deadline, "docker-registry does not start");
        }
    }

    fn try_start(host: String, account: Option<&str>) -> Option<Registry> {
        let dir = tempfile::tempdir().unwrap();
        let auth = account.map(|user| write_account(dir.path(), user));
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\nhttp: {{addr: \"{host}\"}}\n{}",
            dir.path().join("data").display(),
            auth.unwrap_or_default(),
        );
        let path = dir.path().join("config.yml");
        std::fs::write(&path, config).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry is installed");
        let mut registry = Registry { child, host, dir };
        while std::net::TcpStream::connect(&registry.host).is_err() {
            if registry.child.try_wait().unwrap().is_some() {
                return None;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(registry)
    }

    pub(crate) fn store(&self, config: StoreConfig) -> ImageStore {
        ImageStore::open(self.dir.path().join("store"), config).unwrap()
    }

    pub(crate) fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.host)
    }

    pub(crate) async fn push(&self, name: &str, config_type: &str, layer_type: &str, layer: &[u8]) {
        self.push_as(
            RegistryAuth::Anonymous,
            name,
            config_type,
            layer_type,
            layer,
        )
        .await;
    }

    pub(crate) async fn push_as(
        &self,
        auth: RegistryAuth,
        name: &str,
        config_type: &str,
        layer_type: &str,
        layer: &[u8],
    ) {
        let client = Client::new(ClientConfig {
            protocol: ClientProtocol::Http,
            ..ClientConfig::default()
        });
        let reference = Reference::from_str(&self.reference(name)).unwrap();
        let layers = [ImageLayer::new(layer.to_vec(), layer_type.to_owned(), None)];
        let config = Config::new(b"{}".to_vec(), config_type.to_owned(), None);
        let pushed = client.push(&reference, &layers, config, &auth, None).await;
        pushed.unwrap();
    }
}

/// bcrypt of `secret`: the only kind of hash that the registry takes.
const BCRYPT_OF_SECRET: &str = "$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW";

/// Writes a file with one account, whose password is `secret`, and answers the configuration for it.
fn write_account(dir: &Path, user: &str) -> String {
    let path = dir.join("htpasswd");
    std::fs::write(&path, format!("{user}:{BCRYPT_OF_SECRET}\n")).unwrap();
    format!(
        "auth:\n  htpasswd: {{realm: test, path: {}}}\n",
        path.display()
    )
}
