//! Fetches what a release is made from: the chart's archive, and values in the cluster; all with the account's rights.
//!
//! The cluster's own registry is asked through the apiserver, which checks the account's right to it. Other registries and
//! repositories are asked from where the controllers run. Every answer is bounded in size and time.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use async_trait::async_trait;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use charts::{
    fetch::{
        Answer, Login, Request, Transport,
        index::Repository,
        oci::{Reference, Registry},
    },
    release::{Cluster as _, Error, ObjectId, rest::Remote},
    values,
};
use serde_json::{Map, Value};

use super::{
    connection::Connection,
    spec::{Chart, Entry, Spec},
};

/// Most redirects that are followed.
const REDIRECTS: usize = 10;
const DEADLINE: Duration = Duration::from_secs(30);

/// The chart's archive.
pub(super) async fn fetch(
    cluster: &Remote<Connection>,
    namespace: &str,
    chart: &Chart,
) -> Result<Vec<u8>, Error> {
    if let Some(entry) = &chart.archive {
        return match read(cluster, namespace, entry).await? {
            Some(bytes) => Ok(bytes),
            None => Err(missing("spec.chart.archive", entry)),
        };
    }
    let login = login(cluster, namespace, chart).await?;
    let way = Way::new(cluster)?;
    if let Some(text) = &chart.r#ref {
        let reference = Reference::parse(text, chart.version.as_deref())
            .ok_or_else(|| refused(format!("spec.chart.ref: {text:?} is not oci://HOST/PATH")))?;
        if reference.own() {
            return Err(refused(format!(
                "spec.chart.ref: {text}: ChartReleases cannot read the built-in registry yet; use spec.chart.archive, \
                 a repository or another registry"
            )));
        }
        let mut registry = Registry::new(&way, &reference, login.as_ref(), false);
        let pulled = registry.pull(&reference).await;
        let pulled = pulled.map_err(|why| refused(format!("spec.chart.ref: {text}: {why}")))?;
        return Ok(pulled.archive);
    }
    if let (Some(url), Some(name)) = (&chart.repository, &chart.name) {
        let repository = Repository {
            url: url.clone(),
            login,
            pass_everywhere: false,
        };
        let archive = async {
            let (_, index) = repository.index(&way).await?;
            let entry = index.find(name, chart.version.as_deref())?;
            repository.archive(&way, &entry).await
        };
        return archive
            .await
            .map_err(|why| refused(format!("spec.chart.repository: {url}: {why}")));
    }
    Err(refused("spec.chart: it has no source".to_owned()))
}

/// The values: those of other objects in their order, then the object's own.
pub(super) async fn values(
    cluster: &Remote<Connection>,
    namespace: &str,
    spec: &Spec,
) -> Result<Map<String, Value>, Error> {
    let mut texts = Vec::new();
    for (index, from) in spec.values_from.iter().enumerate() {
        let field = format!("spec.valuesFrom[{index}]");
        match read(cluster, namespace, &from.entry).await? {
            Some(text) => texts.push((field, text)),
            None if from.optional => {}
            None => return Err(missing(&field, &from.entry)),
        }
    }
    let mut merged = charts::Map::new();
    for (field, text) in texts {
        let more = values::load(&text).map_err(|why| refused(format!("{field}: {why}")))?;
        merged = values::overlay(&merged, &more);
    }
    let own = values::from_json_map(&spec.values);
    Ok(values::to_json_map(&values::overlay(&merged, &own)))
}

/// An entry's bytes; `None` if the object or the entry is not there.
async fn read(
    cluster: &Remote<Connection>,
    namespace: &str,
    entry: &Entry,
) -> Result<Option<Vec<u8>>, Error> {
    let id = ObjectId::new("v1", &entry.kind, namespace, &entry.name);
    let found = cluster
        .find(&id)
        .await
        .map_err(Error::call(format!("read {id}")))?;
    let Some(found) = found else {
        return Ok(None);
    };
    let encoded = match entry.kind.as_str() {
        "Secret" => &found["data"][&entry.key],
        _ => &found["binaryData"][&entry.key],
    };
    if let Some(text) = encoded.as_str() {
        let bytes = BASE64_STANDARD.decode(text);
        return bytes
            .map(Some)
            .map_err(|_| refused(format!("{id}: {:?} is not base64", entry.key)));
    }
    let plain = match entry.kind.as_str() {
        "Secret" => None,
        _ => found["data"][&entry.key].as_str(),
    };
    Ok(plain.map(|text| text.as_bytes().to_vec()))
}

fn missing(field: &str, entry: &Entry) -> Error {
    let Entry { kind, name, key } = entry;
    refused(format!(
        "{field}: {kind} {name:?} with entry {key:?} not found"
    ))
}

fn refused(why: String) -> Error {
    Error::Refused(why)
}

