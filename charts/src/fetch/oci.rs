//! Charts in registries: manifests whose layer is a chart's archive, as Helm stores them.

use serde_json::{Value, json};

use super::{ARCHIVE, Answer, Error, INDEX, Login, Request, Transport, digest, success};
use crate::{
    chart::Chart,
    semver::{Constraints, Version},
};

/// The media type of a manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of a chart's archive.
pub const CHART: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
/// The media type of a chart's metadata.
pub const CONFIG: &str = "application/vnd.cncf.helm.config.v1+json";

/// The cluster's own registry.
pub const OWN: &str = "registry.wk.internal";

/// A reference's parts: host, path, and tag or digest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reference {
    pub host: String,
    pub path: String,
    /// A tag, a range of versions, or `sha256:…`.
    pub version: Option<String>,
}

impl Reference {
    /// Reads `oci://HOST/PATH[:TAG|@DIGEST]`; `version` is used where it names none.
    pub fn parse(text: &str, version: Option<&str>) -> Option<Reference> {
        let (host, rest) = text.strip_prefix("oci://")?.split_once('/')?;
        let (path, own) = match rest.split_once('@') {
            Some((path, digest)) => (path, Some(digest)),
            None => match rest.rsplit_once(':') {
                Some((path, tag)) => (path, Some(tag)),
                None => (rest, None),
            },
        };
        let path = path.trim_end_matches('/');
        if host.is_empty() || path.is_empty() {
            return None;
        }
        Some(Reference {
            host: host.to_owned(),
            path: path.to_owned(),
            version: own.or(version).map(str::to_owned),
        })
    }

    /// Whether it is in the cluster's own registry.
    pub fn own(&self) -> bool {
        matches!(
            self.host.as_str(),
            OWN | "localhost:5000" | "127.0.0.1:5000"
        )
    }
}

/// A tag has no plus sign: Helm writes an underscore.
fn tag(version: &str) -> String {
    version.replace('+', "_")
}

/// A registry, with what it takes to be let in.
pub struct Registry<'a> {
    transport: &'a dyn Transport,
    /// Before paths: empty for the cluster's own.
    base: String,
    login: Option<&'a Login>,
    authorization: Option<String>,
}

/// What was pulled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pulled {
    /// `HOST/PATH:TAG`.
    pub reference: String,
    /// Of the manifest.
    pub digest: String,
    pub archive: Vec<u8>,
}

