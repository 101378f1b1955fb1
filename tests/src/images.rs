//! Container images made on this machine of Debian's packages, for tests and benchmarks and for trying by
//! hand: as an image layout in a directory, which a registry takes ([`crate::Registry::push`]) or an archive
//! is made of.
//!
//! An image is a layer of busybox, one of the packages' files and one of its own; the same packages make the
//! same bytes. Each is made once and kept in the target directory under a name that follows the packages'
//! versions. Nothing is installed, and nobody's scripts run.

mod generated;
mod layer;
mod packages;
mod recipes;

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use layer::Packed;
use packages::Packages;
use recipes::Recipe;

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Changes with the way in which images are made, so that those made otherwise are not taken.
const REVISION: u32 = 1;

/// An image in a directory, laid out as the OCI says.
#[derive(Clone, Debug)]
pub struct Image {
    directory: PathBuf,
}

/// A part of an image: a blob, and what it is.
#[derive(Clone, Debug)]
pub struct Part {
    pub media_type: String,
    /// `sha256:…`
    pub digest: String,
    pub path: PathBuf,
}

impl Image {
    /// A shell and small programs; runs `sh` if nothing is said.
    pub fn busybox() -> Image {
        Image::made(&recipes::BUSYBOX)
    }

    /// Busybox as a user whom it does not know.
    pub fn ghost() -> Image {
        Image::made(&recipes::GHOST)
    }

    /// Serves `/usr/share/nginx/html`, or what `/etc/nginx/conf.d/*.conf` says, at port 80.
    pub fn nginx() -> Image {
        Image::made(&recipes::NGINX)
    }

    /// Serves at port 6379, with its data in `/data`.
    pub fn redis() -> Image {
        Image::made(&recipes::REDIS)
    }

    /// Serves at port 5432; `POSTGRES_PASSWORD`, `POSTGRES_DB` and `PGDATA` are as in the image that everybody
    /// uses.
    pub fn postgres() -> Image {
        Image::made(&recipes::POSTGRES)
    }

    /// Serves at port 9090, by the configuration that its arguments name. Debian's finds no targets in Kubernetes.
    pub fn prometheus() -> Image {
        Image::made(&recipes::PROMETHEUS)
    }

    /// VictoriaMetrics under Prometheus' flags, which does find targets in Kubernetes.
    pub fn victoria() -> Image {
        Image::made(&recipes::VICTORIA)
    }

    /// Python 3 and its library.
    pub fn python() -> Image {
        Image::made(&recipes::PYTHON)
    }

    /// One of the images above.
    pub fn named(name: &str) -> Option<Image> {
        recipes::ALL
            .iter()
            .find(|recipe| recipe.name == name)
            .map(|recipe| Image::made(recipe))
    }

    /// Many files in four layers that nothing runs but `/bin/busybox`: about `packed_bytes` as they are sent, twice
    /// that unpacked. Another `seed` makes other bytes.
    ///
    /// # Panics
    /// When the target directory cannot be written.
    pub fn generated(seed: u64, packed_bytes: usize) -> Image {
        let name = format!("generated-{seed}-{packed_bytes}-{REVISION}");
        Image::kept(&name, |directory| {
            let mut layers = vec![recipes::busybox().pack()];
            layers.extend(
                (0..generated::LAYERS)
                    .map(|number| generated::layer(seed, number, packed_bytes).pack()),
            );
            write(
                directory,
                &json!({"Cmd": ["/bin/sleep", "1000000"]}),
                &layers,
            );
        })
    }

    fn made(recipe: &Recipe) -> Image {
        let packages = Packages::find(recipe.packages, recipe.without);
        let mut key = Sha256::new();
        key.update(format!("{REVISION} {recipe:?} {packages:?}"));
        key.update(recipes::busybox_program());
        let key = hex(&key.finalize());
        let name = format!("{}-{}", recipe.name, &key[..12]);
        Image::kept(&name, |directory| {
            let mut layers = vec![recipes::busybox().pack()];
            if !recipe.packages.is_empty() {
                layers.push(packages.layer().pack());
            }
            let own = recipe.layer();
            if !own.is_empty() {
                layers.push(own.pack());
            }
            write(directory, &recipe.config(), &layers);
        })
    }

