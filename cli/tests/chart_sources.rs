//! `wkctl chart` with real repositories and a real registry: packaged, pushed, found, pulled, depended on.

#![expect(clippy::unwrap_used, reason = "a test: what is missing fails it")]

use std::{collections::BTreeMap, fs, path::Path, process::Stdio, sync::Arc};

use async_trait::async_trait;
use axum::Router;
use http::Extensions;
use registry::{
    Access, Action, Caller, Config, Registry, Repository, Scheme, Storage, Unavailable,
    metrics::RegistryMetrics,
};
use tokio::{net::TcpListener, process::Command, task::JoinSet};

/// Who may do everything.
struct Anyone;

impl Caller for Anyone {
    fn name(&self) -> &'static str {
        "anyone"
    }

    fn may(&self, _: Action, _: &Repository) -> Result<(), String> {
        Ok(())
    }
}

#[async_trait]
impl Access for Anyone {
    async fn identify(&self, _: &Extensions, _: Option<&str>) -> Option<Arc<dyn Caller>> {
        Some(Arc::new(Anyone))
    }

    async fn namespace(&self, name: &str) -> Result<Option<String>, Unavailable> {
        Ok((name == "team").then(|| "1".to_owned()))
    }

    async fn namespaces(&self) -> Result<BTreeMap<String, String>, Unavailable> {
        Ok([("team".to_owned(), "1".to_owned())].into())
    }

    async fn quotas(&self, _: &str) -> Result<Vec<(String, u64)>, Unavailable> {
        Ok(Vec::new())
    }
}

/// A directory with charts in it, and servers.
struct Place {
    directory: tempfile::TempDir,
    servers: JoinSet<()>,
}

impl Place {
    fn new() -> Place {
        Place {
            directory: tempfile::tempdir().unwrap(),
            servers: JoinSet::new(),
        }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).unwrap()
    }

    /// A chart `web` of that version, packaged into `served/`.
    async fn package(&self, version: &str) {
        self.write(
            "web/Chart.yaml",
            &format!("apiVersion: v2\nname: web\nversion: {version}\n"),
        );
        self.write(
            "web/templates/a.yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {version: '{{ .Chart.Version }}'}\n",
        );
        self.run("package web -d served").await;
    }

    /// Serves; the address.
    async fn serve(&mut self, router: Router) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        self.servers.spawn(async move {
            axum::serve(listener, router).await.unwrap();
        });
        address
    }

    /// Serves the files of `served/`.
    async fn repository(&mut self) -> String {
        let root = self.path().join("served");
        let file = move |path: axum::extract::Path<String>| {
            let bytes = fs::read(root.join(path.0));
            async move { bytes.map_err(|_| http::StatusCode::NOT_FOUND) }
        };
        let router = Router::new().route("/{*path}", axum::routing::get(file));
        format!("http://{}", self.serve(router).await)
    }

    async fn registry(&mut self) -> String {
        let content = self.path().join("content");
        let storage = Storage::open(content.to_str().unwrap()).unwrap();
        let access = Arc::new(Anyone);
        let metrics = RegistryMetrics::default();
        let registry = Registry::new(storage, access, Config::default(), metrics);
        self.serve(registry.router(Scheme::Http)).await
    }

    /// Runs `wkctl chart`; whether it succeeded, and what it printed.
    async fn try_run(&self, arguments: &str) -> (bool, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_wkctl"))
            .arg("chart")
            .args(arguments.split(' '))
            .current_dir(self.path())
            .env_clear()
            .env("HOME", self.path())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .unwrap();
        let mut text = String::from_utf8(output.stdout).unwrap();
        text.push_str(&String::from_utf8(output.stderr).unwrap());
        (output.status.success(), text)
    }

    async fn run(&self, arguments: &str) -> String {
        let (success, text) = self.try_run(arguments).await;
        assert!(success, "wkctl chart {arguments}: {text}");
        text
    }

    async fn refused(&self, arguments: &str) -> String {
        let (success, text) = self.try_run(arguments).await;
        assert!(!success, "wkctl chart {arguments}: {text}");
        text
    }
}

/// An index with two releases, of which one has a wrong digest, and a pre-release.
const INDEX: &str = "apiVersion: v1
entries:
  web:
  - {name: web, version: 1.0.0, urls: [web-1.0.0.tgz]}
  - {name: web, version: 1.2.0, urls: [web-1.2.0.tgz]}
  - {name: web, version: 2.0.0-rc1, urls: [web-1.2.0.tgz]}
  - {name: web, version: 0.9.0, urls: [web-1.0.0.tgz], digest: '00'}
";

async fn repository() -> (Place, String) {
    let mut place = Place::new();
    place.package("1.0.0").await;
    place.package("1.2.0").await;
    place.write("served/index.yaml", INDEX);
    let url = place.repository().await;
    (place, url)
}

