//! Prometheus' text format, which every scraper reads, from OpenMetrics, which the library writes. Pure.

/// What the text is.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Rewrites OpenMetrics: a counter is declared by its samples' name, and units and the end are not told.
pub fn from_open_metrics(open: &str) -> String {
    let mut text = String::with_capacity(open.len());
    let mut help: Option<(&str, &str)> = None;
    for line in open.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            help = described.split_once(' ');
        } else if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (name, kind) = declared.split_once(' ').unwrap_or((declared, "untyped"));
            let (suffix, kind) = match kind {
                "counter" => ("_total", kind),
                "unknown" => ("", "untyped"),
                kind => ("", kind),
            };
            if let Some((_, words)) = help.take().filter(|(described, _)| *described == name) {
                text.push_str(&format!("# HELP {name}{suffix} {words}\n"));
            }
            text.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use prometheus_client::{
        encoding::text::encode_registry,
        metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
        registry::{Registry, Unit},
    };

    use super::*;

    #[test]
    fn counters_are_declared_as_they_are_told() {
        let mut registry = Registry::default();
        let counter = Family::<Vec<(String, String)>, Counter>::default();
        registry.register("requests", "How many came", counter.clone());
        counter
            .get_or_create(&vec![("code".to_owned(), "200".to_owned())])
            .inc();
        let gauge: Gauge = Gauge::default();
        registry.register_with_unit("memory", "How much", Unit::Bytes, gauge.clone());
        gauge.set(7);
        let histogram = Histogram::new([1.0]);
        registry.register("duration_seconds", "How long", histogram.clone());
        histogram.observe(0.5);
        let mut open = String::new();
        encode_registry(&mut open, &registry).expect("it is written");
        expect![[r#"
            # HELP requests_total How many came.
            # TYPE requests_total counter
            requests_total{code="200"} 1
            # HELP memory_bytes How much.
            # TYPE memory_bytes gauge
            memory_bytes 7
            # HELP duration_seconds How long.
            # TYPE duration_seconds histogram
            duration_seconds_sum 0.5
            duration_seconds_count 1
            duration_seconds_bucket{le="1.0"} 1
            duration_seconds_bucket{le="+Inf"} 1
        "#]]
        .assert_eq(&from_open_metrics(&open));
    }
}
