//! The class by which pods are ranked when a node runs short.

use serde_json::Value;

use crate::{
    kinds::value::{entries, items, part, plain},
    quantity::Quantity,
};

/// `Guaranteed` if every container's CPU and memory are limited to what they request,
/// `BestEffort` if none asks for any, else `Burstable`.
pub(crate) fn class(spec: &Value) -> &'static str {
    let containers = || {
        let lists = ["/containers", "/initContainers"];
        lists.into_iter().flat_map(|list| items(spec, list))
    };
    let asks = |container: &Value| {
        ["/resources/requests", "/resources/limits"]
            .into_iter()
            .flat_map(|list| entries(container, list))
            .any(|(resource, value)| counts(resource) && !is_zero(value))
    };
    let guaranteed = |container: &Value| {
        ["cpu", "memory"].iter().all(|resource| {
            let limit = part(container, "/resources/limits").get(resource);
            let request = part(container, "/resources/requests").get(resource);
            limit.is_some_and(|limit| {
                !is_zero(limit) && request.is_none_or(|request| equal(request, limit))
            })
        })
    };
    if !containers().any(asks) {
        "BestEffort"
    } else if containers().all(guaranteed) {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

fn counts(resource: &str) -> bool {
    matches!(resource, "cpu" | "memory")
}

fn is_zero(value: &Value) -> bool {
    equal(value, &Value::from("0"))
}

fn equal(one: &Value, other: &Value) -> bool {
    let parse = |value: &Value| plain(value).parse::<Quantity>().ok();
    parse(one).is_some_and(|one| parse(other).is_some_and(|other| one == other))
}

#[cfg(test)]
mod tests {
    use crate::kinds::tests::read;

    #[track_caller]
    fn check(resources: &str, class: &str) {
        let spec = read(&format!("{{containers: [{{resources: {{{resources}}}}}]}}"));
        assert_eq!(super::class(&spec), class);
    }

    #[test]
    fn the_class_follows_requests_and_limits() {
        check("", "BestEffort");
        check("requests: {cpu: 0}", "BestEffort");
        check("requests: {cpu: 1}", "Burstable");
        check("limits: {cpu: 1, memory: 1Gi}", "Guaranteed");
        check(
            "limits: {cpu: 1, memory: 1Gi}, requests: {cpu: 1000m, memory: 1024Mi}",
            "Guaranteed",
        );
    }
}
