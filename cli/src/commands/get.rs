//! `wkctl get`: the server's tables, objects as they are, and both as they change.

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use futures::StreamExt as _;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    api::{Api, JSON, TABLE, code},
    columns::Columns,
    encode, query,
    selection::{Pick, Picks, Selection, nothing_found},
    session::Session,
    table::{self, View},
};

/// Objects a page of a list.
const PAGE: &str = "500";

/// Show one or many objects
#[derive(Args)]
pub(crate) struct Get {
    #[command(flatten)]
    selection: Selection,
    /// Show objects in another form
    #[arg(short, long, value_enum)]
    output: Option<Output>,
    /// Go on showing objects as they change
    #[arg(short, long)]
    watch: bool,
    /// Show objects as they change, without showing them first
    #[arg(long)]
    watch_only: bool,
    /// Leave out the line of column names
    #[arg(long)]
    no_headers: bool,
    /// Show all labels in a last column
    #[arg(long)]
    show_labels: bool,
    /// Say nothing about named objects that are not there
    #[arg(long)]
    ignore_not_found: bool,
    /// Show who manages which field
    #[arg(long)]
    show_managed_fields: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Output {
    Json,
    Yaml,
    Wide,
    Name,
}

/// A table of one resource while it is printed.
struct Printer {
    view: View,
    columns: Columns,
    definitions: Vec<Value>,
    /// The line of column names is still to be printed.
    header: bool,
}

impl Get {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let api = session.api().await?;
        let picks = self.selection.resolve(session, "get").await?;
        if self.watch || self.watch_only {
            return self.follow(session, api, &picks).await;
        }
        match self.output {
            None | Some(Output::Wide) => self.tables(session, api, picks).await,
            Some(output) => self.objects(session, api, picks, output).await,
        }
    }

    /// All pages of an object or a list, each handed to `each`.
    async fn pages(
        &self,
        api: &Api,
        pick: &Pick,
        accept: &str,
        mut each: impl FnMut(Value),
    ) -> Result<()> {
        let path = pick.path();
        if pick.name.is_some() {
            each(read(api, &path, accept).await?);
            return Ok(());
        }
        let [labels, fields] = self.selection.parameters();
        let mut next = String::new();
        loop {
            let page = [("limit", PAGE), ("continue", &next), labels, fields];
            let answer = read(api, &query::with(&path, &page), accept).await?;
            next = answer["metadata"]["continue"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            each(answer);
            if next.is_empty() {
                return Ok(());
            }
        }
    }

    async fn tables(&self, session: &Session, api: &Api, picks: Picks) -> Result<()> {
        let mut failures = picks.failures;
        let mut printed = false;
        for of_kind in picks.picks.chunk_by(|a, b| a.resource == b.resource) {
            let mut printer = self.printer(&of_kind[0], picks.several_kinds);
            let mut rows = Vec::new();
            for pick in of_kind {
                let now = Timestamp::now();
                let got = self.pages(api, pick, TABLE, |page| {
                    rows.extend(printer.take(table::of_objects(page, now)));
                });
                match got.await {
                    Err(error) if self.ignore_not_found && code(&error) == Some(404) => {}
                    Err(error) => failures.push(error)?,
                    Ok(()) => {}
                }
            }
            if rows.is_empty() {
                continue;
            }
            if printed {
                session.text("\n")?;
            }
            printed = true;
            session.text(&printer.format(&rows))?;
        }
        if !printed && failures.0.is_empty() && !self.ignore_not_found {
            session.note(format_args!("{}", nothing_found(&picks.picks)));
        }
        failures.finish()
    }

    fn printer(&self, pick: &Pick, several_kinds: bool) -> Printer {
        let prefix = if several_kinds {
            pick.resource.display("")
        } else {
            String::new()
        };
        Printer {
            view: View {
                wide: self.output == Some(Output::Wide),
                namespace: self.selection.all_namespaces && pick.resource.namespaced,
                labels: self.show_labels,
                prefix,
            },
            columns: Columns::default(),
            definitions: Vec::new(),
            header: !self.no_headers,
        }
    }

    async fn objects(
        &self,
        session: &Session,
        api: &Api,
        picks: Picks,
        output: Output,
    ) -> Result<()> {
        let mut failures = picks.failures;
        let mut objects = Vec::new();
        for pick in &picks.picks {
            let got = self.pages(api, pick, JSON, |page| {
                objects.extend(self.items(pick, page));
            });
            match got.await {
                Err(error) if self.ignore_not_found && code(&error) == Some(404) => {}
                Err(error) => failures.push(error)?,
                Ok(()) => {}
            }
        }
        if output == Output::Name {
            for (resource, object) in &objects {
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                session.line(format_args!("{}", resource.display(name)))?;
            }
            return failures.finish();
        }
        let one = matches!(picks.picks.as_slice(), [pick] if pick.name.is_some());
        let mut objects: Vec<Value> = objects.into_iter().map(|(_, object)| object).collect();
        let shown = match objects.pop() {
            Some(object) if one => Some(object),
            None if one => None,
            last => {
                objects.extend(last);
                Some(
                    json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": objects}),
                )
            }
        };
        if let Some(object) = shown.filter(|shown| failures.0.is_empty() || !no_items(shown)) {
            session.text(&encoded(&object, output)?)?;
        }
        failures.finish()
    }

    /// The objects of an answer with their kind, which items of a list need not name.
    fn items<'a>(
        &self,
        pick: &'a Pick,
        mut answer: Value,
    ) -> Vec<(&'a crate::resources::Resource, Value)> {
        let items = match answer.get_mut("items").and_then(Value::as_array_mut) {
            Some(items) => std::mem::take(items),
            None => vec![answer],
        };
        let complete = |mut object: Value| {
            object["apiVersion"] = pick.resource.api_version().into();
            object["kind"] = pick.resource.kind.clone().into();
            self.strip(&mut object);
            (&pick.resource, object)
        };
        items.into_iter().map(complete).collect()
    }

