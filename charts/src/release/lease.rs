//! One action at a time on a release, and an end to every action: a Lease with a holder and an expiry.
//!
//! Held for as long as an action runs and renewed meanwhile. Whoever finds one waits until its holder renews it, which
//! means that an action is under way, or until it has not for as long as it lasts, which means that its holder is gone.
//! That is judged by one's own clock alone. Helm knows nothing of it.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::{Duration, Instant},
};

use futures::future::{Either, select};
use serde_json::{Value, json};

use super::{
    Error,
    cluster::{CallError, Cluster, ObjectId, Propagation, Report},
};

/// How long a lease lasts without being renewed.
const LASTS: Duration = Duration::from_secs(15);
/// Between two renewals.
const RENEWAL: Duration = Duration::from_secs(4);
/// Between two looks at another's.
const LOOK: Duration = Duration::from_secs(1);

/// A lease that is held.
#[derive(Debug)]
pub struct Held {
    id: ObjectId,
    holder: String,
    /// False if the user may not hold leases: then nothing keeps others away but the record itself, as with Helm.
    real: bool,
}

fn id(namespace: &str, release: &str) -> ObjectId {
    let name = format!("sh.helm.release.v1.{release}");
    ObjectId::new("coordination.k8s.io/v1", "Lease", namespace, &name)
}

fn lease(id: &ObjectId, holder: &str, now: jiff::Timestamp, version: &Value) -> Value {
    // Microseconds, which is all that the API keeps.
    let now = format!("{now:.6}");
    json!({
        "apiVersion": id.api_version, "kind": id.kind,
        "metadata": {
            "name": id.name,
            "namespace": id.namespace,
            "resourceVersion": version,
            "labels": {"owner": "wk"},
        },
        "spec": {
            "holderIdentity": holder,
            "leaseDurationSeconds": LASTS.as_secs(),
            "acquireTime": now,
            "renewTime": now,
        },
    })
}

/// Takes the lease of a release, from a holder that is gone if need be.
///
/// # Errors
/// When an action is under way, or the cluster does not answer.
pub async fn acquire(
    cluster: &dyn Cluster,
    namespace: &str,
    release: &str,
    holder: &str,
) -> Result<Held, Error> {
    let id = id(namespace, release);
    let doing = || Error::call(format!("take the lease of release {release:?}"));
    loop {
        let found = match cluster.find(&id).await {
            Err(error) if error.code == Some(403) => {
                return Ok(unreal(cluster, id, release, holder, &error.message).await);
            }
            found => found.map_err(doing())?,
        };
        let written = match &found {
            None => {
                let lease = lease(&id, holder, cluster.now(), &Value::Null);
                cluster.create(&id, &lease).await
            }
            Some(found) => {
                if let Some(gone) = wait_for_end(cluster, &id, release, found).await? {
                    let note =
                        format!("{gone} is gone: its lease of release {release:?} is taken over");
                    cluster.report(Report::Note(note)).await;
                }
                let version = &found["metadata"]["resourceVersion"];
                let lease = lease(&id, holder, cluster.now(), version);
                cluster.replace(&id, &lease).await
            }
        };
        match written {
            Ok(_) => {
                let (holder, real) = (holder.to_owned(), true);
                return Ok(Held { id, holder, real });
            }
            // Somebody else was faster, or ended: look again.
            Err(CallError {
                code: Some(409), ..
            }) => {}
            Err(CallError {
                code: Some(404), ..
            }) if found.is_some() => {}
            Err(CallError {
                code: Some(404), ..
            }) => {
                return Err(Error::Refused(format!(
                    "namespace {namespace:?} not found: make it, or have it made (--create-namespace; createNamespace of a ChartRelease)"
                )));
            }
            Err(CallError {
                code: Some(403),
                message,
            }) => {
                return Ok(unreal(cluster, id, release, holder, &message).await);
            }
            Err(error) => return Err(doing()(error)),
        }
    }
}

/// What whoever may not hold leases has in place of one.
async fn unreal(
    cluster: &dyn Cluster,
    id: ObjectId,
    release: &str,
    holder: &str,
    why: &str,
) -> Held {
    let note = format!("release {release:?} is not kept from others meanwhile: {why}");
    cluster.report(Report::Note(note)).await;
    let (holder, real) = (holder.to_owned(), false);
    Held { id, holder, real }
}