async fn login(
    cluster: &Remote<Connection>,
    namespace: &str,
    chart: &Chart,
) -> Result<Option<Login>, Error> {
    let Some(secret) = &chart.secret_ref else {
        return Ok(None);
    };
    let mut texts = Vec::new();
    for key in ["username", "password"] {
        let entry = Entry {
            kind: "Secret".to_owned(),
            name: secret.name.clone(),
            key: key.to_owned(),
        };
        match read(cluster, namespace, &entry).await? {
            Some(bytes) => texts.push(String::from_utf8_lossy(&bytes).into_owned()),
            None => return Err(missing("spec.chart.secretRef", &entry)),
        }
    }
    let password = texts.pop().unwrap_or_default();
    let name = texts.pop().unwrap_or_default();
    Ok(Some(Login { name, password }))
}

/// The way out: the cluster's own registry with the account's rights, and the rest of the world.
struct Way<'a> {
    cluster: &'a Remote<Connection>,
    client: reqwest::Client,
}

impl Way<'_> {
    fn new(cluster: &Remote<Connection>) -> Result<Way<'_>, Error> {
        let client = client().map_err(refused)?;
        Ok(Way { cluster, client })
    }
}

/// Follows redirects to elsewhere, never to this machine.
fn client() -> Result<reqwest::Client, String> {
    reqwest::Client::builder()
        .timeout(DEADLINE)
        .redirect(reqwest::redirect::Policy::custom(|attempt| {
            if attempt.previous().len() > REDIRECTS {
                return attempt.error("too many redirects");
            }
            let checked = attempt
                .previous()
                .last()
                .map_or(Ok(()), |from| check_hop(from, attempt.url()));
            match checked {
                Ok(()) => attempt.follow(),
                Err(why) => attempt.error(why),
            }
        }))
        .build()
        .map_err(chain)
}

/// Refuses what an answer may not lead to: this machine and its link from elsewhere, and http from https.
fn check_hop(from: &reqwest::Url, to: &reqwest::Url) -> Result<(), String> {
    let refuse = |why: &str| Err(format!("{} leads to {}: {why}", shown(from), shown(to)));
    if from.scheme() == "https" && to.scheme() != "https" {
        return refuse("from https only https is followed");
    }
    if from.host_str() != to.host_str() && to.host_str().is_none_or(local) {
        return refuse("an address of the machine or its link is not followed");
    }
    Ok(())
}

/// Whether a host is the machine itself or on its link.
fn local(host: &str) -> bool {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    if name == "localhost" || name.ends_with(".localhost") {
        return true;
    }
    let of_four = |ip: Ipv4Addr| ip.is_loopback() || ip.is_link_local() || ip.is_unspecified();
    match name.trim_matches(['[', ']']).parse() {
        Ok(IpAddr::V4(ip)) => of_four(ip),
        Ok(IpAddr::V6(ip)) => {
            ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_unicast_link_local()
                || ip.to_ipv4_mapped().is_some_and(of_four)
        }
        Err(_) => false,
    }
}

/// A URL as messages show it: without what may be secret.
fn shown(url: &reqwest::Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}"));
    let port = port.unwrap_or_default();
    format!("{}://{host}{port}{}", url.scheme(), url.path())
}

#[async_trait]
impl Transport for Way<'_> {
    async fn send(&self, request: Request) -> Result<Answer, String> {
        if request.url.starts_with('/') {
            let connection = self.cluster.transport();
            let answer = connection.fetch(request.method, &request.url, request.accept, None);
            let (status, body) = answer.await.map_err(|error| error.to_string())?;
            return match body.len() <= request.limit {
                true => Ok(Answer {
                    status,
                    body,
                    ..Answer::default()
                }),
                false => Err(format!(
                    "{} is larger than {} bytes",
                    request.url, request.limit
                )),
            };
        }
        let mut sent = self.client.get(&request.url);
        sent = sent.header("accept", request.accept);
        if let Some(authorization) = &request.authorization {
            sent = sent.header("authorization", authorization);
        }
        let mut answer = sent.send().await.map_err(chain)?;
        let challenge = answer.headers().get("www-authenticate");
        let challenge = challenge.and_then(|value| value.to_str().ok());
        let mut fetched = Answer {
            status: answer.status().as_u16(),
            challenge: challenge.map(str::to_owned),
            ..Answer::default()
        };
        while let Some(chunk) = answer.chunk().await.map_err(chain)? {
            if fetched.body.len() + chunk.len() > request.limit {
                return Err(format!(
                    "{} is larger than {} bytes",
                    request.url, request.limit
                ));
            }
            fetched.body.extend_from_slice(&chunk);
        }
        Ok(fetched)
    }
}

/// An error with its causes.
fn chain(error: reqwest::Error) -> String {
    format!("{:#}", anyhow::Error::from(error))
}