impl<'a> Registry<'a> {
    /// The registry that a reference is in; `plain` is HTTP without TLS.
    pub fn new(
        transport: &'a dyn Transport,
        reference: &Reference,
        login: Option<&'a Login>,
        plain: bool,
    ) -> Registry<'a> {
        let own = reference.own();
        let scheme = if plain { "http" } else { "https" };
        Registry {
            transport,
            base: match own {
                true => String::new(),
                false => format!("{scheme}://{}", reference.host),
            },
            login,
            authorization: login.filter(|_| !own).map(Login::basic),
        }
    }

    /// Fetches the chart's archive.
    pub async fn pull(&mut self, reference: &Reference) -> Result<Pulled, Error> {
        let path = &reference.path;
        let tag = self.find(reference).await?;
        let mut request = self.get(&format!("/v2/{path}/manifests/{tag}"), INDEX);
        request.accept = MANIFEST;
        let manifest = self.send(request).await?.body;
        let found = digest(&manifest);
        if tag.starts_with("sha256:") && tag != found {
            return Err(differs("the manifest"));
        }
        let manifest: Value = serde_json::from_slice(&manifest)
            .map_err(|why| Error::Invalid(format!("read the manifest: {why}")))?;
        let layer = layer(&manifest).ok_or_else(|| {
            Error::Invalid("it is no chart: no layer is a chart's archive".to_owned())
        })?;
        let request = self.get(&format!("/v2/{path}/blobs/{layer}"), ARCHIVE);
        let archive = self.send(request).await?.body;
        if digest(&archive) != layer {
            return Err(differs("the archive"));
        }
        let separator = if tag.starts_with("sha256:") { '@' } else { ':' };
        Ok(Pulled {
            reference: format!("{}/{path}{separator}{tag}", reference.host),
            digest: found,
            archive,
        })
    }

    /// The tag or digest that a reference means: of a range, the newest version within it.
    pub async fn find(&mut self, reference: &Reference) -> Result<String, Error> {
        let wanted = reference.version.as_deref();
        if let Some(wanted) = wanted {
            let range = Version::parse(wanted).is_err() || wanted.split('.').count() < 3;
            if !range || Constraints::parse(wanted).is_err() {
                return Ok(tag(wanted));
            }
        }
        let path = &reference.path;
        let mut request = self.get(&format!("/v2/{path}/tags/list"), INDEX);
        request.accept = "application/json";
        let list = self.send(request).await?.body;
        let list: Value = serde_json::from_slice(&list)
            .map_err(|why| Error::Invalid(format!("read the list of tags: {why}")))?;
        let tags = list["tags"].as_array().into_iter().flatten();
        let tags: Vec<&str> = tags.filter_map(Value::as_str).collect();
        // What is no version is a tag: `latest`, `1`.
        if let Some(wanted) = wanted.filter(|wanted| tags.contains(wanted)) {
            return Ok(wanted.to_owned());
        }
        newest(tags.into_iter(), wanted.unwrap_or("*"))
            .map(str::to_owned)
            .ok_or_else(|| {
                Error::NotFound(match wanted {
                    Some(wanted) => format!("{}/{path} has no version {wanted}", reference.host),
                    None => format!("{}/{path}: no tag is a version", reference.host),
                })
            })
    }

    /// Stores a chart under its version, below the reference: `oci://HOST/PATH` and chart `web` make `HOST/PATH/web`.
    /// Answers reference and digest.
    pub async fn push(
        &mut self,
        below: &Reference,
        archive: Vec<u8>,
        created: &str,
    ) -> Result<(String, String), Error> {
        let chart =
            Chart::load_archive(&archive).map_err(|error| Error::Invalid(error.to_string()))?;
        let metadata = &chart.metadata;
        let path = match below.path.as_str() {
            "" => metadata.name.clone(),
            path => format!("{path}/{}", metadata.name),
        };
        let config = serde_json::to_vec(metadata)
            .map_err(|why| Error::Invalid(format!("write the metadata: {why}")))?;
        let mut annotations = serde_json::Map::new();
        for (name, text) in [
            ("created", created),
            ("description", &metadata.description),
            ("title", &metadata.name),
            ("url", &metadata.home),
            ("version", &metadata.version),
        ] {
            if !text.is_empty() {
                annotations.insert(format!("org.opencontainers.image.{name}"), text.into());
            }
        }
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": digest(&config), "size": config.len()},
            "layers": [{"mediaType": CHART, "digest": digest(&archive), "size": archive.len()}],
            "annotations": annotations,
        });
        let manifest = manifest.to_string().into_bytes();
        let pushed = digest(&manifest);
        self.blob(&path, config).await?;
        self.blob(&path, archive).await?;
        let tag = tag(&metadata.version);
        let mut request = self.get(&format!("/v2/{path}/manifests/{tag}"), INDEX);
        request.method = "PUT";
        request.content_type = Some(MANIFEST);
        request.body = manifest;
        self.send(request).await?;
        Ok((format!("{}/{path}:{tag}", below.host), pushed))
    }

    async fn blob(&mut self, path: &str, bytes: Vec<u8>) -> Result<(), Error> {
        let digest = digest(&bytes);
        let mut request = self.get(&format!("/v2/{path}/blobs/{digest}"), 1 << 20);
        request.method = "HEAD";
        match self.send(request).await {
            Ok(_) => return Ok(()),
            Err(Error::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
        let mut request = self.get(&format!("/v2/{path}/blobs/uploads/"), 1 << 20);
        request.method = "POST";
        let begun = self.send(request).await?;
        let location = begun.location.filter(|location| !location.is_empty());
        let location = location.ok_or_else(|| {
            Error::Invalid("the registry did not say where to send a blob".to_owned())
        })?;
        let separator = if location.contains('?') { '&' } else { '?' };
        let url = format!("{location}{separator}digest={digest}");
        let elsewhere = !url.starts_with('/');
        let within = elsewhere && !self.base.is_empty() && super::same_origin(&url, &self.base);
        let mut request = match (elsewhere, within) {
            (false, _) => self.get(&url, 1 << 20),
            (true, true) => Request {
                authorization: self.authorization.clone(),
                ..Request::get(url, 1 << 20)
            },
            // What lets us into the registry is not for others.
            (true, false) => Request::get(url, 1 << 20),
        };
        request.method = "PUT";
        request.content_type = Some("application/octet-stream");
        request.body = bytes;
        self.send(request).await.map(drop)
    }

    fn get(&self, path: &str, limit: usize) -> Request {
        Request {
            authorization: self.authorization.clone(),
            ..Request::get(format!("{}{path}", self.base), limit)
        }
    }

    /// Sends; asked to log in, does so and sends once more.
    async fn send(&mut self, mut request: Request) -> Result<Answer, Error> {
        let url = request.url.clone();
        let lost = Error::Unavailable;
        let answer = self.transport.send(request.clone()).await.map_err(lost)?;
        let challenge = answer.challenge.clone().unwrap_or_default();
        let bearer = challenge
            .get(..6)
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer"));
        if answer.status != 401 || self.base.is_empty() || !bearer {
            return success(&url, answer);
        }
        let token = self.token(&challenge).await?;
        self.authorization = Some(format!("Bearer {token}"));
        request.authorization = self.authorization.clone();
        let answer = self.transport.send(request).await.map_err(lost)?;
        success(&url, answer)
    }

    /// Asks a registry's token service, as its challenge says: `Bearer realm="…",service="…",scope="…"`.
    async fn token(&self, challenge: &str) -> Result<String, Error> {
        let parameter = |name: &str| {
            let (_, rest) = challenge.split_once(&format!("{name}=\""))?;
            rest.split_once('"').map(|(value, _)| value)
        };
        let realm = parameter("realm")
            .ok_or_else(|| Error::Invalid("the registry wants a login".to_owned()))?;
        let mut url = realm.to_owned();
        for name in ["service", "scope"] {
            if let Some(value) = parameter(name) {
                url.push(if url.contains('?') { '&' } else { '?' });
                url.push_str(&format!("{name}={}", encoded(value)));
            }
        }
        // A password goes nowhere in the clear, unless all of it does.
        let safe = url.starts_with("https://") || self.base.starts_with("http://");
        let login = self.login.filter(|_| safe);
        let answer = super::get(self.transport, &url, 1 << 20, login).await?;
        let answer: Value = serde_json::from_slice(&answer)
            .map_err(|why| Error::Invalid(format!("{realm}: {why}")))?;
        let token = answer["token"].as_str().or(answer["access_token"].as_str());
        token
            .map(str::to_owned)
            .ok_or_else(|| Error::Invalid(format!("{realm} gave no token")))
    }
}

fn encoded(value: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' | b':' => {
            char::from(byte).to_string()
        }
        byte => format!("%{byte:02X}"),
    };
    value.bytes().map(encode).collect()
}

