//! `values.schema.json`: whether values are what a chart expects. References are answered from the schema alone, never
//! from the network or a disk.

use serde_json::Value;

use super::Chart;

/// What a value must be in a chart's schemas and its subcharts'; the message lists chart by chart what is wrong.
pub fn validate(chart: &Chart, name: &str, values: &Value) -> Result<(), String> {
    let mut wrong = String::new();
    collect(chart, name, values, &mut wrong);
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "values don't meet the specifications of the schema(s) in the following chart(s):\n{wrong}"
        )),
    }
}

fn collect(chart: &Chart, name: &str, values: &Value, wrong: &mut String) {
    if let Some(schema) = &chart.schema
        && let Err(error) = check(schema, values)
    {
        wrong.push_str(&format!("{name}:\n{error}"));
    }
    for subchart in &chart.subcharts {
        match values.get(subchart.name()) {
            None | Some(Value::Null) => {}
            Some(values @ Value::Object(_)) => collect(subchart, subchart.name(), values, wrong),
            Some(_) => wrong.push_str(&format!(
                "{}:\ninvalid type for values: expected object (map)\n",
                subchart.name()
            )),
        }
    }
}

fn check(schema: &[u8], values: &Value) -> Result<(), String> {
    let schema: Value = serde_json::from_slice(schema)
        .map_err(|error| format!("values.schema.json is no JSON: {error}\n"))?;
    let validator = jsonschema::options()
        .build(&schema)
        .map_err(|error| format!("values.schema.json: {error}\n"))?;
    let mut lines: Vec<String> = validator
        .iter_errors(values)
        .map(|error| {
            let path = error.instance_path().to_string();
            format!("- at '{path}': {error}\n")
        })
        .collect();
    lines.sort();
    lines.dedup();
    match lines.is_empty() {
        true => Ok(()),
        false => Err(lines.concat()),
    }
}