    fn strip(&self, object: &mut Value) {
        if let Some(metadata) = object["metadata"].as_object_mut()
            && !self.show_managed_fields
        {
            metadata.remove("managedFields");
        }
    }

    /// Prints what is there, then every change, until the user or the server ends it.
    async fn follow(&self, session: &Session, api: &Api, picks: &Picks) -> Result<()> {
        let [pick] = picks.picks.as_slice() else {
            bail!("you may only specify a single resource type to watch, or a single object");
        };
        let accept = match self.output {
            None | Some(Output::Wide) => TABLE,
            Some(_) => JSON,
        };
        let mut printer = self.printer(pick, false);
        let mut revision = String::new();
        let mut first = Vec::new();
        self.pages(api, pick, accept, |page| {
            revision = revision_of(&page);
            first.push(page);
        })
        .await?;
        for page in first {
            if self.watch_only {
                printer.take(page); // for its column definitions
            } else {
                let text = self.text(&mut printer, pick, page)?;
                session.text(&text)?;
            }
        }
        let collection = pick.resource.collection(pick.namespace.as_deref());
        let named = pick
            .name
            .as_ref()
            .map(|name| format!("metadata.name={name}"));
        let [labels, fields] = self.selection.parameters();
        loop {
            let parameters = [
                ("watch", "true"),
                ("allowWatchBookmarks", "true"),
                ("resourceVersion", &revision),
                labels,
                named
                    .as_deref()
                    .map_or(fields, |named| ("fieldSelector", named)),
            ];
            let path = query::with(&collection, &parameters);
            let mut events = Box::pin(api.watch(&path, accept).await?);
            let before = revision.clone();
            while let Some(event) = events.next().await {
                let (kind, object) = event?;
                let seen = revision_of(&object);
                if !seen.is_empty() {
                    revision = seen;
                }
                if kind != "BOOKMARK" {
                    let text = self.text(&mut printer, pick, object)?;
                    session.text(&text)?;
                }
            }
            if revision == before {
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        }
    }

    /// An answer or a watched object in the form that is asked for.
    fn text(&self, printer: &mut Printer, pick: &Pick, answer: Value) -> Result<String> {
        let Some(output) = self.output.filter(|output| *output != Output::Wide) else {
            let rows = printer.take(table::of_objects(answer, Timestamp::now()));
            return Ok(printer.format(&rows));
        };
        let mut text = String::new();
        for (resource, object) in self.items(pick, answer) {
            match output {
                Output::Name => {
                    let name = object["metadata"]["name"].as_str().unwrap_or_default();
                    text.push_str(&format!("{}\n", resource.display(name)));
                }
                Output::Yaml => text.push_str(&format!("---\n{}", encode::yaml(&object)?)),
                _ => text.push_str(&encode::json(&object)?),
            }
        }
        Ok(text)
    }
}

impl Printer {
    /// Takes the rows of a Table, and its columns if it names them.
    fn take(&mut self, mut table: Value) -> Vec<Value> {
        if let Some(definitions) = table["columnDefinitions"].as_array_mut()
            && !definitions.is_empty()
        {
            self.definitions = std::mem::take(definitions);
        }
        table["rows"]
            .as_array_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// Rows as text, below the column names the first time.
    fn format(&mut self, rows: &[Value]) -> String {
        let mut lines = Vec::new();
        if self.header && !rows.is_empty() {
            lines.push(table::header(&self.definitions, &self.view));
            self.header = false;
        }
        lines.extend(
            rows.iter()
                .map(|row| table::row(&self.definitions, row, &self.view)),
        );
        self.columns.format(&lines)
    }
}

async fn read(api: &Api, path: &str, accept: &str) -> Result<Value> {
    if accept == TABLE {
        api.table(path).await
    } else {
        api.get(path).await
    }
}

/// The revision of a list, an object or a Table of a watch event.
fn revision_of(answer: &Value) -> String {
    let rows = answer["rows"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let of_row = rows
        .last()
        .map(|row| &row["object"]["metadata"]["resourceVersion"]);
    let own = answer["metadata"]["resourceVersion"]
        .as_str()
        .filter(|own| !own.is_empty());
    own.or_else(|| of_row.and_then(Value::as_str))
        .unwrap_or_default()
        .to_owned()
}

fn no_items(object: &Value) -> bool {
    object["items"].as_array().is_some_and(Vec::is_empty)
}

fn encoded(object: &Value, output: Output) -> Result<String> {
    if output == Output::Yaml {
        encode::yaml(object)
    } else {
        encode::json(object)
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::session::fake::Server;

    fn columns() -> Value {
        json!([
            {"name": "Name", "format": "name", "priority": 0}, {"name": "Ready", "priority": 0},
            {"name": "Restarts", "priority": 0}, {"name": "Node", "priority": 1},
        ])
    }

    fn row(name: &str, ready: &str) -> Value {
        let metadata = json!({"name": name, "namespace": "default", "resourceVersion": "7", "labels": {"app": "x", "tier": "web"}});
        json!({"cells": [name, ready, 0, "node-1"], "object": {"kind": "PartialObjectMetadata", "metadata": metadata}})
    }

    fn table(rows: &[Value]) -> Value {
        json!({"kind": "Table", "metadata": {"resourceVersion": "5"}, "columnDefinitions": columns(), "rows": rows})
    }

    fn pods() -> Server {
        let list = table(&[row("hello-1", "1/1"), row("a", "0/1")]);
        Server::new()
            .on(
                "GET /api/v1/namespaces/default/pods?limit=500",
                list.clone(),
            )
            .on("GET /api/v1/pods?limit=500", list)
            .on(
                "GET /api/v1/namespaces/default/pods/a",
                table(&[row("a", "0/1")]),
            )
            .on(
                "GET /api/v1/namespaces/default/services/a",
                table(&[row("a", "-")]),
            )
            .on(
                "GET /api/v1/namespaces/default/services?limit=500",
                table(&[]),
            )
            .on(
                "GET /apis/apps/v1/namespaces/default/deployments?limit=500",
                table(&[row("hello", "1/1")]),
            )
            .on(
                "GET /apis/apps/v1/namespaces/default/replicasets?limit=500",
                table(&[]),
            )
            .on("GET /api/v1/nodes?limit=500", table(&[]))
            .on_error(
                "GET /api/v1/namespaces/default/pods/b",
                404,
                "NotFound",
                "pods \"b\" not found",
            )
    }

    async fn check(server: Server, line: &str, expected: Expect) {
        expected.assert_eq(&server.run(line).await);
    }

    #[tokio::test]
    async fn lists_are_tables() {
        check(
            pods(),
            "get pods",
            expect![[r#"
            NAME      READY   RESTARTS
            hello-1   1/1     0
            a         0/1     0
        "#]],
        )
        .await;
        check(
            pods(),
            "get po -o wide --show-labels",
            expect![[r#"
            NAME      READY   RESTARTS   NODE     LABELS
            hello-1   1/1     0          node-1   app=x,tier=web
            a         0/1     0          node-1   app=x,tier=web
        "#]],
        )
        .await;
        check(
            pods(),
            "get pods -A --no-headers",
            expect![[r#"
            default   hello-1   1/1   0
            default   a         0/1   0
        "#]],
        )
        .await;
    }

    #[tokio::test]
    async fn several_kinds_are_prefixed_and_empty_ones_left_out() {
        check(
            pods(),
            "get all",
            expect![[r#"
                NAME          READY   RESTARTS
                pod/hello-1   1/1     0
                pod/a         0/1     0

                NAME                    READY   RESTARTS
                deployment.apps/hello   1/1     0
                ! Error from server (NotFound): nothing at GET /apis/apps/v1/namespaces/default/statefulsets?limit=500
                exit 1
            "#]],
        )
        .await;
        check(
            pods(),
            "get po/a svc/a",
            expect![[r#"
            NAME    READY   RESTARTS
            pod/a   0/1     0

            NAME        READY   RESTARTS
            service/a   -       0
        "#]],
        )
        .await;
    }

    #[tokio::test]
    async fn nothing_is_a_note_and_no_error() {
        check(
            pods(),
            "get svc",
            expect![[r#"
            ! No resources found in default namespace.
        "#]],
        )
        .await;
        check(
            pods(),
            "get nodes",
            expect![[r#"
            ! No resources found
        "#]],
        )
        .await;
    }

    #[tokio::test]
    async fn what_is_missing_does_not_hide_the_rest() {
        check(
            pods(),
            "get pods a b",
            expect![[r#"
            NAME   READY   RESTARTS
            a      0/1     0
            ! Error from server (NotFound): pods "b" not found
            exit 1
        "#]],
        )
        .await;
        check(
            pods(),
            "get pods a b --ignore-not-found --no-headers",
            expect![[r#"
                a     0/1   0
            "#]],
        )
        .await;
    }

    #[tokio::test]
    async fn wrong_words_are_explained() {
        check(pods(), "get", expect![[r#"
            ! error: You must specify the type of resource to get. Use "wkctl api-resources" for a complete list of supported resources.
            exit 1
        "#]]).await;
        check(
            pods(),
            "get nonsense",
            expect![[r#"
            ! error: the server doesn't have a resource type "nonsense"
            exit 1
        "#]],
        )
        .await;
        check(pods(), "get pod/a b", expect![[r#"
            ! error: there is no need to specify a resource type as a separate argument when passing arguments in resource/name form (e.g. 'wkctl get resource/<resource_name>' instead of 'wkctl get resource resource/<resource_name>')
            exit 1
        "#]]).await;
        check(
            pods(),
            "get pod a -l x=y",
            expect![[r#"
            ! error: name cannot be provided when a selector is specified
            exit 1
        "#]],
        )
        .await;
        check(
            pods(),
            "get pod a -A",
            expect![[r#"
            ! error: a resource cannot be retrieved by name across all namespaces
            exit 1
        "#]],
        )
        .await;
        check(
            pods(),
            "get -w pods,svc",
            expect![[r#"
            ! error: you may only specify a single resource type to watch, or a single object
            exit 1
        "#]],
        )
        .await;
    }

    #[tokio::test]
    async fn pages_are_followed() {
        let mut first = table(&[row("a", "1/1")]);
        first["metadata"]["continue"] = "to/ken".into();
        let server = Server::new()
            .on("GET /api/v1/namespaces/default/pods?limit=500", first)
            .on(
                "GET /api/v1/namespaces/default/pods?limit=500&continue=to%2Fken",
                table(&[row("a-longer-name", "1/1")]),
            );
        check(
            server,
            "get pods",
            expect![[r#"
            NAME            READY   RESTARTS
            a               1/1     0
            a-longer-name   1/1     0
        "#]],
        )
        .await;
    }

    #[tokio::test]
    async fn objects_are_shown_whole_but_for_managed_fields() {
        let pod =
            json!({"metadata": {"name": "a", "managedFields": [1]}, "spec": {"nodeName": "01"}});
        let server = Server::new()
            .on("GET /api/v1/namespaces/default/pods/a", pod.clone())
            .on(
                "GET /api/v1/namespaces/default/pods?limit=500&labelSelector=a%3Db",
                json!({"items": [pod]}),
            );
        check(
            server.clone(),
            "get pod a -o yaml",
            expect![[r#"
                apiVersion: v1
                kind: Pod
                metadata:
                  name: a
                spec:
                  nodeName: "01"
            "#]],
        )
        .await;
        check(
            server.clone(),
            "get pod -l a=b -o json",
            expect![[r#"
            {
                "apiVersion": "v1",
                "items": [
                    {
                        "apiVersion": "v1",
                        "kind": "Pod",
                        "metadata": {
                            "name": "a"
                        },
                        "spec": {
                            "nodeName": "01"
                        }
                    }
                ],
                "kind": "List",
                "metadata": {
                    "resourceVersion": ""
                }
            }
        "#]],
        )
        .await;
        check(
            server,
            "get pod -l a=b -o name",
            expect![[r#"
            pod/a
        "#]],
        )
        .await;
    }

    #[tokio::test]
    async fn a_watch_shows_rows_as_they_change_and_resumes() {
        let event = |kind: &str, object: Value| json!({"type": kind, "object": object}).to_string();
        let mut bare = table(&[row("a", "1/1")]);
        bare["columnDefinitions"] = json!([]);
        let events = format!(
            "{}\n{}\n",
            event("MODIFIED", bare),
            event("BOOKMARK", json!({"metadata": {"resourceVersion": "9"}}))
        );
        let gone = event(
            "ERROR",
            json!({"code": 410, "reason": "Expired", "message": "too old resource version"}),
        );
        let path = "GET /api/v1/namespaces/default/pods?watch=true&allowWatchBookmarks=true&resourceVersion";
        let server = pods().on_text(&format!("{path}=5"), 200, &events).on_text(
            &format!("{path}=9"),
            200,
            &gone,
        );
        check(
            server.clone(),
            "get pods -w",
            expect![[r#"
            NAME      READY   RESTARTS
            hello-1   1/1     0
            a         0/1     0
            a         1/1     0
            ! Error from server (Expired): too old resource version
            exit 1
        "#]],
        )
        .await;
        check(
            server,
            "get pods --watch-only",
            expect![[r#"
                NAME   READY   RESTARTS
                a      1/1     0
                ! Error from server (Expired): too old resource version
                exit 1
            "#]],
        )
        .await;
    }
}