/// Waits until the holder of a lease has been silent for as long as it lasts; answers who that was.
async fn wait_for_end(
    cluster: &dyn Cluster,
    id: &ObjectId,
    release: &str,
    found: &Value,
) -> Result<Option<String>, Error> {
    let Some(holder) = found["spec"]["holderIdentity"]
        .as_str()
        .filter(|h| !h.is_empty())
    else {
        return Ok(None);
    };
    let long_ago = found["spec"]["renewTime"]
        .as_str()
        .and_then(|time| time.parse::<jiff::Timestamp>().ok())
        // Beyond any difference of clocks worth the name.
        .is_none_or(|time| {
            cluster.now().duration_since(time).as_secs() > 20 * LASTS.as_secs() as i64
        });
    if long_ago {
        return Ok(Some(holder.to_owned()));
    }
    cluster
        .report(Report::Note(format!(
            "release {release:?} is held by {holder}; waiting up to {}s to see whether it is still there",
            LASTS.as_secs()
        )))
        .await;
    let mut waited = Duration::ZERO;
    while waited < LASTS {
        cluster.pause(LOOK).await;
        waited += LOOK;
        let now = cluster.find(id).await.map_err(Error::call(format!(
            "look at the lease of release {release:?}"
        )))?;
        match now {
            None => return Ok(None),
            Some(now) if now["spec"] == found["spec"] => {}
            Some(_) => {
                return Err(Error::Busy(format!(
                    "{holder} works on release {release:?}"
                )));
            }
        }
    }
    Ok(Some(holder.to_owned()))
}

impl Held {
    /// Who holds it, if it is one.
    pub fn holder(&self) -> Option<&str> {
        self.real.then_some(self.holder.as_str())
    }

    /// Runs an action while the lease is renewed, then gives it up.
    ///
    /// # Errors
    /// The action's, or when the lease was lost.
    pub async fn during<T>(
        self,
        cluster: &dyn Cluster,
        action: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        if !self.real {
            return action.await;
        }
        let result = {
            let mut action = pin!(action);
            let mut renewal = pin!(self.renew(cluster));
            poll_fn(|context| {
                if let Poll::Ready(result) = action.as_mut().poll(context) {
                    return Poll::Ready(result);
                }
                renewal.as_mut().poll(context).map(Err)
            })
            .await
        };
        if !matches!(result, Err(Error::Busy(_))) {
            self.release(cluster).await;
        }
        result
    }

    /// Renews until that fails for good; answers why.
    async fn renew(&self, cluster: &dyn Cluster) -> Error {
        let late = || Error::Busy("the lease could not be renewed in time".to_owned());
        let mut silent = Duration::ZERO;
        let mut renewed = Instant::now();
        loop {
            cluster.pause(RENEWAL).await;
            silent += RENEWAL;
            let left = || LASTS.saturating_sub(silent.max(renewed.elapsed()));
            if left().is_zero() {
                return late();
            }
            let found = match in_time(cluster, left(), cluster.find(&self.id)).await {
                None => return late(),
                Some(Ok(found)) => found.unwrap_or_default(),
                Some(Err(error)) if error.passing() => continue,
                Some(Err(error)) => return Error::call("renew the lease of the release")(error),
            };
            if found["spec"]["holderIdentity"] != self.holder.as_str() {
                return Error::Busy(format!(
                    "the lease was taken by {}",
                    found["spec"]["holderIdentity"].as_str().unwrap_or("nobody")
                ));
            }
            let version = &found["metadata"]["resourceVersion"];
            let lease = lease(&self.id, &self.holder, cluster.now(), version);
            let asked = Instant::now();
            match in_time(cluster, left(), cluster.replace(&self.id, &lease)).await {
                None => return late(),
                Some(Ok(_)) => (silent, renewed) = (Duration::ZERO, asked),
                Some(Err(_)) => {}
            }
        }
    }

    /// Gives the lease up. If that fails, it expires.
    async fn release(&self, cluster: &dyn Cluster) {
        let held = cluster.find(&self.id).await.ok().flatten();
        if held.is_some_and(|held| held["spec"]["holderIdentity"] == self.holder.as_str()) {
            let _ = cluster.delete(&self.id, Propagation::Background).await;
        }
    }
}

/// The answer of a call, unless this much time passes before.
async fn in_time<T>(
    cluster: &dyn Cluster,
    left: Duration,
    call: impl Future<Output = T>,
) -> Option<T> {
    match select(pin!(call), cluster.pause(left)).await {
        Either::Left((answer, _)) => Some(answer),
        Either::Right(_) => None,
    }
}

/// Gives up what a holder holds whose action was ended from outside.
pub async fn give_up(cluster: &dyn Cluster, namespace: &str, release: &str, holder: &str) {
    let held = Held {
        id: id(namespace, release),
        holder: holder.to_owned(),
        real: true,
    };
    held.release(cluster).await;
}
