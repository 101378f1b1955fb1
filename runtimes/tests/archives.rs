//! Images from and into archives, with skopeo on the other side.

#![expect(clippy::unwrap_used, reason = "a test fails where its scenery does")]

mod umoci;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use expect_test::{Expect, expect};
use runtimes::{
    ArchiveError, Image, ImageKind, Images as _, PullPolicy,
    images::{Config, ContainerImage, ImageStore, digest_of},
};
use serde_json::json;

struct Node {
    dir: tempfile::TempDir,
    store: ImageStore,
}

impl Node {
    fn new() -> Node {
        let dir = tempfile::tempdir().unwrap();
        let store = ImageStore::open(dir.path().join("store"), Config::default()).unwrap();
        Node { dir, store }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn import_file(&self, path: &Path) -> Vec<Image> {
        let archive = Box::new(std::fs::File::open(path).unwrap());
        self.store.import(archive, None).await.unwrap()
    }

    async fn import(&self, archive: Vec<u8>, name: Option<&str>) -> Result<String, ArchiveError> {
        let archive = Box::new(std::io::Cursor::new(archive));
        let images = self.store.import(archive, name).await?;
        let names = images.into_iter().map(|image| image.reference);
        Ok(names.collect::<Vec<_>>().join(" "))
    }

    async fn export(&self, references: &[&str], path: &Path) {
        let references: Vec<String> = references.iter().map(|name| (*name).to_owned()).collect();
        let file = Box::new(std::fs::File::create(path).unwrap());
        self.store.export(&references, file).await.unwrap();
    }

    async fn check(&self, archive: Vec<u8>, name: Option<&str>, want: Expect) {
        let imported = self.import(archive, name).await;
        want.assert_eq(&imported.unwrap_or_else(|error| error.to_string()));
    }
}

/// A tar archive; a name that ends in `@` is a symbolic link to its content.
fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        let link = path.strip_suffix('@');
        // Written as it is: the library refuses paths that lead out of the archive.
        let name = link.unwrap_or(path).as_bytes();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        if link.is_some() {
            header.set_entry_type(tar::EntryType::Symlink);
            header.as_old_mut().linkname[..content.len()].copy_from_slice(content);
            header.set_size(0);
            header.set_cksum();
            archive.append(&header, std::io::empty()).unwrap();
        } else {
            header.set_size(content.len() as u64);
            header.set_cksum();
            archive.append(&header, *content).unwrap();
        }
    }
    archive.into_inner().unwrap()
}

