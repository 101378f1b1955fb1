//! Values over defaults: a chart's own, its subcharts', and globals, which flow down.
//!
//! A user's null removes a default. What cannot be merged is kept as the user has it, with a warning.

use super::deep_copy_map;
use crate::{Map, Value};

/// The key whose map every subchart sees.
pub const GLOBAL: &[u8] = b"global";

/// A chart to this module: its name, its defaults, its subcharts.
pub trait Defaults {
    fn name(&self) -> &str;
    fn values(&self) -> &Map;
    fn subcharts(&self) -> &[Self]
    where
        Self: Sized;
}

/// The values that a chart's templates see, for a user's; nulls remove what they name. `values` is left as it is.
pub fn coalesce<C: Defaults>(
    chart: &C,
    values: &Map,
    warnings: &mut Vec<String>,
) -> Result<Map, String> {
    run(chart, values, false, warnings)
}

/// As [`coalesce`], but nulls stay, for a later merging.
pub fn merge<C: Defaults>(
    chart: &C,
    values: &Map,
    warnings: &mut Vec<String>,
) -> Result<Map, String> {
    run(chart, values, true, warnings)
}

fn run<C: Defaults>(
    chart: &C,
    values: &Map,
    keep_nulls: bool,
    warnings: &mut Vec<String>,
) -> Result<Map, String> {
    let merged = deep_copy_map(values);
    let mut merging = Merging {
        keep_nulls,
        warnings,
    };
    merging.chart(chart, &merged, "")?;
    Ok(merged)
}

struct Merging<'a> {
    keep_nulls: bool,
    warnings: &'a mut Vec<String>,
}

impl Merging<'_> {
    fn chart<C: Defaults>(&mut self, chart: &C, values: &Map, prefix: &str) -> Result<(), String> {
        self.defaults(chart, values, prefix);
        let prefix = joined(prefix, chart.name());
        for subchart in chart.subcharts() {
            let key = subchart.name().as_bytes();
            let inner = match values.peek(key) {
                Some(Value::Map(inner)) => inner,
                None => {
                    let inner = Map::new();
                    values.insert(key.to_vec(), Value::Map(inner.clone()));
                    inner
                }
                Some(other) => {
                    // Go prints a value that is no boolean under `%t` like this.
                    let shown = shown_as_truth(&other);
                    return Err(format!("type mismatch on {}: {shown}", subchart.name()));
                }
            };
            self.globals(&inner, values);
            self.chart(subchart, &inner, &prefix)?;
        }
        Ok(())
    }

    /// A chart's own defaults under the values it is given.
    fn defaults<C: Defaults>(&mut self, chart: &C, values: &Map, prefix: &str) {
        let prefix = joined(prefix, chart.name());
        let defaults = deep_copy_map(chart.values());
        for (key, default, _) in defaults.reads() {
            match values.peek(&key) {
                Some(Value::Nil) if !self.keep_nulls => {
                    values.remove(&key);
                }
                Some(Value::Map(value)) => {
                    let path = joined(&prefix, &crate::json::text(&key));
                    match default {
                        Value::Map(default) => {
                            let of_subchart = |chart: &C| chart.name().as_bytes() == &key[..];
                            let keep_nulls =
                                self.keep_nulls || chart.subcharts().iter().any(of_subchart);
                            if !keep_nulls {
                                without_nulls(&default);
                            }
                            tables(&value, &default, &path, keep_nulls, self.warnings);
                        }
                        Value::Nil => {}
                        _ => self
                            .warnings
                            .push(format!("warning: skipped value for {path}: Not a table.")),
                    }
                }
                Some(_) => {}
                None if self.keep_nulls => values.insert(key, default),
                None => match default {
                    Value::Nil => {}
                    default => {
                        if let Value::Map(default) = &default {
                            without_nulls(default);
                        }
                        values.insert(key, default);
                    }
                },
            }
        }
    }

    /// The parent's globals over a subchart's.
    fn globals(&mut self, subchart: &Map, parent: &Map) {
        let of = |values: &Map| match values.peek(GLOBAL) {
            None => Some(Map::new()),
            Some(Value::Map(map)) => Some(map),
            Some(_) => None,
        };
        let Some(to) = of(subchart) else {
            let warning = "warning: skipping globals because destination global is not a table.";
            return self.warnings.push(warning.to_owned());
        };
        let Some(from) = of(parent) else {
            let warning = "warning: skipping globals because source global is not a table.";
            return self.warnings.push(warning.to_owned());
        };
        for (key, value, _) in from.reads() {
            let path = crate::json::text(&key).into_owned();
            match (value, to.peek(&key)) {
                (Value::Map(value), present) => {
                    let copy = shallow_copy(&value);
                    match present {
                        None => {}
                        Some(Value::Map(present)) => {
                            tables(&copy, &present, &path, true, self.warnings);
                        }
                        Some(_) => {
                            self.warnings.push(format!(
                                "Conflict: cannot merge map onto non-map for {path:?}. Skipping."
                            ));
                            continue;
                        }
                    }
                    to.insert(key, Value::Map(copy));
                }
                (_, Some(Value::Map(_))) => {
                    self.warnings.push(format!("key {path} is table. Skipping"));
                }
                (value, _) => to.insert(key, value),
            }
        }
        subchart.insert(GLOBAL, Value::Map(to));
    }
}