#[tokio::test]
async fn a_chart_is_found_in_a_repository_by_its_name() {
    let (place, url) = repository().await;
    assert!(
        place
            .refused("repo list")
            .await
            .contains("no repositories to show")
    );
    place.run(&format!("repo add shop {url}")).await;
    assert!(place.run("repo list").await.contains(&url));
    assert!(
        place
            .run("template shop/web")
            .await
            .contains("version: '1.2.0'")
    );
    let older = place.run("template shop/web --version ~1.0").await;
    assert!(older.contains("version: '1.0.0'"), "{older}");
    // Here, `web` is a directory.
    fs::remove_dir_all(place.path().join("web")).unwrap();
    let shown = place.run(&format!("show chart web --repo {url}")).await;
    assert!(shown.contains("version: 1.2.0"), "{shown}");
    let shown = place.run(&format!("show chart {url}/web-1.0.0.tgz")).await;
    assert!(shown.contains("version: 1.0.0"));
    place
        .run("pull shop/web --version 1.0.0 --untar --untardir out")
        .await;
    assert!(place.read("out/web/Chart.yaml").contains("version: 1.0.0"));
    let again = place.refused("pull shop/web --untar --untardir out").await;
    assert!(again.contains("already exists"), "{again}");
    let wrong = place.refused("pull shop/web --version 0.9.0").await;
    assert!(wrong.contains("its digest differs"), "{wrong}");
    let none = place.refused("template shop/web --version 7").await;
    assert!(none.contains("chart \"web\" has no version 7"), "{none}");
    let unknown = place.refused("template else/web").await;
    assert!(
        unknown.contains("no repository is named \"else\""),
        "{unknown}"
    );
    // What is there since is seen after an update.
    place.package("1.3.0").await;
    place.write("served/index.yaml", &INDEX.replace("1.2.0", "1.3.0"));
    assert!(
        place
            .run("template shop/web")
            .await
            .contains("version: '1.2.0'")
    );
    place.run("repo update").await;
    assert!(
        place
            .run("template shop/web")
            .await
            .contains("version: '1.3.0'")
    );
    place.run("repo remove shop").await;
    assert!(
        !place
            .path()
            .join(".cache/helm/repository/shop-index.yaml")
            .exists()
    );
    place.refused("template shop/web").await;
}

#[tokio::test]
async fn a_chart_goes_through_a_registry_and_back() {
    let mut place = Place::new();
    place.package("1.0.0").await;
    place.package("1.1.0+b.1").await;
    let host = place.registry().await;
    for version in ["1.0.0", "1.1.0+b.1"] {
        let pushed = format!("push served/web-{version}.tgz oci://{host}/team --plain-http");
        let pushed = place.run(&pushed).await;
        let tag = version.replace('+', "_");
        assert!(
            pushed.contains(&format!("Pushed: {host}/team/web:{tag}")),
            "{pushed}"
        );
    }
    let template = |version: &str| format!("template oci://{host}/team/web --plain-http{version}");
    assert!(
        place
            .run(&template(""))
            .await
            .contains("version: '1.1.0+b.1'")
    );
    let older = place.run(&template(" --version <1.1")).await;
    assert!(older.contains("version: '1.0.0'"), "{older}");
    let pulled = format!("pull oci://{host}/team/web --plain-http --version 1.1.0+b.1 -d out");
    let pulled = place.run(&pulled).await;
    assert!(pulled.contains("Digest: sha256:"), "{pulled}");
    let [there, back] = ["served", "out"]
        .map(|directory| fs::read(place.path().join(directory).join("web-1.1.0+b.1.tgz")).unwrap());
    assert_eq!(there, back);
    let none = place.refused(&template(" --version 9")).await;
    assert!(none.contains("has no version 9"), "{none}");
}

#[tokio::test]
async fn dependencies_come_from_repositories_registries_and_directories() {
    let (mut place, url) = repository().await;
    let host = place.registry().await;
    place
        .run(&format!(
            "push served/web-1.0.0.tgz oci://{host}/team --plain-http"
        ))
        .await;
    place.run(&format!("repo add shop {url}")).await;
    place.write(
        "near/Chart.yaml",
        "apiVersion: v2\nname: near\nversion: 0.1.0\n",
    );
    place.write(
        "all/Chart.yaml",
        &format!(
            "apiVersion: v2\nname: all\nversion: 0.1.0\ndependencies:\n\
             - {{name: web, version: '>=1.1', repository: '@shop', alias: front}}\n\
             - {{name: web, version: 1.0.x, repository: 'oci://{host}/team'}}\n\
             - {{name: near, version: 0.x, repository: 'file://../near'}}\n"
        ),
    );
    assert!(place.run("dependency list all").await.contains("missing"));
    place.write("all/charts/.keep", "");
    fs::copy(
        place.path().join("served/web-1.0.0.tgz"),
        place.path().join("all/charts/stale-9.tgz"),
    )
    .unwrap();
    place.run("dependency update all --plain-http").await;
    let archives = || {
        let entries = fs::read_dir(place.path().join("all/charts")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name.ends_with(".tgz")).collect();
        names.sort();
        names
    };
    let whole = ["near-0.1.0.tgz", "web-1.0.0.tgz", "web-1.2.0.tgz"];
    assert_eq!(archives(), whole);
    let lock = place.read("all/Chart.lock");
    assert!(
        lock.contains("version: 1.2.0") && lock.contains(&url),
        "{lock}"
    );
    // The same again changes nothing, not even the moment it was made.
    place.run("dependency update all --plain-http").await;
    assert_eq!(place.read("all/Chart.lock"), lock);
    fs::remove_dir_all(place.path().join("all/charts")).unwrap();
    place.run("dependency build all --plain-http").await;
    assert_eq!(archives(), whole);
    let changed = place.read("all/Chart.yaml").replace(">=1.1", ">=1.0");
    place.write("all/Chart.yaml", &changed);
    let out = place.refused("dependency build all --plain-http").await;
    assert!(out.contains("out of sync"), "{out}");
}

#[tokio::test]
async fn a_new_chart_renders() {
    let place = Place::new();
    place.run("create shop").await;
    place.run("lint shop").await;
    let rendered = place.run("template my shop").await;
    assert!(rendered.contains("name: my-shop"), "{rendered}");
    place.refused("create Shop").await;
}
