//! The Secrets that hold a release: one as Helm reads it, or several where one would be too large.
//!
//! A record is base64 of gzip of JSON. Up to [`LIMIT`] bytes of that go into the Secret that Helm expects. A larger record
//! is cut: that Secret has the beginning, says how many parts follow and the digest of the whole, and Helm, which reads
//! only the beginning, skips it. Parts are named by the digest, so that a record and its parts never mix with others.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::record::{Release, Status};

/// The type of a Secret that holds a release.
pub const TYPE: &str = "helm.sh/release.v1";
/// The type of a Secret that holds a further part of one.
pub const PART_TYPE: &str = "charts.wk.dev/release-part";
/// How many parts follow the first.
const PARTS: &str = "charts.wk.dev/parts";
/// Who carries out the operation that a record says is pending.
const HOLDER: &str = "charts.wk.dev/holder";
/// The SHA-256 of the whole.
const DIGEST: &str = "charts.wk.dev/digest";
/// Most bytes of data in one Secret: Kubernetes' limit is 1 MiB, and etcd's for the whole object little more.
pub const LIMIT: usize = 1_000_000;
/// Most bytes of a record as JSON: in memory it takes several times that.
const UNPACKED: usize = 32 << 20;
/// Most parts that may follow a first one.
const MAX_PARTS: usize = 256;
/// Labels that are Helm's own, not the user's.
const SYSTEM: [&str; 6] = [
    "name",
    "owner",
    "status",
    "version",
    "createdAt",
    "modifiedAt",
];

/// Why a Secret holds no release.
#[derive(thiserror::Error, Debug)]
pub enum DecodeError {
    #[error("it has no data under \"release\"")]
    Absent,
    #[error("{0} of {1} parts are there")]
    Incomplete(usize, usize),
    #[error("its parts do not make the record that they were cut from")]
    Mixed,
    #[error("it is not base64")]
    Base64(#[from] base64::DecodeError),
    #[error("it is not UTF-8")]
    Text(#[from] std::str::Utf8Error),
    #[error("it cannot be unpacked")]
    Gzip(#[from] std::io::Error),
    #[error("it is larger than a record may be: 32 MiB of JSON in 256 Secrets")]
    Large,
    #[error("it is no release")]
    Json(#[from] serde_json::Error),
}

/// The name of a revision's Secret.
pub fn name(release: &str, version: u32) -> String {
    format!("sh.helm.release.v1.{release}.v{version}")
}

/// Whether a label is one that users may not set.
pub fn reserved(label: &str) -> bool {
    SYSTEM.contains(&label)
}

/// The Secrets of a release, parts first and the one that names them last; `now` in seconds.
///
/// # Errors
/// When the release cannot be written as JSON, or is too large to be read again.
pub fn encode(
    release: &Release,
    now: i64,
    limit: usize,
) -> Result<(Vec<Value>, Value), DecodeError> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    let json = serde_json::to_vec(release)?;
    if json.len() > UNPACKED {
        return Err(DecodeError::Large);
    }
    packed.write_all(&json)?;
    let text = BASE64_STANDARD.encode(packed.finish()?);
    let chunks: Vec<&[u8]> = text.as_bytes().chunks(limit).collect();
    if chunks.len() > MAX_PARTS + 1 {
        return Err(DecodeError::Large);
    }
    let first = chunks.first().copied().unwrap_or_default();
    let mut annotations = BTreeMap::new();
    let mut parts = Vec::new();
    if chunks.len() > 1 {
        let digest = hex(&Sha256::digest(text.as_bytes()));
        for (index, chunk) in chunks.iter().enumerate().skip(1) {
            parts.push(part(release, &digest, index, chunk));
        }
        annotations.insert(PARTS, parts.len().to_string());
        annotations.insert(DIGEST, digest);
    }
    if let Some(holder) = &release.holder
        && release.info.status.pending()
    {
        annotations.insert(HOLDER, holder.clone());
    }
    let mut labels = release.labels.clone();
    let mut set = |label: &str, value: String| labels.insert(label.to_owned(), value);
    set("name", release.name.clone());
    set("owner", "helm".to_owned());
    set("status", release.info.status.to_string());
    set("version", release.version.to_string());
    match release.created_at {
        Some(created) => {
            set("createdAt", created.to_string());
            set("modifiedAt", now.to_string());
        }
        None => {
            set("createdAt", now.to_string());
        }
    }
    let mut secret = secret(&name(&release.name, release.version), release, TYPE, first);
    secret["metadata"]["labels"] = json!(labels);
    if !annotations.is_empty() {
        secret["metadata"]["annotations"] = json!(annotations);
    }
    Ok((parts, secret))
}

fn part(release: &Release, digest: &str, index: usize, chunk: &[u8]) -> Value {
    let whole = name(&release.name, release.version);
    let name = format!("{whole}.{}.{index}", &digest[..16]);
    let mut part = secret(&name, release, PART_TYPE, chunk);
    part["metadata"]["labels"] = json!({
        "owner": "wk",
        "name": release.name,
        "version": release.version.to_string(),
    });
    part["metadata"]["annotations"] = json!({DIGEST: digest});
    part
}

fn secret(name: &str, release: &Release, kind: &str, data: &[u8]) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": release.namespace},
        "type": kind,
        // Base64 a second time: that of Secrets.
        "data": {"release": BASE64_STANDARD.encode(data)},
    })
}