    /// The image of this name, made if it is not there. Others may make it at the same time.
    fn kept(name: &str, make: impl FnOnce(&Path)) -> Image {
        let cache = cache();
        let directory = cache.join(name);
        if !directory.exists() {
            let part = tempfile::tempdir_in(&cache).expect("the target directory can be written");
            make(part.path());
            let made = fs::rename(part.path(), &directory);
            assert!(made.is_ok() || directory.exists(), "{made:?}");
        }
        Image { directory }
    }

    /// Where its layout is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its manifest, and every blob that it names.
    ///
    /// # Panics
    /// When its files are gone.
    pub fn parts(&self) -> (Part, Vec<Part>) {
        let index = read(&self.directory.join("index.json"));
        let manifest = self.part(&index["manifests"][0]);
        let described = read(&manifest.path);
        let layers = described["layers"].as_array().expect("it has layers");
        let blobs = std::iter::once(&described["config"]).chain(layers);
        let blobs = blobs.map(|descriptor| self.part(descriptor)).collect();
        (manifest, blobs)
    }

    fn part(&self, descriptor: &Value) -> Part {
        let text = |field: &str| descriptor[field].as_str().unwrap_or_default().to_owned();
        let digest = text("digest");
        Part {
            media_type: text("mediaType"),
            path: self.directory.join("blobs").join(digest.replace(':', "/")),
            digest,
        }
    }

    /// Writes an archive of it as `docker save` does, that calls it `reference`.
    ///
    /// # Panics
    /// When skopeo is not installed, or the archive cannot be written.
    pub fn docker_archive(&self, reference: &str, path: &Path) {
        let from = format!("oci:{}:latest", self.directory.display());
        let to = format!("docker-archive:{}:{reference}", path.display());
        let mut skopeo = std::process::Command::new("skopeo");
        let copied = skopeo.args(["copy", "--quiet", &from, &to]).output();
        let copied = copied.expect("skopeo runs");
        assert!(copied.status.success(), "{copied:?}");
    }

    /// Writes an archive of it, as `skopeo copy … oci-archive:` does, that calls it `reference`.
    ///
    /// # Panics
    /// When the archive cannot be written.
    pub fn archive(&self, reference: &str, path: &Path) {
        let file = fs::File::create(path).expect("the archive can be written");
        let mut archive = tar::Builder::new(std::io::BufWriter::new(file));
        let mut index = read(&self.directory.join("index.json"));
        index["manifests"][0]["annotations"] = json!({
            "io.containerd.image.name": reference,
            "org.opencontainers.image.ref.name": reference,
        });
        let index = index.to_string();
        let mut header = tar::Header::new_gnu();
        header.set_size(index.len() as u64);
        header.set_mode(0o644);
        archive
            .append_data(&mut header, "index.json", index.as_bytes())
            .and_then(|()| {
                let layout = self.directory.join("oci-layout");
                archive.append_path_with_name(layout, "oci-layout")
            })
            .and_then(|()| archive.append_dir_all("blobs", self.directory.join("blobs")))
            .and_then(|()| archive.into_inner()?.into_inner().map_err(Into::into))
            .expect("the archive can be written");
    }
}

/// Writes an image's layout.
fn write(directory: &Path, config: &Value, layers: &[Packed]) {
    let blobs = directory.join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("the target directory can be written");
    let put = |media_type: &str, bytes: &[u8]| {
        let digest = hex(&Sha256::digest(bytes));
        fs::write(blobs.join(&digest), bytes).expect("the target directory can be written");
        json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len()})
    };
    let packed: Vec<Value> = layers
        .iter()
        .map(|layer| put(LAYER, &layer.bytes))
        .collect();
    let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = put(CONFIG, config.to_string().as_bytes());
    let manifest =
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": packed});
    let mut manifest = put(MANIFEST, manifest.to_string().as_bytes());
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest]});
    for (name, value) in [
        ("index.json", index),
        ("oci-layout", json!({"imageLayoutVersion": "1.0.0"})),
    ] {
        fs::write(directory.join(name), value.to_string())
            .expect("the target directory can be written");
    }
}

fn read(path: &Path) -> Value {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).expect("it is JSON")
}

/// What the OCI, as Go does, calls this machine's processor.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The directory in the target directory where images are kept.
fn cache() -> PathBuf {
    let program = std::env::current_exe().expect("a running program has a path");
    let profile = program
        .ancestors()
        .find(|directory| directory.join("deps").is_dir());
    let target = profile
        .and_then(Path::parent)
        .expect("a test runs in the target directory");
    let cache = target.join("images");
    fs::create_dir_all(&cache).expect("the target directory can be written");
    cache
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
