//! What was asked of the API, by verb and resource: the difference between two looks at `/metrics`.

use std::collections::BTreeMap;

use super::client::Client;

/// Requests by `<verb> <resource>[/<subresource>]`.
#[derive(Default)]
pub(super) struct Calls(BTreeMap<String, f64>);

impl Calls {
    /// All so far, except watches and what was asked of paths that name no resource.
    pub(super) async fn so_far(client: &Client) -> Calls {
        Calls(parse(&client.metrics().await))
    }

    /// Those since `before`, a pod, the most first; what is less than a hundredth is left out.
    pub(super) fn per_pod(&self, before: &Calls, pods: usize) -> String {
        let since = self.0.iter().map(|(what, count)| {
            let earlier = before.0.get(what).copied().unwrap_or_default();
            (what, (count - earlier) / pods as f64)
        });
        let mut since: Vec<_> = since.filter(|(_, count)| *count >= 0.01).collect();
        since.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        let all: f64 = since.iter().map(|(_, count)| count).sum();
        let each = since
            .iter()
            .map(|(what, count)| format!("{what} {count:.2}"));
        format!("{all:.2}: {}", each.collect::<Vec<_>>().join(", "))
    }
}

/// Reads `apiserver_request_total`. Pure.
fn parse(metrics: &str) -> BTreeMap<String, f64> {
    let mut calls = BTreeMap::new();
    for line in metrics.lines() {
        let Some((labels, count)) = line
            .strip_prefix("apiserver_request_total{")
            .and_then(|rest| rest.rsplit_once("} "))
        else {
            continue;
        };
        let label = |name: &str| {
            let place = labels.find(&format!("{name}=\""))? + name.len() + 2;
            labels[place..].split('"').next()
        };
        let [Some(verb), Some(resource), Some(subresource), Some(code)] =
            ["verb", "resource", "subresource", "code"].map(label)
        else {
            continue;
        };
        if verb == "WATCH" || resource.is_empty() {
            continue;
        }
        let mut what = format!("{verb} {resource}");
        if !subresource.is_empty() {
            what = format!("{what}/{subresource}");
        }
        if !code.starts_with('2') {
            what = format!("{what} ({code})");
        }
        *calls.entry(what).or_default() += count.parse::<f64>().unwrap_or_default();
    }
    calls
}
