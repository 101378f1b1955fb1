//! Objects as they are and as they would be, side by side: what `diff` and `drift` print.

use anyhow::Result;
use charts::release::{ObjectId, action::Resolved, manifest};
use serde_json::{Value, json};

use crate::{encode, unified};

/// An object on two sides; `None` where it is not there.
pub(super) struct Difference {
    pub(super) id: ObjectId,
    pub(super) old: Option<Value>,
    pub(super) new: Option<Value>,
}

/// How differences are shown.
#[derive(Clone, Copy)]
pub(super) struct Style {
    pub(super) colour: bool,
    /// What Secrets hold too.
    pub(super) secrets: bool,
}

impl Difference {
    /// Both sides of what applying an object does; where the server could not say, the object as it is applied.
    pub(super) fn of_apply(
        object: Resolved,
        (live, after): (Option<Value>, Option<Value>),
    ) -> Difference {
        Difference {
            old: live,
            new: Some(after.unwrap_or(object.value)),
            id: object.id,
        }
    }

    /// As text; empty if both sides are the same.
    pub(super) fn text(&self, style: Style) -> Result<String> {
        let side = |object: &Option<Value>| match object {
            None => Ok(String::new()),
            Some(object) => encode::yaml(&plain(object, style.secrets)),
        };
        let hunks = unified::diff(&side(&self.old)?, &side(&self.new)?, style.colour);
        if hunks.is_empty() {
            return Ok(hunks);
        }
        let what = match (&self.old, &self.new) {
            (None, _) => " (added)",
            (_, None) => " (removed)",
            _ => "",
        };
        let mut text = String::new();
        unified::paint(&mut text, style.colour, "1", &format!("{}{what}", self.id));
        text.push_str(&hunks);
        Ok(text)
    }
}

/// An object without what is the server's own.
fn plain(object: &Value, secrets: bool) -> Value {
    let mut object = manifest::content(object);
    if !secrets && object["kind"] == "Secret" {
        for field in ["data", "stringData"] {
            for (_, value) in object[field].as_object_mut().into_iter().flatten() {
                *value = hidden(value);
            }
        }
    }
    object
}

/// Stands for a secret: the same for the same one, and nothing to learn from.
fn hidden(value: &Value) -> Value {
    use std::hash::{BuildHasher as _, RandomState};
    thread_local! {
        // Of this run alone, so that nobody can try values against it.
        static KEY: RandomState = RandomState::new();
    }
    let digest = KEY.with(|key| key.hash_one(value.as_str().unwrap_or_default()));
    json!(format!("<hidden {:08x}>", digest >> 32))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    const STYLE: Style = Style {
        colour: false,
        secrets: false,
    };

    #[test]
    fn only_what_users_say_is_compared() {
        let object = |text: &str, version: &str| {
            Some(
                json!({"kind": "ConfigMap", "data": {"a": text}, "metadata": {"name": "x", "resourceVersion": version}, "status": version}),
            )
        };
        let id = ObjectId::new("v1", "ConfigMap", "n", "x");
        let difference = |old, new| Difference {
            id: id.clone(),
            old,
            new,
        };
        let same = difference(object("1", "7"), object("1", "8"));
        assert_eq!(same.text(STYLE).unwrap(), "");
        let changed = difference(object("1", "7"), object("2", "8"));
        expect![[r#"
            ConfigMap "x" in namespace "n"
            @@ -1,5 +1,5 @@
             data:
            -  a: "1"
            +  a: "2"
             kind: ConfigMap
             metadata:
               name: x
        "#]]
        .assert_eq(&changed.text(STYLE).unwrap());
    }

    #[test]
    fn secrets_show_that_they_changed_but_not_to_what() {
        let secret = |text: &str| Some(json!({"kind": "Secret", "data": {"a": text}}));
        let difference = Difference {
            id: ObjectId::new("v1", "Secret", "n", "x"),
            old: secret("b2xk"),
            new: secret("bmV3"),
        };
        let text = difference.text(STYLE).unwrap();
        assert!(
            text.contains("<hidden ") && !text.contains("bmV3"),
            "{text}"
        );
        let same = Difference {
            old: secret("b2xk"),
            new: secret("b2xk"),
            ..difference
        };
        assert_eq!(same.text(STYLE).unwrap(), "");
    }
}
