//! A release's history in a cluster: its Secrets, read and written through [`Cluster`].

use serde_json::Value;

use super::{
    Error,
    cluster::{CallError, Cluster, ObjectId, Propagation},
    record::Release,
    secret,
};

/// Most bytes of JSON that the revisions of a release have together: they are all in memory at once.
const HISTORY: usize = 256 << 20;

/// The revisions of a release in order. One that cannot be read is an error: to work without it could lose objects.
///
/// # Errors
/// When the cluster does not answer, a record cannot be read, or all of them are too large.
pub async fn history(
    cluster: &dyn Cluster,
    namespace: &str,
    name: &str,
) -> Result<Vec<Release>, Error> {
    let selector = format!("owner=helm,name={name}");
    let secrets = cluster
        .list("v1", "Secret", Some(namespace), &selector)
        .await
        .map_err(Error::call(format!("read the history of release {name:?}")))?;
    let mut releases = Vec::new();
    let mut size = 0;
    for found in &secrets {
        let (release, bytes) = read_measured(cluster, namespace, found).await?;
        size += bytes;
        if size > HISTORY {
            return Err(Error::Refused(format!(
                "the {} revisions of release {name:?} are larger than {} MiB: delete Secrets of old ones",
                secrets.len(),
                HISTORY >> 20
            )));
        }
        releases.push(release);
    }
    releases.sort_by_key(|release| release.version);
    Ok(releases)
}

/// Reads the release of a Secret, and its parts if it has any.
///
/// # Errors
/// When it holds none, or a part is missing.
pub async fn read(cluster: &dyn Cluster, namespace: &str, found: &Value) -> Result<Release, Error> {
    let (release, _) = read_measured(cluster, namespace, found).await?;
    Ok(release)
}

async fn read_measured(
    cluster: &dyn Cluster,
    namespace: &str,
    found: &Value,
) -> Result<(Release, usize), Error> {
    let name = found["metadata"]["name"].as_str().unwrap_or_default();
    let refused = |why| Error::Refused(format!("{}: {why}", id(namespace, name)));
    let mut parts = Vec::new();
    for part in secret::part_names(found).map_err(refused)? {
        let id = id(namespace, &part);
        let part = cluster
            .find(&id)
            .await
            .map_err(Error::call(format!("read {id}")))?;
        parts.extend(part);
    }
    secret::decode_measured(found, &parts).map_err(refused)
}

/// Writes a revision that is new.
///
/// # Errors
/// When one of its number is there: another operation was faster.
pub async fn create(cluster: &dyn Cluster, release: &mut Release) -> Result<(), Error> {
    let now = cluster.now().as_second();
    let (parts, whole) = encoded(release, now)?;
    release.created_at = Some(now);
    write_parts(cluster, release, &parts).await?;
    let id = id(
        &release.namespace,
        &secret::name(&release.name, release.version),
    );
    match cluster.create(&id, &whole).await {
        Ok(_) => Ok(()),
        Err(CallError {
            code: Some(409), ..
        }) => Err(Error::Busy(format!(
            "revision {} of release {:?} was written meanwhile",
            release.version, release.name
        ))),
        Err(error) => Err(Error::call(format!(
            "write revision {} of release {:?}",
            release.version, release.name
        ))(error)),
    }
}

/// Writes a revision over itself.
///
/// # Errors
/// When the cluster does not take it.
pub async fn update(cluster: &dyn Cluster, release: &Release) -> Result<(), Error> {
    let (parts, whole) = encoded(release, cluster.now().as_second())?;
    let doing = || {
        let (version, name) = (release.version, &release.name);
        format!("write revision {version} of release {name:?}")
    };
    let id = id(
        &release.namespace,
        &secret::name(&release.name, release.version),
    );
    let before = cluster.find(&id).await.map_err(Error::call(doing()))?;
    write_parts(cluster, release, &parts).await?;
    cluster
        .replace(&id, &whole)
        .await
        .map_err(Error::call(doing()))?;
    let (old, new) = (before.map(|before| part_names(&before)), part_names(&whole));
    let stale = old.unwrap_or_default();
    let stale = stale.into_iter().filter(|part| !new.contains(part));
    remove_parts(cluster, &release.namespace, stale).await
}

/// Removes a revision.
///
/// # Errors
/// When the cluster does not.
pub async fn remove(cluster: &dyn Cluster, release: &Release) -> Result<(), Error> {
    let id = id(
        &release.namespace,
        &secret::name(&release.name, release.version),
    );
    let doing = format!("remove {id}");
    let found = cluster
        .find(&id)
        .await
        .map_err(Error::call(doing.clone()))?;
    cluster
        .delete(&id, Propagation::Background)
        .await
        .map_err(Error::call(doing))?;
    let parts = found.map(|found| part_names(&found));
    remove_parts(cluster, &release.namespace, parts.into_iter().flatten()).await
}

/// The parts to remove with a Secret: none if it says what cannot be.
fn part_names(found: &Value) -> Vec<String> {
    secret::part_names(found).unwrap_or_default()
}

fn encoded(release: &Release, now: i64) -> Result<(Vec<Value>, Value), Error> {
    secret::encode(release, now, secret::LIMIT)
        .map_err(|why| Error::Refused(format!("release {:?}: {why}", release.name)))
}

/// Parts are named by what they hold: one that is there is right.
async fn write_parts(
    cluster: &dyn Cluster,
    release: &Release,
    parts: &[Value],
) -> Result<(), Error> {
    for part in parts {
        let name = part["metadata"]["name"].as_str().unwrap_or_default();
        let id = id(&release.namespace, name);
        match cluster.create(&id, part).await {
            Ok(_)
            | Err(CallError {
                code: Some(409), ..
            }) => {}
            Err(error) => return Err(Error::call(format!("write {id}"))(error)),
        }
    }
    Ok(())
}

async fn remove_parts(
    cluster: &dyn Cluster,
    namespace: &str,
    parts: impl Iterator<Item = String> + Send,
) -> Result<(), Error> {
    for part in parts {
        let id = id(namespace, &part);
        cluster
            .delete(&id, Propagation::Background)
            .await
            .map_err(Error::call(format!("remove {id}")))?;
    }
    Ok(())
}

fn id(namespace: &str, name: &str) -> ObjectId {
    ObjectId::new("v1", "Secret", namespace, name)
}
