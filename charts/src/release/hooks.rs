//! Which hooks run at an event, in which order, and what becomes of their objects. Pure.

use super::{
    manifest::place,
    record::{DeletePolicy, Event, Hook},
};

/// The indexes of the hooks of an event in the order in which they run: by weight, kind, name.
pub fn order(hooks: &[Hook], event: Event) -> Vec<usize> {
    let mut indexes: Vec<usize> = (0..hooks.len())
        .filter(|index| hooks[*index].events.contains(&event))
        .collect();
    indexes.sort_by(|a, b| {
        let key = |index: &usize| {
            let hook = &hooks[*index];
            (hook.weight, place(&hook.kind), &hook.name)
        };
        key(a).cmp(&key(b))
    });
    indexes
}

/// Whether a hook's object goes at this point. Definitions of custom kinds never do: their objects would go with them.
pub fn deletes(hook: &Hook, policy: DeletePolicy) -> bool {
    if hook.kind == "CustomResourceDefinition" {
        return false;
    }
    if hook.delete_policies.is_empty() {
        return policy == DeletePolicy::BeforeHookCreation;
    }
    hook.delete_policies.contains(&policy)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn hook(kind: &str, name: &str, weight: i64, policies: &[DeletePolicy]) -> Hook {
        Hook {
            name: name.to_owned(),
            kind: kind.to_owned(),
            weight,
            events: vec![Event::PreInstall],
            delete_policies: policies.to_vec(),
            ..Hook::default()
        }
    }

    #[test]
    fn hooks_run_by_weight_then_kind_then_name() {
        let mut hooks = vec![
            hook("Job", "b", 0, &[]),
            hook("Job", "a", 0, &[]),
            hook("Zoo", "z", 0, &[]),
            hook("ConfigMap", "c", 0, &[]),
            hook("Job", "late", 5, &[]),
            hook("Job", "early", -5, &[]),
            hook("Job", "other", 0, &[]),
        ];
        hooks[6].events = vec![Event::PostInstall];
        let names: Vec<_> = order(&hooks, Event::PreInstall)
            .into_iter()
            .map(|index| hooks[index].name.as_str())
            .collect();
        expect!["early c a b z late"].assert_eq(&names.join(" "));
    }

    #[test]
    fn without_a_policy_the_old_object_goes_before_the_new_is_made() {
        use DeletePolicy::{BeforeHookCreation, HookFailed, HookSucceeded};
        let plain = hook("Job", "a", 0, &[]);
        assert!(deletes(&plain, BeforeHookCreation));
        assert!(!deletes(&plain, HookSucceeded));
        let once = hook("Job", "a", 0, &[HookSucceeded]);
        assert!(deletes(&once, HookSucceeded) && !deletes(&once, BeforeHookCreation));
        let definition = hook("CustomResourceDefinition", "a", 0, &[HookFailed]);
        assert!(!deletes(&definition, HookFailed));
    }
}
