//! `wkctl api-resources`.

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::{columns::Columns, resources::Resource, session::Session};

/// Show the kinds of objects that the server knows
#[derive(Args)]
pub(crate) struct ApiResources {
    /// Only those that are in namespaces, or are not
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    namespaced: Option<bool>,
    /// Only those of this group; '' is the core group
    #[arg(long)]
    api_group: Option<String>,
    /// Only those with all of these verbs
    #[arg(long, value_delimiter = ',')]
    verbs: Vec<String>,
    /// Show verbs and categories too, or only names
    #[arg(short, long, value_enum)]
    output: Option<Output>,
    /// Leave out the line of column names
    #[arg(long)]
    no_headers: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Output {
    Wide,
    Name,
}

impl ApiResources {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let mut wanted: Vec<&Resource> = session
            .resources()
            .await?
            .0
            .iter()
            .filter(|resource| self.wants(resource))
            .collect();
        wanted.sort_by_key(|resource| (&resource.group, &resource.plural));
        if self.output == Some(Output::Name) {
            for resource in wanted {
                session.line(format_args!("{}", resource.qualified()))?;
            }
            return Ok(());
        }
        let wide = self.output == Some(Output::Wide);
        let mut rows = Vec::new();
        if !self.no_headers {
            let mut names = vec!["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND"];
            names.extend(if wide {
                &["VERBS", "CATEGORIES"][..]
            } else {
                &[]
            });
            rows.push(names.into_iter().map(str::to_owned).collect());
        }
        rows.extend(wanted.into_iter().map(|resource| row(resource, wide)));
        session.text(&Columns::default().format(&rows))
    }

    fn wants(&self, resource: &Resource) -> bool {
        self.namespaced
            .is_none_or(|wanted| resource.namespaced == wanted)
            && self
                .api_group
                .as_ref()
                .is_none_or(|wanted| resource.group == *wanted)
            && self.verbs.iter().all(|verb| resource.verbs.contains(verb))
    }
}

fn row(resource: &Resource, wide: bool) -> Vec<String> {
    let mut cells = vec![
        resource.plural.clone(),
        resource.short.join(","),
        resource.api_version(),
        resource.namespaced.to_string(),
        resource.kind.clone(),
    ];
    if wide {
        cells.push(resource.verbs.join(","));
        cells.push(resource.categories.join(","));
    }
    cells
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::session::fake::Server;

    #[tokio::test]
    async fn resources_are_listed_by_group() {
        let server = Server::new();
        expect![[r#"
            NAME           SHORTNAMES   APIVERSION   NAMESPACED   KIND
            configmaps     cm           v1           true         ConfigMap
            namespaces     ns           v1           false        Namespace
            nodes          no           v1           false        Node
            pods           po           v1           true         Pod
            secrets                     v1           true         Secret
            services       svc          v1           true         Service
            deployments    deploy       apps/v1      true         Deployment
            replicasets    rs           apps/v1      true         ReplicaSet
            statefulsets   sts          apps/v1      true         StatefulSet
        "#]]
        .assert_eq(&server.run("api-resources").await);
        expect![[r#"
            deployments.apps
            replicasets.apps
            statefulsets.apps
        "#]]
        .assert_eq(&server.run("api-resources --api-group=apps -o name").await);
        expect![[r#"
            namespaces   ns    v1    false   Namespace
            nodes        no    v1    false   Node
        "#]]
        .assert_eq(
            &server
                .run("api-resources --namespaced=false --no-headers")
                .await,
        );
    }
}
