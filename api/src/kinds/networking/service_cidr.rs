//! ServiceCIDR: a range from which Services get addresses.

use jiff::Timestamp;
use serde_json::Value;

use super::GROUP;
use crate::{
    field::{FieldErrors, Path},
    kinds::{
        Column, Kind, Names, Subresource,
        address::Range,
        check, column, not_acted_on,
        value::{items, part, plain},
    },
};

/// The kind.
pub(crate) struct ServiceCidr;

static NAMES: Names = Names {
    group: GROUP,
    version: "v1",
    kind: "ServiceCIDR",
    plural: "servicecidrs",
    singular: "servicecidr",
    short: &[],
    categories: &[],
    namespaced: false,
    definition: "io.k8s.api.networking.v1.ServiceCIDR",
};

const COLUMNS: &[Column] = &[
    column::NAME,
    column::shown("CIDRs", "Its ranges"),
    column::AGE,
];

impl Kind for ServiceCidr {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn subresources(&self) -> &[Subresource] {
        &[Subresource::Status]
    }

    fn counted(&self) -> &[&'static str] {
        &[]
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        const FAMILIES: &str = "may specify no more than one IP for each IP family, i.e \
                                192.168.0.0/24 and 2001:db8::/64";
        let path = Path::root("spec").field("cidrs");
        let ranges: Vec<String> = items(object, "/spec/cidrs").iter().map(plain).collect();
        let spec = || part(object, "/spec").clone();
        let families: Vec<bool> = ranges
            .iter()
            .filter_map(|range| range.parse().ok())
            .map(Range::is_ipv4)
            .collect();
        match ranges.len() {
            0 => errors.required(&path, "at least one CIDR required"),
            3.. => errors.invalid(&path, spec(), "may only hold up to 2 values"),
            2 if families.len() != 2 || families[0] == families[1] => {
                errors.invalid(&path, spec(), FAMILIES);
            }
            _ => {
                for (index, text) in ranges.iter().enumerate() {
                    let path = path.index(index);
                    let range = Range::validate(&path, text, errors).map(Range::canonical);
                    if let Some(canonical) = range.filter(|canonical| canonical != text) {
                        let detail = format!("must be in canonical form ({canonical:?})");
                        errors.invalid(&path, text.as_str(), detail);
                    }
                }
            }
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut FieldErrors) {
        let path = Path::root("spec").field("cidrs");
        check::immutable(&path, object, old, "/spec/cidrs", errors);
    }

    fn warnings(&self, _object: &Value) -> Vec<String> {
        not_acted_on::whole(&NAMES)
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let ranges: Vec<_> = items(object, "/spec/cidrs").iter().map(plain).collect();
        vec![
            column::name(object),
            ranges.join(",").into(),
            column::age(object, now),
        ]
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::kinds::tests::{errors, row, update_errors};

    #[track_caller]
    fn check(ranges: &str, expect: Expect) {
        let yaml = format!("{{spec: {{cidrs: [{ranges}]}}}}");
        expect.assert_eq(&errors(&ServiceCidr, &yaml));
    }

    #[test]
    fn it_has_a_range_of_each_family_at_most() {
        check("10.43.0.0/16", expect![""]);
        check("10.43.0.0/16, 'fd00::/112'", expect![""]);
        check(
            "",
            expect![[r#"
            spec.cidrs: Required value: at least one CIDR required
        "#]],
        );
        check(
            "10.43.0.0/16, 10.44.0.0/16",
            expect![[r#"
                spec.cidrs: Invalid value: {"cidrs":["10.43.0.0/16","10.44.0.0/16"]}: may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64
            "#]],
        );
        check(
            "10.43.0.1/16",
            expect![[r#"
            spec.cidrs[0]: Invalid value: "10.43.0.1/16": must be in canonical form ("10.43.0.0/16")
        "#]],
        );
        check(
            "x",
            expect![[r#"
            spec.cidrs[0]: Invalid value: "x": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)
        "#]],
        );
    }

    #[test]
    fn its_ranges_never_change_and_are_shown() {
        expect![[r#"
            spec.cidrs: Invalid value: ["10.44.0.0/16"]: field is immutable
        "#]]
        .assert_eq(&update_errors(
            &ServiceCidr,
            "{spec: {cidrs: [10.43.0.0/16]}}",
            "{spec: {cidrs: [10.44.0.0/16]}}",
        ));
        expect!["kubernetes|10.43.0.0/16|60m"].assert_eq(&row(
            &ServiceCidr,
            "{metadata: {name: kubernetes}, spec: {cidrs: [10.43.0.0/16]}}",
        ));
    }
}