/// The entries of `from` that `to` does not have, maps merged.
pub fn tables(to: &Map, from: &Map, path: &str, keep_nulls: bool, warnings: &mut Vec<String>) {
    for (key, value, _) in from.reads() {
        let path = joined(path, &crate::json::text(&key));
        match (to.peek(&key), value) {
            (None, value) => to.insert(key, value),
            (Some(Value::Nil), value) if !keep_nulls && !matches!(value, Value::Nil) => {
                to.remove(&key);
            }
            (Some(Value::Nil), _) => {}
            (Some(Value::Map(to)), Value::Map(from)) => {
                tables(&to, &from, &path, keep_nulls, warnings);
            }
            (Some(_), Value::Map(from)) => {
                let shown = shown(&Value::Map(from));
                warnings.push(format!(
                    "warning: cannot overwrite table with non table for {path} ({shown})"
                ));
            }
            (Some(Value::Map(_)), value) if !matches!(value, Value::Nil) => {
                let shown = shown(&value);
                warnings.push(format!(
                    "warning: destination for {path} is a table. Ignoring non-table value ({shown})"
                ));
            }
            (Some(_), _) => {}
        }
    }
}

fn joined(prefix: &str, key: &str) -> String {
    match prefix {
        "" => key.to_owned(),
        prefix => format!("{prefix}.{key}"),
    }
}

fn shown(value: &Value) -> String {
    crate::json::text(&crate::format::sprint(value)).into_owned()
}

fn shown_as_truth(value: &Value) -> String {
    let printed = crate::format::sprintf(b"%t", std::slice::from_ref(value));
    crate::json::text(&printed).into_owned()
}

fn shallow_copy(map: &Map) -> Map {
    let copy = Map::new();
    for (key, value, _) in map.reads() {
        copy.insert(key, value);
    }
    copy
}

fn without_nulls(map: &Map) {
    for (key, value, _) in map.reads() {
        match value {
            Value::Nil => {
                map.remove(&key);
            }
            Value::Map(map) => without_nulls(&map),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::{Defaults, coalesce};
    use crate::{Map, Value, json, yaml};

    struct Chart {
        name: &'static str,
        values: Map,
        subcharts: Vec<Chart>,
    }

    impl Defaults for Chart {
        fn name(&self) -> &str {
            self.name
        }
        fn values(&self) -> &Map {
            &self.values
        }
        fn subcharts(&self) -> &[Chart] {
            &self.subcharts
        }
    }

    fn chart(name: &'static str, values: &str, subcharts: Vec<Chart>) -> Chart {
        let values = yaml::parse_map(values.as_bytes()).unwrap();
        Chart {
            name,
            values,
            subcharts,
        }
    }

    #[track_caller]
    fn check(chart: &Chart, values: &str, expected: Expect) {
        let mut warnings = Vec::new();
        let values = yaml::parse_map(values.as_bytes()).unwrap();
        let text = match coalesce(chart, &values, &mut warnings) {
            Ok(values) => json::emit_raw(&Value::Map(values)).unwrap(),
            Err(error) => error,
        };
        warnings.insert(0, text);
        expected.assert_eq(&warnings.join("\n"));
    }

    #[test]
    fn users_values_win_and_null_removes() {
        let chart = chart(
            "c",
            "{a: 1, b: {c: 2, d: 3}, e: {f: 1}, g: [1], h: ~, i: {j: ~}}",
            vec![],
        );
        check(
            &chart,
            "{b: {c: 9}, e: ~, g: [2], x: ~}",
            expect![[r#"{"a":1,"b":{"c":9,"d":3},"g":[2],"i":{},"x":null}"#]],
        );
        check(
            &chart,
            "{b: {c: ~}}",
            expect![[r#"{"a":1,"b":{"d":3},"e":{"f":1},"g":[1],"i":{}}"#]],
        );
        check(
            &chart,
            "{a: {k: 1}, b: 5}",
            expect![[r#"
            {"a":{"k":1},"b":5,"e":{"f":1},"g":[1],"i":{}}
            warning: skipped value for c.a: Not a table."#]],
        );
    }

    #[test]
    fn subcharts_get_their_part_and_the_globals() {
        let inner = chart("inner", "{x: 1, w: {z: 1}, global: {g: 1, own: 1}}", vec![]);
        let sub = chart("sub", "{a: 1, inner: {x: 2}}", vec![inner]);
        let chart = chart("c", "{sub: {a: 5}, global: {g: 7, t: {u: 1}}}", vec![sub]);
        check(
            &chart,
            "{sub: {inner: {w: ~}}}",
            expect![[
                r#"{"global":{"g":7,"t":{"u":1}},"sub":{"a":5,"global":{"g":7,"t":{"u":1}},"inner":{"global":{"g":7,"own":1,"t":{"u":1}},"x":2}}}"#
            ]],
        );
        check(
            &chart,
            "{sub: 5}",
            expect!["type mismatch on sub: %!t(float64=5)"],
        );
    }
}
