//! What a component may import, and what to say of one that imports something else. Pure.

use wasmtime::{
    Engine,
    component::{
        Component,
        types::{ComponentInstance, ComponentItem},
    },
};

use crate::{config, logging};

/// The interfaces that the linker offers, without their versions.
const OFFERED: &[&str] = &[
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:http/outgoing-handler",
    "wasi:http/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
];

/// The version of all of them; every 0.2 before it is served too.
const VERSION: &str = "0.2.12";

/// Imports that cannot be met, one phrase each.
///
/// `accepts` says whether the linker has what an instance of that name must have.
pub(crate) fn missing(engine: &Engine, component: &Component) -> Vec<String> {
    let ty = component.component_type();
    let imports = ty.imports(engine);
    imports
        .filter_map(|(name, item)| match item.ty {
            ComponentItem::ComponentInstance(instance) => of_instance(engine, name, &instance),
            ComponentItem::Type(_) => None,
            item => Some(format!(
                "{name:?}, a {} of its own: components get interfaces (such as wasi:cli/environment@{VERSION}), nothing else",
                word(&item)
            )),
        })
        .collect()
}

fn of_instance(engine: &Engine, import: &str, instance: &ComponentInstance) -> Option<String> {
    // Types alone need nobody to implement them.
    let needs = instance
        .exports(engine)
        .any(|(_, item)| !matches!(item.ty, ComponentItem::Type(_)));
    let (name, version) = import.split_once('@').unwrap_or((import, ""));
    let drafts = || config::INTERFACES.iter().chain(logging::INTERFACES);
    if drafts().any(|offered| *offered == import) {
        return None;
    }
    let same = drafts().filter(|offered| offered.split('@').next() == Some(name));
    let same: Vec<&str> = same.copied().collect();
    if needs && !same.is_empty() {
        return Some(format!("{import}: offered is {}", same.join(" and ")));
    }
    if !needs || (OFFERED.contains(&name) && is_served(version)) {
        return None;
    }
    if OFFERED.contains(&name) {
        return Some(format!(
            "{import}: offered is {name}@{VERSION}, and every 0.2 before it"
        ));
    }
    Some(match nearest(name) {
        Some(near) => format!("{import}: not offered; the nearest is {near}@{VERSION}"),
        None => format!("{import}: not offered, nor anything like it"),
    })
}

/// Whether a version of an offered interface is served: 0.2, of any patch.
fn is_served(version: &str) -> bool {
    version
        .strip_prefix("0.2.")
        .is_some_and(|patch| patch.parse::<u64>().is_ok())
}

/// The offered interface of the most alike name, if one is alike at all: of the same package, or a few
/// letters away.
fn nearest(name: &str) -> Option<&'static str> {
    let package = |name: &str| name.split_once('/').map(|(package, _)| package.to_owned());
    let best = OFFERED.iter().min_by_key(|offered| {
        let elsewhere = package(offered) != package(name);
        (
            distance(name, offered) + usize::from(elsewhere) * 3,
            **offered,
        )
    })?;
    let alike = package(best) == package(name) || distance(name, best) <= name.len() / 4;
    alike.then_some(*best)
}

/// How many letters must be put in, left out or changed to make `b` of `a`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let change = corner + usize::from(from != *to);
            corner = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

fn word(item: &ComponentItem) -> &'static str {
    match item {
        ComponentItem::ComponentFunc(_) | ComponentItem::CoreFunc(_) => "function",
        ComponentItem::Module(_) => "module",
        ComponentItem::Component(_) => "component",
        ComponentItem::Resource(_) => "resource",
        ComponentItem::ComponentInstance(_) | ComponentItem::Type(_) => "type",
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(imports: &[&str], want: Expect) {
        let imports: String = imports
            .iter()
            .map(|import| format!("(import {import:?} (instance (export \"f\" (func))))"))
            .collect();
        let engine = Engine::default();
        let component = Component::new(&engine, format!("(component {imports})")).unwrap();
        want.assert_eq(&(missing(&engine, &component).join("\n") + "\n"));
    }

    #[test]
    fn an_import_that_is_not_offered_is_named_with_what_is_most_like_it() {
        check(
            &[
                "wasi:cli/environment@0.2.3",
                "wasi:cli/enviroment@0.2.3",
                "wasi:http/types@0.3.0",
                "wasi:keyvalue/store@0.2.0",
                "wasi:sockets/tls@0.2.0",
                "wasi:logging/logging@0.1.0-draft",
                "wasi:logging/logging@1.0.0",
                "acme:db/query@1.0.0",
            ],
            expect![[r#"
                wasi:cli/enviroment@0.2.3: not offered; the nearest is wasi:cli/environment@0.2.12
                wasi:http/types@0.3.0: offered is wasi:http/types@0.2.12, and every 0.2 before it
                wasi:keyvalue/store@0.2.0: not offered, nor anything like it
                wasi:sockets/tls@0.2.0: not offered; the nearest is wasi:sockets/tcp@0.2.12
                wasi:logging/logging@1.0.0: offered is wasi:logging/logging and wasi:logging/logging@0.1.0-draft
                acme:db/query@1.0.0: not offered, nor anything like it
            "#]],
        );
    }

    #[test]
    fn letters_are_counted() {
        assert_eq!(distance("abc", "abc"), 0);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "ab"), 2);
    }
}
