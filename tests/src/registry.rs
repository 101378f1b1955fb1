//! Debian's docker-registry in a sandbox, with images and components pushed by curl.

use std::{
    path::Path,
    process::{Child, Stdio},
    sync::Arc,
    time::Duration,
};

use serde_json::json;

use crate::{Image, Sandbox, eventually, images::MANIFEST};

/// In the sandbox's own network, so that nobody else has it but `wk`, whose own registry is at the usual port.
const HOST: &str = "127.0.0.1:5001";
const START: Duration = Duration::from_secs(30);

/// A registry; it ends with the value.
pub struct Registry {
    child: Child,
    dir: tempfile::TempDir,
    sandbox: Arc<Sandbox>,
}

impl Registry {
    /// Starts one and waits until it answers.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(sandbox: &Arc<Sandbox>) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\nhttp: {{addr: \"{HOST}\"}}\n",
            dir.path().join("data").display(),
        );
        let path = dir.path().join("config.yml");
        std::fs::write(&path, config).expect("a file can be written");
        let mut command = sandbox.command("docker-registry");
        let child = command
            .arg("serve")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let registry = Self {
            child: child.spawn().expect("nsenter (util-linux) runs"),
            dir,
            sandbox: sandbox.clone(),
        };
        eventually(START, || {
            let output = registry
                .sandbox
                .run("curl", &["-sf", &format!("http://{HOST}/v2/")]);
            if output.code == 0 {
                Ok(())
            } else {
                Err(format!("{output:?}"))
            }
        });
        registry
    }

    /// Pushes a container image; answers what it is called.
    pub fn push(&self, name: &str, image: &Image) -> String {
        let (manifest, blobs) = image.parts();
        for blob in blobs {
            self.blob(name, &blob.path, &blob.digest);
        }
        self.manifest(name, &manifest.path)
    }

    /// Pushes a component's bytes; answers what it is called.
    pub fn push_component(&self, name: &str, module: &[u8]) -> String {
        let (config, layer) = (self.bytes(name, b"{}"), self.bytes(name, module));
        let part = |media: &str, (digest, size): &(String, usize)| json!({"mediaType": media, "digest": digest, "size": size});
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": part("application/vnd.wasm.config.v0+json", &config),
            "layers": [part("application/wasm", &layer)],
        });
        let path = self.file("manifest", manifest.to_string().as_bytes());
        self.manifest(name, path.as_ref())
    }

    fn manifest(&self, name: &str, path: &Path) -> String {
        let url = format!("http://{HOST}/v2/{name}/manifests/1");
        self.put(&url, &format!("content-type: {MANIFEST}"), path);
        format!("{HOST}/{name}:1")
    }

    /// Pushes bytes; answers their digest and number.
    fn bytes(&self, name: &str, bytes: &[u8]) -> (String, usize) {
        let path = self.file("blob", bytes);
        let digest = self.sandbox.run("sha256sum", &[&path]).ok();
        let digest = format!("sha256:{}", digest.split(' ').next().unwrap_or_default());
        self.blob(name, path.as_ref(), &digest);
        (digest, bytes.len())
    }

    fn blob(&self, name: &str, path: &Path, digest: &str) {
        let uploads = format!("http://{HOST}/v2/{name}/blobs/uploads/");
        let headers = self
            .sandbox
            .run("curl", &["-sfi", "-X", "POST", &uploads])
            .ok();
        let location = headers
            .lines()
            .find_map(|line| line.strip_prefix("Location: "))
            .expect("it says where to");
        let url = format!("{}&digest={digest}", location.trim());
        self.put(&url, "content-type: application/octet-stream", path);
    }

    fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, bytes).expect("a file can be written");
        path.display().to_string()
    }

    fn put(&self, url: &str, header: &str, path: &Path) {
        let path = path.display().to_string();
        let arguments = ["-sf", "-X", "PUT", "-H", header, "-T", &path, url];
        self.sandbox.run("curl", &arguments).ok();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