/// How many parts besides a Secret its release has.
pub fn parts(secret: &Value) -> usize {
    let annotation = secret["metadata"]["annotations"][PARTS].as_str();
    annotation.and_then(|n| n.parse().ok()).unwrap_or_default()
}

/// The names of a Secret's parts.
///
/// # Errors
/// When it says that there are more than any record has.
pub fn part_names(secret: &Value) -> Result<Vec<String>, DecodeError> {
    if parts(secret) > MAX_PARTS {
        return Err(DecodeError::Large);
    }
    let metadata = &secret["metadata"];
    let whole = metadata["name"].as_str().unwrap_or_default();
    let digest = metadata["annotations"][DIGEST].as_str().unwrap_or_default();
    let short = digest.get(..16).unwrap_or_default();
    Ok((1..=parts(secret))
        .map(|index| format!("{whole}.{short}.{index}"))
        .collect())
}

/// Reads a release from its Secret and its parts in order.
///
/// # Errors
/// When it holds none, or not all of it.
pub fn decode(secret: &Value, parts_found: &[Value]) -> Result<Release, DecodeError> {
    decode_measured(secret, parts_found).map(|(release, _)| release)
}

/// As [`decode`], with the bytes that its JSON has.
pub(super) fn decode_measured(
    secret: &Value,
    parts_found: &[Value],
) -> Result<(Release, usize), DecodeError> {
    let expected = parts(secret);
    if expected > MAX_PARTS {
        return Err(DecodeError::Large);
    }
    if parts_found.len() != expected {
        return Err(DecodeError::Incomplete(parts_found.len(), expected));
    }
    let mut text = data(secret)?;
    for part in parts_found {
        text.extend(data(part)?);
    }
    if expected > 0 {
        let digest = &secret["metadata"]["annotations"][DIGEST];
        if *digest != hex(&Sha256::digest(&text)) {
            return Err(DecodeError::Mixed);
        }
    }
    let packed = BASE64_STANDARD.decode(std::str::from_utf8(&text)?.trim_end())?;
    // Helm 2 and early records were not compressed.
    let json = if packed.starts_with(&[0x1f, 0x8b, 0x08]) {
        let mut json = Vec::new();
        GzDecoder::new(packed.as_slice())
            .take(UNPACKED as u64 + 1)
            .read_to_end(&mut json)?;
        json
    } else {
        packed
    };
    if json.len() > UNPACKED {
        return Err(DecodeError::Large);
    }
    let mut release: Release = serde_json::from_slice(&json)?;
    let metadata = &secret["metadata"];
    if release.namespace.is_empty() {
        let namespace = metadata["namespace"].as_str().unwrap_or_default();
        release.namespace = namespace.to_owned();
    }
    let holder = metadata["annotations"][HOLDER].as_str();
    release.holder = holder.map(str::to_owned);
    for (label, value) in metadata["labels"].as_object().into_iter().flatten() {
        let Some(value) = value.as_str() else {
            continue;
        };
        match label.as_str() {
            "createdAt" => release.created_at = value.parse().ok(),
            label if reserved(label) => {}
            label => {
                release.labels.insert(label.to_owned(), value.to_owned());
            }
        }
    }
    // An update keeps a time of creation, whoever wrote the record.
    release.created_at.get_or_insert_default();
    Ok((release, json.len()))
}

fn data(secret: &Value) -> Result<Vec<u8>, DecodeError> {
    let text = secret["data"]["release"]
        .as_str()
        .ok_or(DecodeError::Absent)?;
    Ok(BASE64_STANDARD.decode(text)?)
}

