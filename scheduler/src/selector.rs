//! Label selectors, read once so that asking them is cheap.
//!
//! Pure. Equal selectors are equal values, whatever order their rules were written in: they are keys of counts.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use crate::pod::Labels;

/// Which labels are selected.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Selector {
    /// What a selector that is not there selects.
    Nothing,
    /// Labels that keep to all of these, each once, in order. None of them: everything.
    Rules(Vec<Rule>),
}

/// What one label must be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Rule {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
}

impl Selector {
    /// Selects everything.
    pub(crate) const EVERYTHING: Self = Self::Rules(Vec::new());

    /// Reads a selector; one that is not there selects nothing, an empty one everything.
    pub(crate) fn parse(selector: Option<&LabelSelector>) -> Self {
        let Some(selector) = selector else {
            return Self::Nothing;
        };
        let labels = selector.match_labels.iter().flatten();
        let equal = labels.map(|(key, value)| Some(Rule::equal(key, value)));
        let tests = selector.match_expressions.iter().flatten().map(Rule::parse);
        // The API refuses rules that cannot be read; should one come, it selects nothing.
        let rules: Option<Vec<_>> = equal.chain(tests).collect();
        rules.map_or(Self::Nothing, Self::all)
    }

    /// Selects what has all of these labels.
    pub(crate) fn of_labels<'a>(
        labels: impl IntoIterator<Item = (&'a String, &'a String)>,
    ) -> Self {
        let rules = labels.into_iter();
        Self::all(rules.map(|(key, value)| Rule::equal(key, value)).collect())
    }

    fn all(mut rules: Vec<Rule>) -> Self {
        rules.sort_unstable();
        rules.dedup();
        Self::Rules(rules)
    }

    /// Selects what both select.
    pub(crate) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Rules(mut rules), Self::Rules(more)) => {
                rules.extend(more);
                Self::all(rules)
            }
            _ => Self::Nothing,
        }
    }

    pub(crate) fn is_nothing(&self) -> bool {
        *self == Self::Nothing
    }

    pub(crate) fn is_everything(&self) -> bool {
        *self == Self::EVERYTHING
    }

    pub(crate) fn selects(&self, labels: &Labels) -> bool {
        match self {
            Self::Nothing => false,
            Self::Rules(rules) => rules.iter().all(|rule| rule.holds(labels)),
        }
    }

    /// A label that whatever is selected has.
    pub(crate) fn needs(&self) -> Option<(&str, &str)> {
        let Self::Rules(rules) = self else {
            return None;
        };
        rules.iter().find_map(|rule| match &rule.test {
            Test::In(values) => match &values[..] {
                [only] => Some((rule.key.as_str(), only.as_str())),
                _ => None,
            },
            _ => None,
        })
    }
}

impl Rule {
    fn equal(key: &str, value: &str) -> Self {
        Self {
            key: key.to_owned(),
            test: Test::In(vec![value.to_owned()]),
        }
    }

    fn parse(rule: &LabelSelectorRequirement) -> Option<Self> {
        let mut values = rule.values.clone().unwrap_or_default();
        values.sort_unstable();
        values.dedup();
        let test = match rule.operator.as_str() {
            "In" => Test::In(values),
            "NotIn" => Test::NotIn(values),
            "Exists" => Test::Exists,
            "DoesNotExist" => Test::DoesNotExist,
            _ => return None,
        };
        let key = rule.key.clone();
        Some(Self { key, test })
    }

    fn holds(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        let among = |values: &[String]| value.is_some_and(|value| values.contains(value));
        match &self.test {
            Test::In(values) => among(values),
            Test::NotIn(values) => !among(values),
            Test::Exists => value.is_some(),
            Test::DoesNotExist => value.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn selector(selector: Value) -> Selector {
        Selector::parse(Some(&serde_json::from_value(selector).unwrap()))
    }

    /// Words: `key=value` labels; those that are selected of `a=1`, `a=2`, `b=1` and none.
    #[track_caller]
    fn check(rules: Value, expected: &str) {
        let selector = selector(rules);
        let chosen = ["a=1", "a=2", "b=1", ""].into_iter().filter(|words| {
            let labels = words.split_once('=').into_iter();
            let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
            selector.selects(&labels.collect())
        });
        assert_eq!(chosen.collect::<Vec<_>>().join(","), expected);
    }

    #[test]
    fn every_operator_selects_as_in_kubernetes() {
        let rule = |operator: &str, values: Value| json!({ "matchExpressions": [{ "key": "a", "operator": operator, "values": values }] });
        check(json!({ "matchLabels": { "a": "1" } }), "a=1");
        check(rule("In", json!(["1", "2"])), "a=1,a=2");
        check(rule("NotIn", json!(["1"])), "a=2,b=1,");
        check(rule("Exists", json!([])), "a=1,a=2");
        check(rule("DoesNotExist", json!([])), "b=1,");
        check(rule("Sometimes", json!([])), "");
        check(json!({}), "a=1,a=2,b=1,");
        assert_eq!(Selector::parse(None), Selector::Nothing);
    }

    #[test]
    fn the_order_of_rules_makes_no_difference() {
        let rule = |key: &str| json!({ "key": key, "operator": "Exists" });
        assert_eq!(
            selector(json!({ "matchExpressions": [rule("a"), rule("b"), rule("a")] })),
            selector(json!({ "matchExpressions": [rule("b"), rule("a")] })),
        );
        assert_eq!(
            selector(json!({ "matchLabels": { "a": "1" } })),
            selector(
                json!({ "matchExpressions": [{ "key": "a", "operator": "In", "values": ["1"] }] })
            ),
        );
    }
}
