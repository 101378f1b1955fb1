//! What all `wk` processes of a cluster share: its certificate authority and the key that signs the tokens
//! of ServiceAccounts, kept in the store.
//!
//! Reads and writes one key of the store for each, before any component runs. Leaf certificates are this
//! process' own and live in its data directory.

use std::path::Path;

use anyhow::{Context, Result, bail};
use api::auth::SigningKey;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Serialize, de::DeserializeOwned};
use store::{Commit, Expect, Group, Op, ResourceKey, Store, Token};

use crate::{
    data_dir::{DataDir, write_private},
    pki::{self, Pair, RENEW_DAYS, Subject},
};

/// Finds the cluster's authority, or makes it; of several processes that start at once, one wins.
pub(crate) async fn authority(store: &dyn Store, today: jiff::civil::Date) -> Result<Pair> {
    shared(store, "cluster", || pki::new_authority(today))
        .await
        .context("find the cluster's CA")
}

/// Finds the key that signs tokens, or makes it.
pub(crate) async fn signing_key(store: &dyn Store) -> Result<SigningKey> {
    let kept = shared(store, "service-accounts", || {
        let key = SigningKey::generate().context("make a signing key")?;
        Ok(STANDARD.encode(key))
    });
    let kept = kept.await.context("find the key that signs tokens")?;
    let key = STANDARD.decode(kept).context("decode the signing key")?;
    SigningKey::read(&key).context("read the signing key")
}

/// A secret that the processes of a cluster share, as it is in the store or made now.
async fn shared<T: Serialize + DeserializeOwned>(
    store: &dyn Store,
    name: &str,
    make: impl Fn() -> Result<T>,
) -> Result<T> {
    let key = ResourceKey::new("wk.internal", "authorities").key("", name);
    for _ in 0..3 {
        if let Some(entry) = store.get(&key).await.context("read it from the store")? {
            return serde_json::from_slice(&entry.value).context("it cannot be read");
        }
        let made = make()?;
        let value = serde_json::to_vec(&made).context("encode it")?.into();
        let group = Group {
            ops: vec![Op::Put {
                key: key.clone(),
                expect: Expect::Absent,
                value,
            }],
        };
        let commits = store
            .write(Token(rand::random()), &[group])
            .await
            .context("store it")?;
        if let [Commit::Done(_)] = commits.as_slice() {
            return Ok(made);
        }
    }
    bail!("it could not be stored: other processes keep changing it")
}

/// Keeps a data directory with the cluster that used it first: its pods, images and certificates are
/// that cluster's.
pub(crate) fn check_identity(data: &DataDir, cluster_id: &str) -> Result<()> {
    let path = data.path("cluster");
    let kept = match std::fs::read_to_string(&path) {
        Ok(kept) => kept,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return write_private(&path, &format!("{cluster_id}\n"));
        }
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    if kept.trim() != cluster_id {
        bail!(
            "the data directory {} belongs to cluster {}, the database is of cluster {cluster_id}: \
             name the database that it was used with (--database), or another directory (--data-dir)",
            data.root().display(),
            kept.trim()
        );
    }
    Ok(())
}

/// Loads a certificate from `dir`, or issues it: if it is not there, is another authority's, is for
/// other names or ends soon.
pub(crate) fn leaf(
    dir: &Path,
    name: &str,
    ca: &Pair,
    subject: &Subject<'_>,
    today: jiff::civil::Date,
) -> Result<Pair> {
    let path = dir.join(format!("{name}.json"));
    let kept = std::fs::read(&path)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok());
    let wanted = |kept: &Kept| {
        kept.authority == ca.certificate
            && kept.names == subject.names
            && today.saturating_add(jiff::Span::new().days(RENEW_DAYS))
                < kept.issued.saturating_add(jiff::Span::new().days(365))
    };
    if let Some(kept) = kept.filter(wanted) {
        return Ok(kept.pair);
    }
    let pair = ca.issue(subject, today)?;
    let kept = Kept {
        authority: ca.certificate.clone(),
        names: subject.names.to_vec(),
        issued: today,
        pair,
    };
    write_private(
        &path,
        &serde_json::to_string(&kept).context("encode a certificate")?,
    )?;
    Ok(kept.pair)
}

/// A leaf certificate and what it was issued for.
#[derive(serde::Serialize, serde::Deserialize)]
struct Kept {
    authority: String,
    names: Vec<String>,
    issued: jiff::civil::Date,
    pair: Pair,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_is_kept_until_its_names_change_or_it_ends_soon() {
        let dir = tempfile::tempdir().unwrap();
        let today = jiff::civil::date(2026, 1, 1);
        let ca = pki::new_authority(today).unwrap();
        let names = ["localhost".to_owned()];
        let issue = |names: &[String], today| {
            let subject = Subject {
                user: "wk-apiserver",
                groups: &[],
                names,
            };
            leaf(dir.path(), "apiserver", &ca, &subject, today)
                .unwrap()
                .certificate
        };
        let first = issue(&names, today);
        assert_eq!(issue(&names, jiff::civil::date(2026, 6, 1)), first);
        let renewed = issue(&names, jiff::civil::date(2026, 12, 20));
        assert_ne!(renewed, first);
        assert_ne!(
            issue(&["other".to_owned()], jiff::civil::date(2026, 12, 20)),
            renewed
        );
    }
}
