//! Which objects the user means: `pods`, `pods a b`, `pod/a svc/b`, `deploy,svc`, `all`, or those of files.

use anyhow::{Result, bail};
use clap::Args;

use crate::{
    apply,
    resources::{Resource, Resources},
    session::{Failures, Session},
};

/// The arguments that name objects.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Selection {
    /// TYPE, TYPE NAME…, TYPE/NAME… or TYPE,TYPE
    #[arg(value_name = "TYPE[/NAME]")]
    names: Vec<String>,
    /// File, directory, URL or - for stdin that names the objects; may be given several times
    #[arg(
        short,
        long = "filename",
        value_name = "FILE",
        conflicts_with = "names"
    )]
    filenames: Vec<String>,
    /// Look into subdirectories too
    #[arg(short = 'R', long, requires = "filenames")]
    recursive: bool,
    /// Only objects with these labels: a=b,c!=d,e in (f,g),h
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    /// Only objects with these fields: metadata.name=a,status.phase!=Running
    #[arg(long, value_name = "FIELDS")]
    field_selector: Option<String>,
    /// Of all namespaces
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
}

/// One object, or all of a resource.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Pick {
    pub(crate) resource: Resource,
    /// `None`: of all namespaces, or the resource has none.
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    /// The file that names it.
    pub(crate) source: Option<String>,
}

/// What the arguments name.
pub(crate) struct Picks {
    pub(crate) picks: Vec<Pick>,
    /// True if the objects may be of several kinds, so that output names each one's kind.
    pub(crate) several_kinds: bool,
    /// What is wrong with some of the files.
    pub(crate) failures: Failures,
}

impl Pick {
    /// The path of the object or collection.
    pub(crate) fn path(&self) -> String {
        let collection = self.resource.collection(self.namespace.as_deref());
        match &self.name {
            Some(name) => format!("{collection}/{name}"),
            None => collection,
        }
    }
}

impl Selection {
    /// Finds what the arguments name; `verb` is for the message when they name nothing.
    pub(crate) async fn resolve(&self, session: &Session, verb: &str) -> Result<Picks> {
        let resources = session.resources().await?;
        let namespace = session.namespace().await?;
        if !self.filenames.is_empty() {
            return self.of_files(session, resources, &namespace).await;
        }
        let named = parse(resources, &self.names, verb)?;
        if named.iter().any(|(_, name)| name.is_some()) {
            if self.selector.is_some() || self.field_selector.is_some() {
                bail!("name cannot be provided when a selector is specified");
            }
            if self.all_namespaces {
                bail!("a resource cannot be retrieved by name across all namespaces");
            }
        }
        let several_kinds = self.names.iter().any(|name| name == "all")
            || named.windows(2).any(|two| two[0].0 != two[1].0);
        let namespace = Some(namespace).filter(|_| !self.all_namespaces);
        let picks = named.into_iter().map(|(resource, name)| Pick {
            namespace: namespace.clone().filter(|_| resource.namespaced),
            resource,
            name,
            source: None,
        });
        Ok(Picks {
            picks: picks.collect(),
            several_kinds,
            failures: Failures::default(),
        })
    }

    async fn of_files(
        &self,
        session: &Session,
        resources: &Resources,
        namespace: &str,
    ) -> Result<Picks> {
        let forced = session.namespace_given();
        let (targets, errors) = apply::targets(
            resources,
            &self.filenames,
            self.recursive,
            namespace,
            forced,
        )
        .await?;
        let source = self.filenames.join(",");
        let picks: Vec<Pick> = targets
            .into_iter()
            .map(|target| Pick {
                namespace: Some(target.namespace).filter(|_| target.resource.namespaced),
                resource: target.resource,
                name: Some(target.name),
                source: Some(source.clone()),
            })
            .collect();
        Ok(Picks {
            several_kinds: picks
                .windows(2)
                .any(|two| two[0].resource != two[1].resource),
            picks,
            failures: Failures(errors.into_iter().map(anyhow::Error::msg).collect()),
        })
    }

    /// True if a label or field selector narrows the choice.
    pub(crate) fn has_selector(&self) -> bool {
        self.selector.is_some() || self.field_selector.is_some()
    }

    /// The selectors as query parameters.
    pub(crate) fn parameters(&self) -> [(&str, &str); 2] {
        [
            (
                "labelSelector",
                self.selector.as_deref().unwrap_or_default(),
            ),
            (
                "fieldSelector",
                self.field_selector.as_deref().unwrap_or_default(),
            ),
        ]
    }
}

/// Reads TYPE and NAME arguments. Pure.
pub(crate) fn parse(
    resources: &Resources,
    names: &[String],
    verb: &str,
) -> Result<Vec<(Resource, Option<String>)>> {
    let Some((first, rest)) = names.split_first() else {
        bail!(
            "You must specify the type of resource to {verb}. Use \"wkctl api-resources\" for a complete list of supported resources."
        );
    };
    if names.iter().any(|name| name.contains('/')) {
        return names.iter().map(|name| slashed(resources, name)).collect();
    }
    let mut found = Vec::new();
    for kind in first.split(',').filter(|kind| !kind.is_empty()) {
        let category = resources.category(kind);
        let of_kind: Vec<&Resource> = if category.is_empty() {
            vec![resources.find(kind)?]
        } else {
            category
        };
        for resource in of_kind {
            if rest.is_empty() {
                found.push((resource.clone(), None));
            }
            for name in rest {
                found.push((resource.clone(), Some(name.clone())));
            }
        }
    }
    Ok(found)
}

fn slashed(resources: &Resources, argument: &str) -> Result<(Resource, Option<String>)> {
    let Some((kind, name)) = argument.split_once('/') else {
        bail!(
            "there is no need to specify a resource type as a separate argument when passing arguments in resource/name form (e.g. 'wkctl get resource/<resource_name>' instead of 'wkctl get resource resource/<resource_name>')"
        );
    };
    if kind.is_empty() || name.is_empty() || name.contains('/') {
        bail!("arguments in resource/name form must have a single resource and name");
    }
    Ok((resources.find(kind)?.clone(), Some(name.to_owned())))
}

/// What to say when there is nothing of what was asked for.
pub(crate) fn nothing_found(picks: &[Pick]) -> String {
    match picks.iter().find_map(|pick| pick.namespace.as_deref()) {
        Some(namespace) => format!("No resources found in {namespace} namespace."),
        None => "No resources found".to_owned(),
    }
}
