//! A layer is what its image says it is, or nothing.

use std::io::Write as _;

use expect_test::{Expect, expect};
use oci_spec::image::MediaType;
use runtimes::images::Layer;

use super::{Node, archive, image};

/// What becomes of the layer that `make` puts in the content store.
#[track_caller]
fn check(make: impl FnOnce(&Node) -> Layer, expected: Expect) {
    let node = Node::new();
    let layer = make(&node);
    let image = image(vec![layer.clone()]);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let prepared = runtime.block_on(node.layers.prepare(&image));
    let text = match prepared {
        Ok(()) => "unpacked".to_owned(),
        Err(error) => error.to_string(),
    };
    let text = text.replace(node.path("").to_str().unwrap(), "DIR/");
    let text = text
        .replace(&layer.digest, "DIGEST")
        .replace(&layer.diff_id, "DIFF-ID");
    expected.assert_eq(&text.replace(&layer.digest.replace(':', "-"), "BLOB"));
    assert_eq!(node.unpacked().len(), usize::from(text == "unpacked"));
}

fn files() -> Vec<u8> {
    let lines: Vec<String> = (0..200)
        .map(|number| format!("dir{number}/file=contents"))
        .collect();
    archive(&lines.join("\n"))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

fn docker(suffix: &str) -> MediaType {
    MediaType::Other(format!(
        "application/vnd.docker.image.rootfs.diff.tar{suffix}"
    ))
}

#[test]
fn layers_are_unpacked_by_their_media_types() {
    let tar = files();
    for (media_type, blob) in [
        (MediaType::ImageLayer, tar.clone()),
        (MediaType::ImageLayerGzip, gzip(&tar)),
        (MediaType::ImageLayerZstd, zstd(&tar)),
        (MediaType::ImageLayerNonDistributableGzip, gzip(&tar)),
        (docker(""), tar.clone()),
        (docker(".gzip"), gzip(&tar)),
        (docker(".zstd"), zstd(&tar)),
        // Several members and frames one after the other, as eStargz and zstd:chunked have them.
        (
            docker(".gzip"),
            [gzip(&tar[..1024]), gzip(&tar[1024..])].concat(),
        ),
        (
            docker(".zstd"),
            [zstd(&tar[..1024]), zstd(&tar[1024..])].concat(),
        ),
    ] {
        check(
            |node| node.packed(&tar, &blob, media_type),
            expect!["unpacked"],
        );
    }
}

#[test]
fn a_media_type_that_is_no_layers_or_not_this_ones_is_refused() {
    let tar = files();
    check(
        |node| node.packed(&tar, &gzip(&tar), MediaType::ImageLayerZstd),
        expect![
            "image sha256:ab: layer DIGEST: its media type application/vnd.oci.image.layer.v1.tar+zstd says packed by zstd, but its content is packed by gzip"
        ],
    );
    check(
        |node| node.packed(&tar, &tar, MediaType::ImageLayerGzip),
        expect![
            "image sha256:ab: layer DIGEST: its media type application/vnd.oci.image.layer.v1.tar+gzip says packed by gzip, but its content is not packed"
        ],
    );
    check(
        |node| node.packed(&tar, &gzip(&tar), MediaType::ImageLayer),
        expect![
            "image sha256:ab: layer DIGEST: its media type application/vnd.oci.image.layer.v1.tar says not packed, but its content is packed by gzip"
        ],
    );
    let encrypted =
        MediaType::Other("application/vnd.oci.image.layer.v1.tar+gzip+encrypted".into());
    check(
        |node| node.packed(&tar, &gzip(&tar), encrypted),
        expect![
            "image sha256:ab: layer DIGEST: its media type application/vnd.oci.image.layer.v1.tar+gzip+encrypted is none of a layer that this node unpacks (tar, plain or packed by gzip or zstd)"
        ],
    );
}

#[test]
fn an_archive_with_another_digest_is_refused_to_its_very_end() {
    let tar = files();
    let more = [tar.clone(), b"after the end".to_vec()].concat();
    check(
        |node| node.packed(&tar, &gzip(&more), MediaType::ImageLayerGzip),
        expect![
            "image sha256:ab: layer DIGEST: its archive is sha256:843353c0faa9c0c85735caec760fa384f7331f879a42660a219f2972552b7892, but the image's configuration says DIFF-ID"
        ],
    );
    check(
        |node| node.packed(&more, &gzip(&more), MediaType::ImageLayerGzip),
        expect!["unpacked"],
    );
}

#[test]
fn a_blob_that_is_cut_short_or_damaged_is_refused() {
    let tar = files();
    for (media_type, blob) in [
        (MediaType::ImageLayerGzip, gzip(&tar)),
        (MediaType::ImageLayerZstd, zstd(&tar)),
    ] {
        let half = &blob[..blob.len() / 2];
        let expected = match media_type {
            MediaType::ImageLayerGzip => expect![
                "image sha256:ab: layer DIGEST: it cannot be decompressed: incomplete deflate stream"
            ],
            _ => expect![
                "image sha256:ab: layer DIGEST: it cannot be decompressed: incomplete frame"
            ],
        };
        check(|node| node.packed(&tar, half, media_type), expected);
    }
    check(
        |node| node.packed(&tar, &tar[..tar.len() / 2 + 100], MediaType::ImageLayer),
        expect![
            "image sha256:ab: layer DIGEST: its archive is broken: it ends in the middle of an entry"
        ],
    );
    let mut damaged = gzip(&tar);
    let middle = damaged.len() / 2;
    damaged[middle..middle + 8].fill(0xff);
    check(
        |node| node.packed(&tar, &damaged, MediaType::ImageLayerGzip),
        expect!["image sha256:ab: layer DIGEST: it cannot be decompressed: corrupt deflate stream"],
    );
}

#[test]
fn a_blob_that_is_not_there_is_the_nodes_fault() {
    check(
        |node| {
            let layer = node.layer(&files());
            std::fs::remove_file(&layer.path).unwrap();
            layer
        },
        expect![
            "image sha256:ab: layer DIGEST: open DIR/blobs/BLOB: No such file or directory (os error 2)"
        ],
    );
}

#[test]
fn a_diff_id_names_a_directory_only_if_it_is_a_digest() {
    check(
        |node| {
            let mut layer = node.layer(&files());
            layer.diff_id = "sha256:../../etc".to_owned();
            layer
        },
        expect![[r#"image sha256:ab: diff id "DIFF-ID" of layer DIGEST is not a sha256"#]],
    );
}
