//! The files of a new chart: a web server behind a Service, with what most charts need later.

use super::File;

/// Stands for the chart's name in the files.
const NAME: &str = "CHARTNAME";

const FILES: &[(&str, &str)] = &[
    ("Chart.yaml", include_str!("starter/Chart.yaml")),
    ("values.yaml", include_str!("starter/values.yaml")),
    (".helmignore", include_str!("starter/helmignore")),
    (
        "templates/_helpers.tpl",
        include_str!("starter/templates/_helpers.tpl"),
    ),
    (
        "templates/deployment.yaml",
        include_str!("starter/templates/deployment.yaml"),
    ),
    (
        "templates/service.yaml",
        include_str!("starter/templates/service.yaml"),
    ),
    (
        "templates/NOTES.txt",
        include_str!("starter/templates/NOTES.txt"),
    ),
    (
        "templates/tests/connection.yaml",
        include_str!("starter/templates/tests/connection.yaml"),
    ),
];

/// The files of a chart of that name; `None` if it is no name for its objects.
pub fn files(name: &str) -> Option<Vec<File>> {
    let bytes = name.as_bytes();
    let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    let good = bytes.first().is_some_and(u8::is_ascii_lowercase)
        && bytes.last() != Some(&b'-')
        && bytes.len() <= 63
        && bytes.iter().all(plain);
    let file = |(path, text): &(&str, &str)| File {
        name: (*path).to_owned(),
        data: text.replace(NAME, name).into(),
    };
    good.then(|| FILES.iter().map(file).collect())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use jiff::Timestamp;
    use rand::{SeedableRng as _, rngs::StdRng};

    use super::*;
    use crate::{Environment, Limits, Map, lint, render::Capabilities};

    #[test]
    fn a_new_chart_has_nothing_to_complain_of() {
        let directory = tempfile::tempdir().unwrap();
        let chart = directory.path().join("web-shop");
        for file in files("web-shop").unwrap() {
            let path = chart.join(&file.name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, &file.data).unwrap();
        }
        let options = lint::Options {
            namespace: "default".to_owned(),
            capabilities: Capabilities::default(),
            skip_schema: false,
        };
        let environment = Environment {
            now: Timestamp::UNIX_EPOCH,
            random: RefCell::new(StdRng::seed_from_u64(1)),
            lookup: None,
            dns: false,
            limits: Limits::default(),
        };
        let found = lint::lint(&chart, &Map::new(), &options, &environment);
        let worse = found.iter().filter(|f| f.severity > lint::Severity::Info);
        assert_eq!(worse.count(), 0, "{found:?}");
        for wrong in ["", "Web", "-a", "a-", "a/b", &"a".repeat(64)] {
            assert!(files(wrong).is_none());
        }
    }
}
