//! Repositories: an `index.yaml` over HTTP that says where archives are.

use serde_json::Value;

use super::{ARCHIVE, Error, INDEX, Login, Transport, digest, get, resolve, same_origin};
use crate::{
    semver::{Constraints, Version},
    values, yaml,
};

/// A repository's address, and what it takes to be let in.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Repository {
    pub url: String,
    pub login: Option<Login>,
    /// Whether the login also goes to other hosts that the index names.
    pub pass_everywhere: bool,
}

/// What a repository has.
#[derive(Clone, PartialEq, Debug)]
pub struct Index(Value);

/// A version of a chart, as an index says it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    pub version: String,
    pub url: String,
    digest: Option<String>,
}

impl Repository {
    fn document(&self) -> String {
        format!("{}/index.yaml", self.url.trim_end_matches('/'))
    }

    /// Fetches the index, as it is and as it is read.
    pub async fn index(&self, transport: &dyn Transport) -> Result<(Vec<u8>, Index), Error> {
        let document = self.document();
        let text = get(transport, &document, INDEX, self.login.as_ref()).await?;
        let index = Index::parse(&text)?;
        Ok((text, index))
    }

    /// Fetches a version's archive.
    pub async fn archive(
        &self,
        transport: &dyn Transport,
        entry: &Entry,
    ) -> Result<Vec<u8>, Error> {
        let url = self.address(entry);
        let login = self.login.as_ref();
        let login = login.filter(|_| self.pass_everywhere || same_origin(&url, &self.url));
        let archive = get(transport, &url, ARCHIVE, login).await?;
        if let Some(wanted) = &entry.digest
            && digest(&archive).trim_start_matches("sha256:")
                != wanted.trim_start_matches("sha256:")
        {
            return Err(Error::Invalid(format!(
                "{url} is not what index.yaml says: its digest differs"
            )));
        }
        Ok(archive)
    }

    /// Where a version's archive is.
    pub fn address(&self, entry: &Entry) -> String {
        resolve(&self.document(), &entry.url)
    }
}

impl Index {
    /// Reads `index.yaml`.
    pub fn parse(text: &[u8]) -> Result<Index, Error> {
        let index =
            yaml::parse(text).map_err(|why| Error::Invalid(format!("index.yaml: {why}")))?;
        let index = values::to_json(&index);
        if !index["entries"].is_object() {
            return Err(Error::Invalid(
                "index.yaml is no index of charts: it has no entries".to_owned(),
            ));
        }
        Ok(Index(index))
    }

    /// The names of the charts.
    pub fn charts(&self) -> impl Iterator<Item = &str> {
        let entries = self.0["entries"].as_object();
        entries
            .into_iter()
            .flat_map(|entries| entries.keys().map(String::as_str))
    }

    /// The version named, or the newest of those within a range; the newest release if `version` is `None`.
    pub fn find(&self, name: &str, version: Option<&str>) -> Result<Entry, Error> {
        let versions = self.0["entries"][name]
            .as_array()
            .ok_or_else(|| Error::NotFound(format!("index.yaml has no chart {name:?}")))?;
        let of = |entry: &Value| entry["version"].as_str().unwrap_or_default().to_owned();
        let exact = version.and_then(|wanted| versions.iter().find(|entry| of(entry) == wanted));
        let range = Constraints::parse(version.unwrap_or("*")).ok();
        let newest = || {
            let range = range.as_ref()?;
            let parsed = versions.iter();
            let parsed = parsed.filter_map(|entry| Some((Version::parse(&of(entry)).ok()?, entry)));
            let fitting = parsed.filter(|(version, _)| range.allow(version));
            // Of equal versions, the first one that the index has.
            fitting
                .reduce(|best, next| match next.0.compare(&best.0).is_gt() {
                    true => next,
                    false => best,
                })
                .map(|(_, entry)| entry)
        };
        let found = exact.or_else(newest).ok_or_else(|| {
            Error::NotFound(match version {
                Some(version) => format!("chart {name:?} has no version {version}"),
                None => format!("chart {name:?} has no version that is no pre-release"),
            })
        })?;
        let url = found["urls"][0]
            .as_str()
            .ok_or_else(|| Error::Invalid(format!("index.yaml: chart {name:?} has no URL")))?;
        let digest = found["digest"].as_str().filter(|d| !d.is_empty());
        Ok(Entry {
            version: of(found),
            url: url.to_owned(),
            digest: digest.map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_names_the_newest_version_that_fits() {
        let index = b"entries:\n  a:\n  - {version: 1.2.0, urls: [a-1.2.0.tgz], digest: ab}\n  - {version: 1.10.0, urls: ['https://x/a.tgz']}\n  - {version: 2.0.0-rc1, urls: [rc]}\n";
        let index = Index::parse(index).unwrap();
        let url = |version| {
            let entry = index.find("a", version);
            entry.map(|entry| entry.url).map_err(|e| e.to_string())
        };
        assert_eq!(url(None).unwrap(), "https://x/a.tgz");
        assert_eq!(url(Some("1.2.x")).unwrap(), "a-1.2.0.tgz");
        assert_eq!(url(Some("2.0.0-rc1")).unwrap(), "rc");
        assert_eq!(url(Some(">0.0.0-0")).unwrap(), "rc");
        assert_eq!(url(Some("3")).unwrap_err(), "chart \"a\" has no version 3");
        assert!(index.find("b", None).is_err());
        assert!(Index::parse(b"<html>").is_err());
    }
}