fn differs(what: &str) -> Error {
    Error::Invalid(format!("{what} is not what its digest says"))
}

/// The digest of the archive that a manifest names.
fn layer(manifest: &Value) -> Option<&str> {
    let layers = manifest["layers"].as_array()?;
    let layer = layers.iter().find(|layer| layer["mediaType"] == CHART)?;
    layer["digest"].as_str()
}

/// The highest version of some tags that is within a range.
fn newest<'a>(tags: impl Iterator<Item = &'a str>, range: &str) -> Option<&'a str> {
    let range = Constraints::parse(range).ok()?;
    tags.filter_map(|tag| Some((strict(&tag.replace('_', "+"))?, tag)))
        .filter(|(version, _)| range.allow(version))
        .max_by(|(one, _), (other, _)| one.compare(other))
        .map(|(_, tag)| tag)
}

/// A version of three numbers: `1` and `latest` are tags of something else.
fn strict(text: &str) -> Option<Version> {
    let release = text.split(['-', '+']).next()?;
    (release.split('.').count() == 3)
        .then(|| Version::parse(text).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read() {
        let read = |text, version| {
            let reference = Reference::parse(text, version)?;
            let version = reference.version.clone().unwrap_or_default();
            let own = reference.own();
            Some(format!(
                "{} {} {version} {own}",
                reference.host, reference.path
            ))
        };
        assert_eq!(
            read("oci://registry.wk.internal/team/nginx", Some("1.2+b")).unwrap(),
            "registry.wk.internal team/nginx 1.2+b true"
        );
        assert_eq!(
            read("oci://a:5/b/c:1", Some("2")).unwrap(),
            "a:5 b/c 1 false"
        );
        assert_eq!(
            read("oci://a/b@sha256:ab", None).unwrap(),
            "a b sha256:ab false"
        );
        assert_eq!(read("nginx", None), None);
    }

    #[test]
    fn the_newest_tag_is_the_highest_version_of_the_range() {
        let tags = ["1.9.0", "1.10.0_b", "2.0.0-rc1", "latest", "v1.2.3", "3"];
        let newest = |range| newest(tags.into_iter(), range);
        assert_eq!(newest("*"), Some("1.10.0_b"));
        assert_eq!(newest("1.9.x"), Some("1.9.0"));
        assert_eq!(newest(">0.0.0-0"), Some("2.0.0-rc1"));
        assert_eq!(newest("4"), None);
    }
}
