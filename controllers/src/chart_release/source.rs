//! Fetches what a release is made from: the chart's archive, and values in the cluster; all with the account's rights.
//!
//! The cluster's own registry is asked through the apiserver, which checks the account's right to it. Other registries and
//! repositories are asked from where the controllers run. Every answer is bounded in size and time.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use charts::{
    release::{Cluster as _, Error, ObjectId, rest::Remote},
    values,
};
use serde_json::{Map, Value};

use super::{
    connection::Connection,
    oci::{self, Reference},
    spec::{Chart, Entry, Spec},
};

/// Largest archive of a chart, in bytes.
const ARCHIVE: usize = 32 << 20;
/// Largest index of a repository, in bytes: the public ones have grown to tens of megabytes.
const INDEX: usize = 64 << 20;
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
    if let Some(text) = &chart.r#ref {
        let reference = Reference::parse(text, chart.version.as_deref())
            .ok_or_else(|| refused(format!("spec.chart.ref: {text:?} is not oci://HOST/PATH")))?;
        return pull(cluster, &reference, login.as_ref())
            .await
            .map_err(|why| refused(format!("spec.chart.ref: {text}: {why}")));
    }
    if let (Some(url), Some(name)) = (&chart.repository, &chart.name) {
        return download(url, name, chart.version.as_deref(), login.as_ref())
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

/// A name and password.
struct Login {
    name: String,
    password: String,
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

/// Answers the body of a path of a registry.
enum Registry<'a> {
    /// The cluster's own.
    Own(&'a Remote<Connection>),
    Other {
        client: reqwest::Client,
        base: String,
        login: Option<&'a Login>,
        /// What its token service gave.
        token: Option<String>,
    },
}

async fn pull(
    cluster: &Remote<Connection>,
    reference: &Reference,
    login: Option<&Login>,
) -> Result<Vec<u8>, String> {
    let mut registry = if reference.own() {
        Registry::Own(cluster)
    } else {
        Registry::Other {
            client: client()?,
            base: format!("https://{}", reference.host),
            login,
            token: None,
        }
    };
    let path = &reference.path;
    let version = match &reference.version {
        Some(version) => version.clone(),
        None => {
            let list = registry
                .get(&format!("/v2/{path}/tags/list"), "application/json", INDEX)
                .await?;
            let list: Value = serde_json::from_slice(&list).map_err(|why| why.to_string())?;
            let tags = list["tags"].as_array().into_iter().flatten();
            oci::newest(tags.filter_map(Value::as_str))
                .ok_or("no tag is a version")?
                .to_owned()
        }
    };
    let manifest = registry
        .get(
            &format!("/v2/{path}/manifests/{version}"),
            oci::MANIFEST,
            INDEX,
        )
        .await?;
    if version.starts_with("sha256:") && !oci::verify(&manifest, &version) {
        return Err("the manifest is not what its digest says".to_owned());
    }
    let manifest: Value = serde_json::from_slice(&manifest).map_err(|why| why.to_string())?;
    let digest = oci::layer(&manifest).ok_or("it is no chart: no layer is a chart's archive")?;
    let blob = registry
        .get(&format!("/v2/{path}/blobs/{digest}"), "*/*", ARCHIVE)
        .await?;
    if !oci::verify(&blob, digest) {
        return Err("the archive is not what its digest says".to_owned());
    }
    Ok(blob)
}

impl Registry<'_> {
    async fn get(&mut self, path: &str, accept: &str, limit: usize) -> Result<Vec<u8>, String> {
        match self {
            Registry::Own(cluster) => {
                let answer = cluster.transport().fetch("GET", path, accept, None).await;
                let (code, body) = answer.map_err(|error| error.to_string())?;
                match code {
                    200 if body.len() <= limit => Ok(body),
                    200 => Err(format!("{path} is larger than {limit} bytes")),
                    404 => Err(format!("{path} not found")),
                    code => Err(format!("{path}: {code} {}", String::from_utf8_lossy(&body))),
                }
            }
            Registry::Other {
                client,
                base,
                login,
                token,
            } => {
                let send = |token: &Option<String>| {
                    let request = client.get(format!("{base}{path}")).header("accept", accept);
                    match (token, &*login) {
                        (Some(token), _) => request.bearer_auth(token),
                        (None, Some(login)) => {
                            request.basic_auth(&login.name, Some(&login.password))
                        }
                        (None, None) => request,
                    }
                };
                let mut answer = send(token).send().await.map_err(chain)?;
                if answer.status().as_u16() == 401 && token.is_none() {
                    let challenge = answer.headers().get("www-authenticate");
                    let challenge = challenge.and_then(|value| value.to_str().ok());
                    let challenge = challenge.unwrap_or_default().to_owned();
                    let registry = reqwest::Url::parse(base).map_err(|why| why.to_string())?;
                    *token = Some(fetch_token(client, &registry, &challenge, *login).await?);
                    answer = send(token).send().await.map_err(chain)?;
                }
                body(answer, limit).await
            }
        }
    }
}

/// Asks a registry's token service, as its challenge says: `Bearer realm="…",service="…",scope="…"`.
async fn fetch_token(
    client: &reqwest::Client,
    registry: &reqwest::Url,
    challenge: &str,
    login: Option<&Login>,
) -> Result<String, String> {
    let parameter = |name: &str| {
        let (_, rest) = challenge.split_once(&format!("{name}=\""))?;
        rest.split_once('"').map(|(value, _)| value)
    };
    let realm = parameter("realm").ok_or("the registry wants a login (spec.chart.secretRef)")?;
    let mut url = reqwest::Url::parse(realm).map_err(|why| format!("{realm}: {why}"))?;
    let realm = shown(&url);
    check_hop(registry, &url)?;
    for name in ["service", "scope"] {
        if let Some(value) = parameter(name) {
            url.query_pairs_mut().append_pair(name, value);
        }
    }
    let mut request = client.get(url);
    if let Some(login) = login {
        request = request.basic_auth(&login.name, Some(&login.password));
    }
    let answer = request.send().await.map_err(chain)?;
    let answer = body(answer, 1 << 20).await?;
    let answer: Value = serde_json::from_slice(&answer).map_err(|why| why.to_string())?;
    let token = answer["token"].as_str().or(answer["access_token"].as_str());
    token
        .map(str::to_owned)
        .ok_or_else(|| format!("{realm} gave no token"))
}

/// Fetches a chart by a repository's index.
async fn download(
    repository: &str,
    name: &str,
    version: Option<&str>,
    login: Option<&Login>,
) -> Result<Vec<u8>, String> {
    let client = client()?;
    let base = reqwest::Url::parse(&format!("{}/", repository.trim_end_matches('/')))
        .map_err(|why| why.to_string())?;
    let get = async |url: reqwest::Url, limit| {
        let mut request = client.get(url.clone());
        // A name and password are for the repository alone.
        if let Some(login) = login
            && url.origin() == base.origin()
        {
            request = request.basic_auth(&login.name, Some(&login.password));
        }
        body(request.send().await.map_err(chain)?, limit).await
    };
    let index = base.join("index.yaml").map_err(|why| why.to_string())?;
    let index = get(index, INDEX).await?;
    let (urls, digest) = entry(&index, name, version)?;
    let url = base
        .join(&urls)
        .map_err(|why| format!("index.yaml: {urls}: {why}"))?;
    check_hop(&base, &url)?;
    let archive = get(url, ARCHIVE).await?;
    if let Some(digest) = digest {
        let digest = format!("sha256:{}", digest.trim_start_matches("sha256:"));
        if !oci::verify(&archive, &digest) {
            return Err(format!(
                "{urls} is not what index.yaml says: its digest differs"
            ));
        }
    }
    Ok(archive)
}

/// Where an index says that a version of a chart is, and the digest of it.
fn entry(
    index: &[u8],
    name: &str,
    version: Option<&str>,
) -> Result<(String, Option<String>), String> {
    let index = charts::yaml::parse(index).map_err(|why| format!("index.yaml: {why}"))?;
    let index = values::to_json(&index);
    let versions = index["entries"][name]
        .as_array()
        .ok_or_else(|| format!("index.yaml has no chart {name:?}"))?;
    let of = |entry: &Value| entry["version"].as_str().unwrap_or_default().to_owned();
    let fits = |entry: &&Value| match version {
        None => oci::version(&of(entry)).is_some(),
        Some(wanted) => of(entry) == wanted || charts::semver::is_compatible(wanted, &of(entry)),
    };
    let found = versions
        .iter()
        .filter(fits)
        .max_by_key(|entry| oci::version(&of(entry)))
        .ok_or_else(|| match version {
            Some(version) => format!("chart {name:?} has no version {version}"),
            None => format!("chart {name:?} has no version that is no pre-release"),
        })?;
    let url = found["urls"][0].as_str();
    let url = url.ok_or_else(|| format!("index.yaml: chart {name:?} has no URL"))?;
    let digest = found["digest"].as_str().filter(|d| !d.is_empty());
    Ok((url.to_owned(), digest.map(str::to_owned)))
}

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

/// A body that is a success, whole and bounded.
async fn body(mut answer: reqwest::Response, limit: usize) -> Result<Vec<u8>, String> {
    let (status, url) = (answer.status(), shown(answer.url()));
    if !status.is_success() {
        return Err(format!("{url}: {status}"));
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(chain)? {
        if body.len() + chunk.len() > limit {
            return Err(format!("{url} is larger than {limit} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// An error with its causes.
fn chain(error: reqwest::Error) -> String {
    let url = error.url().map(shown);
    let why = format!("{:#}", anyhow::Error::from(error.without_url()));
    match url {
        Some(url) => format!("{url}: {why}"),
        None => why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_leads_neither_to_the_machine_nor_out_of_https() {
        let follows = |from: &str, to: &str| {
            let url = |text: &str| reqwest::Url::parse(text).unwrap();
            check_hop(&url(from), &url(to)).is_ok()
        };
        assert!(follows("https://a.org/x", "https://b.org/y"));
        assert!(follows("http://127.0.0.1:1/x", "http://127.0.0.1:2/y"));
        assert!(!follows("https://a.org", "http://a.org"));
        for host in [
            "127.0.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "[::1]",
            "[fe80::1]",
            "[::ffff:127.0.0.1]",
            "2130706433",
            "localhost",
        ] {
            assert!(
                !follows("http://a.org", &format!("http://{host}/")),
                "{host}"
            );
        }
        let url = reqwest::Url::parse("https://me:pw@a.org:1/x?token=t").unwrap();
        assert_eq!(shown(&url), "https://a.org:1/x");
    }

    #[test]
    fn an_index_names_the_newest_version_that_fits() {
        let index = b"entries:\n  a:\n  - {version: 1.2.0, urls: [a-1.2.0.tgz], digest: ab}\n  - {version: 1.10.0, urls: ['https://x/a.tgz']}\n  - {version: 2.0.0-rc1, urls: [rc]}\n";
        let url = |version| entry(index, "a", version).map(|(url, _)| url);
        assert_eq!(url(None).unwrap(), "https://x/a.tgz");
        assert_eq!(url(Some("1.2.x")).unwrap(), "a-1.2.0.tgz");
        assert_eq!(url(Some("2.0.0-rc1")).unwrap(), "rc");
        assert_eq!(url(Some("3")).unwrap_err(), "chart \"a\" has no version 3");
        assert!(entry(index, "b", None).is_err());
    }
}
