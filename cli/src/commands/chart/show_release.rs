//! Releases as text: the status of one, tables of several, times as Helm writes them. Pure but for the time zone.

use anyhow::Result;
use charts::release::{Event, Release};
use clap::ValueEnum;
use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Value, json};

use crate::{encode, session::Session};

/// How results are printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub(super) enum Format {
    #[default]
    Table,
    Json,
    Yaml,
}

impl Format {
    /// Prints a value, or a table's text.
    pub(super) fn print(
        self,
        session: &Session,
        value: impl FnOnce() -> Value,
        table: impl FnOnce() -> String,
    ) -> Result<()> {
        match self {
            Format::Table => session.text(&table()),
            // On one line, as Helm prints it.
            Format::Json => session.text(&format!("{}\n", value())),
            Format::Yaml => session.text(&encode::yaml(&value())?),
        }
    }
}

/// Rows with their cells padded and a tab between them, as Helm prints tables.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(&cells.join("\t"));
        text.push('\n');
    }
    text
}

/// A row of words.
pub(super) fn row(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// `Mon Jan  2 15:04:05 2006`.
pub(super) fn ansic(time: Timestamp, zone: &TimeZone) -> String {
    time.to_zoned(zone.clone())
        .strftime("%a %b %e %H:%M:%S %Y")
        .to_string()
}

/// `2006-01-02 15:04:05.999999999 +0000 UTC`.
pub(super) fn go_time(time: Timestamp) -> String {
    let text = time.to_string();
    let text = text.trim_end_matches('Z').replace('T', " ");
    format!("{text} +0000 UTC")
}

/// What `status` and the commands that change a release print of it.
#[derive(Clone, Copy, Default)]
pub(super) struct View {
    /// The chart's name and version too.
    pub(super) metadata: bool,
    pub(super) hide_notes: bool,
    /// Its manifest and hooks too.
    pub(super) manifest: bool,
}

/// A release as `helm status` prints it.
pub(super) fn status(release: &Release, view: View, zone: &TimeZone) -> String {
    let info = &release.info;
    let mut text = format!("NAME: {}\n", release.name);
    let mut line = |name: &str, value: &str| text.push_str(&format!("{name}: {value}\n"));
    if let Some(time) = info.last_deployed {
        line("LAST DEPLOYED", &ansic(time, zone));
    }
    line("NAMESPACE", &release.namespace);
    line("STATUS", info.status.text());
    line("REVISION", &release.version.to_string());
    if view.metadata {
        line("CHART", release.metadata("name"));
        line("VERSION", release.metadata("version"));
        line("APP_VERSION", release.metadata("appVersion"));
    }
    line("DESCRIPTION", &info.description);
    text.push_str(&tests(release, zone));
    if view.manifest {
        text.push_str("HOOKS:\n");
        for hook in &release.hooks {
            text.push_str(&format!(
                "---\n# Source: {}\n{}\n",
                hook.path, hook.manifest
            ));
        }
        text.push_str(&format!("MANIFEST:\n{}\n", release.manifest));
    }
    if !view.hide_notes && !info.notes.is_empty() {
        text.push_str(&format!("NOTES:\n{}\n", info.notes.trim()));
    }
    text
}

/// The tests of a release and how they ran.
fn tests(release: &Release, zone: &TimeZone) -> String {
    let tests: Vec<_> = release
        .hooks
        .iter()
        .filter(|hook| hook.events.contains(&Event::Test))
        .collect();
    if tests.is_empty() {
        return "TEST SUITE: None\n".to_owned();
    }
    let time = |time: Option<Timestamp>| time.map_or_else(String::new, |time| ansic(time, zone));
    tests
        .iter()
        .filter(|test| test.last_run.started_at.is_some())
        .map(|test| {
            let run = &test.last_run;
            format!(
                "TEST SUITE:     {}\nLast Started:   {}\nLast Completed: {}\nPhase:          {}\n",
                test.name,
                time(run.started_at),
                time(run.completed_at),
                run.phase.text()
            )
        })
        .collect()
}

/// A release as `-o json` prints it: without its chart.
pub(super) fn value(release: &Release) -> Value {
    let mut value = json!(release);
    if let Some(fields) = value.as_object_mut() {
        fields.remove("chart");
    }
    value
}

#[cfg(test)]
mod tests_of_text {
    use charts::release::{Hook, Status, record::Phase};
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_status_reads_as_helms() {
        let mut release = Release {
            name: "web".to_owned(),
            namespace: "shop".to_owned(),
            version: 2,
            chart: json!({"metadata": {"name": "nginx", "version": "1.2.3", "appVersion": "9"}}),
            ..Release::default()
        };
        release.set_status(Status::Deployed, "Upgrade complete");
        release.info.last_deployed = Some("2026-01-02T03:04:05.5Z".parse().unwrap());
        release.info.notes = "\nHello\n\n".to_owned();
        let mut test = Hook {
            name: "web-test".to_owned(),
            events: vec![Event::Test],
            ..Hook::default()
        };
        test.last_run.started_at = release.info.last_deployed;
        test.last_run.completed_at = release.info.last_deployed;
        test.last_run.phase = Phase::Succeeded;
        release.hooks.push(test);
        let view = View {
            metadata: true,
            ..View::default()
        };
        expect![[r#"
            NAME: web
            LAST DEPLOYED: Fri Jan  2 03:04:05 2026
            NAMESPACE: shop
            STATUS: deployed
            REVISION: 2
            CHART: nginx
            VERSION: 1.2.3
            APP_VERSION: 9
            DESCRIPTION: Upgrade complete
            TEST SUITE:     web-test
            Last Started:   Fri Jan  2 03:04:05 2026
            Last Completed: Fri Jan  2 03:04:05 2026
            Phase:          Succeeded
            NOTES:
            Hello
        "#]]
        .assert_eq(&status(&release, view, &TimeZone::UTC));
        assert_eq!(
            go_time("2026-01-02T03:04:05.5Z".parse().unwrap()),
            "2026-01-02 03:04:05.5 +0000 UTC"
        );
    }

    #[test]
    fn tables_have_padded_cells_and_tabs() {
        let rows = [row(&["NAME", "REVISION"]), row(&["a-long-name", "1"])];
        assert_eq!(
            table(&rows),
            "NAME       \tREVISION\na-long-name\t1       \n"
        );
    }
}
