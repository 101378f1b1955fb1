//! Helm's files on this machine: `repositories.yaml`, the indexes that were fetched last, registries' logins.
//!
//! They are where Helm has them, so that what Helm was told is known here, and the other way round.

use std::{
    env, fs,
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use charts::fetch::{
    INDEX, Login, Transport,
    index::{Index, Repository},
    repositories::Repositories,
};
use serde_json::Value;

/// Where Helm has its files.
pub(in crate::commands::chart) struct Places {
    /// `repositories.yaml`.
    config: PathBuf,
    /// The directory of `NAME-index.yaml`.
    cache: PathBuf,
    /// Logins of registries, the first that has one counts.
    logins: Vec<PathBuf>,
}

impl Places {
    /// As the environment says, by Helm's rules.
    pub(in crate::commands::chart) fn new() -> Result<Places> {
        Places::of(|name| {
            env::var_os(name)
                .filter(|v| !v.is_empty())
                .map(PathBuf::from)
        })
    }

    fn of(variable: impl Fn(&str) -> Option<PathBuf>) -> Result<Places> {
        let home = variable("HOME");
        let below = |own: &str, xdg: &str, default: &str| {
            variable(own)
                .or_else(|| Some(variable(xdg)?.join("helm")))
                .or_else(|| Some(home.clone()?.join(default).join("helm")))
                .with_context(|| format!("neither {own} nor HOME is set"))
        };
        let config = below("HELM_CONFIG_HOME", "XDG_CONFIG_HOME", ".config");
        let cache = below("HELM_CACHE_HOME", "XDG_CACHE_HOME", ".cache");
        let or = |name: &str, base: &Result<PathBuf>, rest: &str| match (variable(name), base) {
            (Some(path), _) => Ok(path),
            (None, Ok(base)) => Ok(base.join(rest)),
            (None, Err(error)) => Err(anyhow::anyhow!("{error}")),
        };
        let logins = [
            or("HELM_REGISTRY_CONFIG", &config, "registry/config.json").ok(),
            variable("DOCKER_CONFIG")
                .or_else(|| Some(home.clone()?.join(".docker")))
                .map(|directory| directory.join("config.json")),
        ];
        Ok(Places {
            config: or("HELM_REPOSITORY_CONFIG", &config, "repositories.yaml")?,
            cache: or("HELM_REPOSITORY_CACHE", &cache, "repository")?,
            logins: logins.into_iter().flatten().collect(),
        })
    }

    /// The repositories that were named; none if there is no file.
    pub(in crate::commands::chart) fn repositories(&self) -> Result<Repositories> {
        match read(&self.config)? {
            Some(text) => Repositories::parse(&text)
                .with_context(|| format!("read {}", self.config.display())),
            None => Ok(Repositories::default()),
        }
    }

    /// Keeps the repositories; only their owner may read passwords.
    pub(in crate::commands::chart) fn keep(&self, repositories: &Repositories) -> Result<()> {
        write(&self.config, repositories.text().as_bytes())
    }

    /// The index that was fetched last; fetched now if there is none.
    pub(in crate::commands::chart) async fn index(
        &self,
        name: &str,
        repository: &Repository,
        transport: &dyn Transport,
    ) -> Result<Index> {
        let path = self.index_path(name);
        match read(&path)? {
            Some(text) => Index::parse(&text).with_context(|| format!("read {}", path.display())),
            None => self.update(name, repository, transport).await,
        }
    }

    /// Fetches an index and keeps it.
    pub(in crate::commands::chart) async fn update(
        &self,
        name: &str,
        repository: &Repository,
        transport: &dyn Transport,
    ) -> Result<Index> {
        let (text, index) = repository
            .index(transport)
            .await
            .with_context(|| format!("read the repository {name} at {}", repository.url))?;
        write(&self.index_path(name), &text)?;
        let mut names = String::new();
        for chart in index.charts() {
            names.push_str(chart);
            names.push('\n');
        }
        write(
            &self.cache.join(format!("{name}-charts.txt")),
            names.as_bytes(),
        )?;
        Ok(index)
    }

    /// Forgets what was kept of a repository.
    pub(in crate::commands::chart) fn forget(&self, name: &str) -> Result<()> {
        for path in [
            self.index_path(name),
            self.cache.join(format!("{name}-charts.txt")),
        ] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("remove {}", path.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn index_path(&self, name: &str) -> PathBuf {
        self.cache.join(format!("{name}-index.yaml"))
    }

    /// What Helm or Docker was told for a registry; credential helpers are not asked.
    pub(in crate::commands::chart) fn login(&self, host: &str) -> Result<Option<Login>> {
        for path in &self.logins {
            let Some(text) = read(path)? else {
                continue;
            };
            let file: Value = serde_json::from_slice(&text)
                .with_context(|| format!("read {}", path.display()))?;
            if let Some(login) = login(&file["auths"][host]) {
                return Ok(Some(login));
            }
        }
        Ok(None)
    }
}

fn login(entry: &Value) -> Option<Login> {
    let both = BASE64_STANDARD.decode(entry["auth"].as_str()?).ok()?;
    let both = String::from_utf8(both).ok()?;
    let (name, password) = both.split_once(':')?;
    Some(Login {
        name: name.to_owned(),
        password: password.to_owned(),
    })
}

/// A file's bytes; `None` if it is not there.
fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let failed = || format!("read {}", path.display());
    match fs::metadata(path) {
        Ok(found) if found.len() > INDEX as u64 => {
            anyhow::bail!("{} is larger than {INDEX} bytes", path.display())
        }
        Ok(_) => fs::read(path).map(Some).with_context(failed),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(failed),
    }
}

/// Replaces a file whole: who reads it meanwhile sees the old one.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = || format!("write {}", path.display());
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory).with_context(failed)?;
    // Readable by its owner alone, as tempfile makes them.
    let mut file = tempfile::NamedTempFile::new_in(directory).with_context(failed)?;
    file.write_all(bytes).with_context(failed)?;
    file.persist(path).with_context(failed)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(variables: &[(&str, &str)]) -> String {
        let of = |name: &str| {
            let mut found = variables.iter().filter(|(known, _)| *known == name);
            found.next().map(|(_, value)| PathBuf::from(value))
        };
        match Places::of(of) {
            Ok(places) => format!("{} {}", places.config.display(), places.cache.display()),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn files_are_where_helm_has_them() {
        assert_eq!(
            places(&[("HOME", "/h")]),
            "/h/.config/helm/repositories.yaml /h/.cache/helm/repository"
        );
        assert_eq!(
            places(&[
                ("HOME", "/h"),
                ("XDG_CONFIG_HOME", "/x"),
                ("HELM_CACHE_HOME", "/c")
            ]),
            "/x/helm/repositories.yaml /c/repository"
        );
        assert_eq!(
            places(&[
                ("HELM_REPOSITORY_CONFIG", "/r.yaml"),
                ("HELM_REPOSITORY_CACHE", "/i")
            ]),
            "/r.yaml /i"
        );
        assert_eq!(places(&[]), "neither HELM_CONFIG_HOME nor HOME is set");
    }

    #[test]
    fn a_login_is_read_as_docker_keeps_it() {
        let entry = serde_json::json!({"auth": BASE64_STANDARD.encode("me:a:b")});
        let login = login(&entry).unwrap();
        assert_eq!(
            (login.name.as_str(), login.password.as_str()),
            ("me", "a:b")
        );
    }
}