/// What a Secret's labels say, without unpacking it: release, revision, status.
pub fn labels(secret: &Value) -> (&str, u32, Status) {
    let labels = &secret["metadata"]["labels"];
    let version = labels["version"].as_str().and_then(|v| v.parse().ok());
    (
        labels["name"].as_str().unwrap_or_default(),
        version.unwrap_or_default(),
        serde_json::from_value(labels["status"].clone()).unwrap_or_default(),
    )
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn release() -> Release {
        Release {
            name: "web".to_owned(),
            namespace: "shop".to_owned(),
            version: 3,
            // Text that does not compress to nothing.
            manifest: (0..400)
                .map(|n: u32| format!("{}\n", hex(&Sha256::digest(n.to_be_bytes()))))
                .collect(),
            labels: [("team".to_owned(), "a".to_owned())].into(),
            ..Release::default()
        }
    }

    #[test]
    fn a_record_is_the_secret_that_helm_expects() {
        let (parts, mut secret) = encode(&release(), 1_700_000_000, LIMIT).unwrap();
        assert!(parts.is_empty());
        secret["data"] = Value::Null;
        expect![[
            r#"{"apiVersion":"v1","data":null,"kind":"Secret","metadata":{"labels":{"createdAt":"1700000000","name":"web","owner":"helm","status":"unknown","team":"a","version":"3"},"name":"sh.helm.release.v1.web.v3","namespace":"shop"},"type":"helm.sh/release.v1"}"#
        ]]
        .assert_eq(&secret.to_string());
    }

    #[test]
    fn what_was_written_is_read() {
        let (_, secret) = encode(&release(), 7, LIMIT).unwrap();
        let read = decode(&secret, &[]).unwrap();
        assert_eq!(read.created_at, Some(7));
        assert_eq!(
            Release {
                created_at: None,
                ..read.clone()
            },
            release()
        );
        let (_, again) = encode(&read, 9, LIMIT).unwrap();
        let labels = &again["metadata"]["labels"];
        assert_eq!(
            (&labels["createdAt"], &labels["modifiedAt"]),
            (&json!("7"), &json!("9"))
        );
    }

    #[test]
    fn a_large_record_is_cut_and_put_together() {
        let (parts, secret) = encode(&release(), 7, 1000).unwrap();
        assert!(parts.len() > 2, "{}", parts.len());
        let names: Vec<_> = parts
            .iter()
            .map(|p| p["metadata"]["name"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(part_names(&secret).unwrap(), names);
        assert_eq!(
            decode(&secret, &parts).unwrap().manifest,
            release().manifest
        );
        let missing = decode(&secret, &parts[1..]).unwrap_err().to_string();
        assert_eq!(
            missing,
            format!("{} of {} parts are there", parts.len() - 1, parts.len())
        );
        let mut mixed = parts.clone();
        mixed.swap(0, 1);
        assert!(matches!(decode(&secret, &mixed), Err(DecodeError::Mixed)));
    }

    #[test]
    fn a_record_of_too_many_parts_or_bytes_is_refused() {
        let boast = json!({"metadata": {"annotations": {PARTS: "99999999999"}}});
        assert!(matches!(part_names(&boast), Err(DecodeError::Large)));
        assert!(matches!(decode(&boast, &[]), Err(DecodeError::Large)));
        let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
        bomb.write_all(&vec![b' '; UNPACKED + 1]).unwrap();
        let text = BASE64_STANDARD.encode(bomb.finish().unwrap());
        let bomb = json!({"data": {"release": BASE64_STANDARD.encode(text)}});
        assert!(matches!(decode(&bomb, &[]), Err(DecodeError::Large)));
        let vast = Release {
            manifest: " ".repeat(UNPACKED),
            ..Release::default()
        };
        assert!(matches!(encode(&vast, 7, LIMIT), Err(DecodeError::Large)));
        assert!(matches!(encode(&release(), 7, 10), Err(DecodeError::Large)));
    }

    #[test]
    fn secrets_that_hold_no_release_are_refused() {
        let secret = |data: &str| json!({"data": {"release": BASE64_STANDARD.encode(data)}});
        for (secret, why) in [
            (json!({}), "it has no data under \"release\""),
            (secret("?"), "it is not base64"),
            (secret(&BASE64_STANDARD.encode("{")), "it is no release"),
            (
                secret(&BASE64_STANDARD.encode([0x1f, 0x8b, 8, 9])),
                "it cannot be unpacked",
            ),
        ] {
            assert_eq!(decode(&secret, &[]).unwrap_err().to_string(), why);
        }
    }
}