fn config(layers: &[&[u8]]) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|layer| digest_of(layer)).collect();
    let architecture = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    };
    let config = json!({
        "architecture": architecture, "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    config.to_string().into_bytes()
}

fn manifest(tags: &[&str], layers: &[&str]) -> Vec<u8> {
    let manifest = json!([{"Config": "config.json", "RepoTags": tags, "Layers": layers}]);
    manifest.to_string().into_bytes()
}

#[tokio::test]
async fn archives_of_both_kinds_are_read_and_what_is_written_others_read() {
    let node = Node::new();
    let image = umoci::image(node.dir.path());
    let docker = node.path("docker.tar");
    let target = format!("docker-archive:{}:busybox:v1", docker.display());
    umoci::copy(&[], &image, &target);
    let oci = node.path("oci.tar");
    let target = format!("oci-archive:{}:ghcr.io/team/app:v1", oci.display());
    umoci::copy(&[], &image, &target);

    let images = node.import_file(&docker).await;
    assert_eq!(images.len(), 1);
    assert_eq!(images[0].reference, "docker.io/library/busybox:v1");
    assert_eq!(images[0].kind, ImageKind::Oci);
    assert_eq!(ContainerImage::read(&images[0]).unwrap().layers.len(), 2);
    // A pod that names it in short finds it.
    let found = node.store.ensure("busybox:v1", PullPolicy::Never, &[]);
    assert_eq!(found.await.unwrap().digest, images[0].digest);

    let images = node.import_file(&oci).await;
    assert_eq!(images[0].reference, "ghcr.io/team/app:v1");
    let layers = ContainerImage::read(&images[0]).unwrap().layers;
    for layer in &layers {
        let bytes = std::fs::read(&layer.path).unwrap();
        assert_eq!(digest_of(&bytes), layer.digest);
    }

    let zipped = node.path("docker.tar.gz");
    let mut zip = flate2::write::GzEncoder::new(
        std::fs::File::create(&zipped).unwrap(),
        flate2::Compression::fast(),
    );
    zip.write_all(&std::fs::read(&docker).unwrap()).unwrap();
    zip.finish().unwrap();
    assert_eq!(node.import_file(&zipped).await.len(), 1);

    let exported = node.path("exported.tar");
    let copied = format!("dir:{}", node.path("copied").display());
    let file = exported.display();
    node.export(&["ghcr.io/team/app:v1"], &exported).await;
    umoci::copy(&[], &format!("oci-archive:{file}:v1"), &copied);
    node.export(&["ghcr.io/team/app:v1", "busybox:v1"], &exported)
        .await;
    umoci::copy(&[], &format!("docker-archive:{file}:busybox:v1"), &copied);
    // And ourselves.
    let other = Node::new();
    let mut names: Vec<String> = other
        .import_file(&exported)
        .await
        .into_iter()
        .map(|image| image.reference)
        .collect();
    names.sort();
    assert_eq!(
        names.join(" "),
        "docker.io/library/busybox:v1 ghcr.io/team/app:v1"
    );
    let absent = ["absent".to_owned()];
    let absent = node.store.export(&absent, Box::new(std::io::sink()));
    assert_eq!(
        absent.await.unwrap_err().to_string(),
        r#"image "absent" is not present"#
    );
}

#[tokio::test]
async fn a_module_goes_through_an_archive_too() {
    let node = Node::new();
    let module = b"\0asm\x0d\0\x01\0";
    let layer = tar(&[("main.wasm", module)]);
    let config = json!({"config": {"Entrypoint": ["/main.wasm"]}}).to_string();
    let archive = tar(&[
        ("config.json", config.as_bytes()),
        ("l.tar", &layer),
        ("manifest.json", &manifest(&["a/hello:v1"], &["l.tar"])),
    ]);
    node.check(archive, None, expect!["docker.io/a/hello:v1"])
        .await;
    let image = node.store.find("a/hello:v1").await.unwrap();
    assert_eq!(image.kind, ImageKind::Wasm);
    assert_eq!(image.digest, digest_of(module));
    let exported = node.path("exported.tar");
    node.export(&["a/hello:v1"], &exported).await;
    let again = Node::new().import_file(&exported).await;
    assert_eq!(again[0].digest, image.digest);
}

#[tokio::test]
async fn a_hostile_archive_is_refused_in_words_and_writes_no_path() {
    let node = Node::new();
    let layer = tar(&[("motd", b"hello")]);
    let own = config(&[&layer]);
    let whole = |tags: &[&str], layers: &[&str], rest: &[(&str, &[u8])]| {
        let manifest = manifest(tags, layers);
        let mut files = vec![
            ("config.json", own.as_slice()),
            ("manifest.json", &manifest),
        ];
        files.extend(rest);
        tar(&files)
    };
    node.check(
        whole(
            &["a:v1"],
            &["l/x"],
            &[("l@", b"x/y"), ("l/x@", b"../z/../real"), ("real", &layer)],
        ),
        None,
        expect!["docker.io/library/a:v1"],
    )
    .await;
    node.check(
        whole(&["a:v1"], &["l"], &[("l@", b"m"), ("m@", b"l")]),
        None,
        expect![[r#"the archive lacks "l", which its manifest.json names"#]],
    )
    .await;
    node.check(
        whole(&["a:v1"], &["../../../etc/passwd"], &[]),
        None,
        expect![[r#"the archive lacks "../../../etc/passwd", which its manifest.json names"#]],
    )
    .await;
    node.check(
        whole(
            &["a:v1"],
            &["l"],
            &[("l@", b"/etc/passwd"), ("../l", &layer)],
        ),
        None,
        expect![[r#"the archive lacks "l", which its manifest.json names"#]],
    )
    .await;
    let other = tar(&[("motd", b"other")]);
    let imported = node.import(whole(&["a:v1"], &["l"], &[("l", &other)]), None);
    let refusal = imported.await.unwrap_err().to_string();
    assert!(
        refusal.starts_with("image a:v1: layer sha256:")
            && refusal.ends_with(", which its configuration names"),
        "{refusal}"
    );
    node.check(
        whole(&["No Name"], &["l"], &[("l", &layer)]),
        None,
        expect![[r#"invalid image reference "No Name": invalid reference format"#]],
    )
    .await;
    let unnamed = || whole(&[], &["l"], &[("l", &layer)]);
    let refusal = node.import(unnamed(), None).await.unwrap_err().to_string();
    assert!(
        refusal.ends_with("has no name in the archive: give it one (--name)"),
        "{refusal}"
    );
    node.check(
        unnamed(),
        Some("mine"),
        expect!["docker.io/library/mine:latest"],
    )
    .await;
    node.check(
        tar(&[("motd", b"hello")]),
        None,
        expect![
            "neither an archive of docker save nor an OCI layout: it has no manifest.json and no index.json with oci-layout"
        ],
    )
    .await;
    let refusal = node.import(b"no archive at all".to_vec(), None).await;
    let refusal = refusal.unwrap_err().to_string();
    assert!(
        refusal.starts_with("the archive cannot be read: "),
        "{refusal}"
    );
    let mut cut = unnamed();
    cut.truncate(cut.len() - 1024 - 700);
    let refusal = node.import(cut, None).await.unwrap_err().to_string();
    assert!(
        refusal.starts_with("the archive cannot be read: "),
        "{refusal}"
    );
    // What was refused has left nothing.
    assert_eq!(
        std::fs::read_dir(node.path("store/partial"))
            .unwrap()
            .count(),
        0
    );
}

#[tokio::test]
async fn an_archive_over_the_limit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        max_image_bytes: 1000,
        ..Config::default()
    };
    let store = ImageStore::open(dir.path(), config).unwrap();
    let archive = tar(&[("a", &[0; 600]), ("b", &[0; 600])]);
    let imported = store.import(Box::new(std::io::Cursor::new(archive)), None);
    assert_eq!(
        imported.await.unwrap_err().to_string(),
        "the archive is larger than the 1000 bytes that this node takes"
    );
}
