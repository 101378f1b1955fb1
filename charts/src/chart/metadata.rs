//! `Chart.yaml`, `Chart.lock` and `requirements.yaml`, read with Go's types and Helm's validation.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Map, Value, semver::Version, yaml};

/// What `Chart.yaml` says. Fields are in Helm's order and under Helm's names, as records of releases keep them.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Metadata {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub home: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keywords: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub maintainers: Vec<Maintainer>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub icon: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub condition: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tags: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub app_version: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub deprecated: bool,
    /// `None`: not given, which templates can tell from empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kube_version: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dependencies: Vec<Dependency>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub r#type: String,
}

/// Who keeps a chart.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Maintainer {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub email: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub url: String,
}

/// A chart that a chart depends on.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Dependency {
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    pub repository: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub condition: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub enabled: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub import_values: Vec<ImportValues>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub alias: String,
}

/// Values of a subchart that become values of its parent.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ImportValues {
    /// A map under the subchart's `exports`, into the parent's root.
    Export(String),
    Paths {
        child: String,
        parent: String,
    },
}

/// `Chart.lock`: the versions that dependencies were resolved to.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Lock {
    pub generated: String,
    pub digest: String,
    pub dependencies: Vec<Dependency>,
}

impl Metadata {
    /// Reads `Chart.yaml`.
    pub fn parse(text: &[u8]) -> Result<Metadata, String> {
        let mut metadata = Metadata::default();
        metadata.read(text)?;
        Ok(metadata)
    }

    /// Reads a text over what there is: `requirements.yaml` adds dependencies.
    pub(super) fn read(&mut self, text: &[u8]) -> Result<(), String> {
        let fields = Fields::parse(text, "v2.Metadata", "Metadata")?;
        fields.text("name", &mut self.name)?;
        fields.text("home", &mut self.home)?;
        fields.texts("sources", &mut self.sources)?;
        fields.text("version", &mut self.version)?;
        fields.text("description", &mut self.description)?;
        fields.texts("keywords", &mut self.keywords)?;
        if let Some(items) = fields.list("maintainers", "[]*v2.Maintainer")? {
            let maintainers = items.iter().map(|item| {
                let null = "validation: maintainers must not contain empty or null nodes";
                let fields = fields.nested(item, "Maintainer", null)?;
                let mut maintainer = Maintainer::default();
                fields.text("name", &mut maintainer.name)?;
                fields.text("email", &mut maintainer.email)?;
                fields.text("url", &mut maintainer.url)?;
                Ok(maintainer)
            });
            self.maintainers = maintainers.collect::<Result<_, String>>()?;
        }
        fields.text("icon", &mut self.icon)?;
        fields.text("apiVersion", &mut self.api_version)?;
        fields.text("condition", &mut self.condition)?;
        fields.text("tags", &mut self.tags)?;
        fields.text("appVersion", &mut self.app_version)?;
        fields.truth("deprecated", &mut self.deprecated)?;
        if let Some(map) = fields.map("annotations", "map[string]string")? {
            let annotations = self.annotations.get_or_insert_default();
            for (key, value, _) in map.reads() {
                let mut text = String::new();
                set_text(&value, &mut text)
                    .map_err(|found| fields.mismatch("annotations", found, "string"))?;
                annotations.insert(crate::json::text(&key).into_owned(), text);
            }
        }
        fields.text("kubeVersion", &mut self.kube_version)?;
        if let Some(items) = fields.list("dependencies", "[]*v2.Dependency")? {
            self.dependencies = dependencies(&fields, &items)?;
        }
        fields.text("type", &mut self.r#type)
    }

    /// Refuses what Helm refuses, in its words, and makes line breaks and control characters within texts blanks.
    pub(super) fn validate(&mut self) -> Result<(), String> {
        let texts = [
            &mut self.name,
            &mut self.description,
            &mut self.home,
            &mut self.icon,
            &mut self.condition,
            &mut self.tags,
            &mut self.app_version,
            &mut self.kube_version,
        ];
        texts.into_iter().for_each(clean);
        self.sources.iter_mut().for_each(clean);
        self.keywords.iter_mut().for_each(clean);
        for maintainer in &mut self.maintainers {
            clean(&mut maintainer.name);
            clean(&mut maintainer.email);
            clean(&mut maintainer.url);
        }
        let require = |fits: bool, message: &str| match fits {
            true => Ok(()),
            false => Err(format!("validation: {message}")),
        };
        let name = &self.name;
        let version = &self.version;
        require(!name.is_empty(), "chart.metadata.name is required")?;
        require(
            !name.contains('/') && name != "." && name != "..",
            &format!("chart.metadata.name {name:?} is invalid"),
        )?;
        require(!version.is_empty(), "chart.metadata.version is required")?;
        require(
            Version::parse(version).is_ok(),
            &format!("chart.metadata.version {version:?} is invalid"),
        )?;
        require(
            ["", "application", "library"].contains(&self.r#type.as_str()),
            "chart.metadata.type must be application or library",
        )?;
        let mut names = Vec::new();
        for dependency in &self.dependencies {
            let plain = |letter: char| letter.is_ascii_alphanumeric() || "_-".contains(letter);
            let name = &dependency.name;
            require(
                dependency.alias.chars().all(plain),
                &format!("dependency {name:?} has disallowed characters in the alias"),
            )?;
            let name = dependency.name_in_parent();
            require(
                !names.contains(&name),
                &format!("more than one dependency with name or alias {name:?}"),
            )?;
            names.push(name);
        }
        Ok(())
    }
}

impl Dependency {
    /// What its parent calls it: the alias, else the name.
    pub fn name_in_parent(&self) -> &str {
        match self.alias.as_str() {
            "" => &self.name,
            alias => alias,
        }
    }
}

impl Lock {
    pub(super) fn parse(text: &[u8]) -> Result<Lock, String> {
        let fields = Fields::parse(text, "v2.Lock", "Lock")?;
        let mut lock = Lock::default();
        fields.text("generated", &mut lock.generated)?;
        fields.text("digest", &mut lock.digest)?;
        if let Some(items) = fields.list("dependencies", "[]*v2.Dependency")? {
            lock.dependencies = dependencies(&fields, &items)?;
        }
        Ok(lock)
    }
}

fn dependencies(parent: &Fields, items: &[Value]) -> Result<Vec<Dependency>, String> {
    let dependency = |item: &Value| {
        let null = "validation: dependencies must not contain empty or null nodes";
        let fields = parent.nested(item, "Dependency", null)?;
        let mut dependency = Dependency::default();
        fields.text("name", &mut dependency.name)?;
        fields.text("version", &mut dependency.version)?;
        fields.text("repository", &mut dependency.repository)?;
        fields.text("condition", &mut dependency.condition)?;
        fields.texts("tags", &mut dependency.tags)?;
        fields.truth("enabled", &mut dependency.enabled)?;
        fields.text("alias", &mut dependency.alias)?;
        let imports = fields.list("import-values", "[]interface {}")?;
        let imports = imports.iter().flatten().filter_map(import_values);
        dependency.import_values = imports.collect();
        clean(&mut dependency.name);
        clean(&mut dependency.version);
        clean(&mut dependency.repository);
        clean(&mut dependency.condition);
        dependency.tags.iter_mut().for_each(clean);
        Ok(dependency)
    };
    items.iter().map(dependency).collect()
}

/// What is neither form has no effect.
fn import_values(value: &Value) -> Option<ImportValues> {
    match value {
        Value::String(name) => Some(ImportValues::Export(crate::json::text(name).into_owned())),
        Value::Map(map) => {
            let path = |key: &str| {
                let value = map.peek(key.as_bytes()).unwrap_or_default();
                crate::json::text(&crate::format::sprint(&value)).into_owned()
            };
            Some(ImportValues::Paths {
                child: path("child"),
                parent: path("parent"),
            })
        }
        _ => None,
    }
}

/// A map that is read into a Go struct.
struct Fields {
    map: Map,
    /// The struct, as Go's messages name it.
    name: String,
}

impl Fields {
    fn parse(text: &[u8], type_name: &'static str, name: &str) -> Result<Fields, String> {
        let map = match yaml::parse(text).map_err(|error| error.to_string())? {
            Value::Map(map) => map,
            Value::Nil => Map::new(),
            other => {
                let error = yaml::Error::Type {
                    found: crate::json::kind(&other),
                    wanted: type_name,
                };
                return Err(error.to_string());
            }
        };
        let name = name.to_owned();
        Ok(Fields { map, name })
    }

    fn nested(&self, value: &Value, name: &str, null: &str) -> Result<Fields, String> {
        match value {
            Value::Map(map) => Ok(Fields {
                map: map.clone(),
                name: name.to_owned(),
            }),
            Value::Nil => Err(null.to_owned()),
            other => Err(self.mismatch(
                "dependencies",
                crate::json::kind(other),
                &format!("v2.{name}"),
            )),
        }
    }

    fn mismatch(&self, field: &str, found: &str, wanted: &str) -> String {
        format!(
            "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {found} into Go \
             struct field {}.{field} of type {wanted}",
            self.name
        )
    }

    fn get(&self, field: &str) -> Option<Value> {
        self.map
            .peek(field.as_bytes())
            .filter(|value| !matches!(value, Value::Nil))
    }

    fn text(&self, field: &str, to: &mut String) -> Result<(), String> {
        let Some(value) = self.get(field) else {
            return Ok(());
        };
        set_text(&value, to).map_err(|found| self.mismatch(field, found, "string"))
    }

    fn truth(&self, field: &str, to: &mut bool) -> Result<(), String> {
        match self.get(field) {
            None => Ok(()),
            Some(Value::Bool(truth)) => {
                *to = truth;
                Ok(())
            }
            Some(other) => Err(self.mismatch(field, crate::json::kind(&other), "bool")),
        }
    }

    fn list(&self, field: &str, wanted: &str) -> Result<Option<Vec<Value>>, String> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::List(list)) => Ok(Some(list.items.to_vec())),
            Some(other) => Err(self.mismatch(field, crate::json::kind(&other), wanted)),
        }
    }

    fn texts(&self, field: &str, to: &mut Vec<String>) -> Result<(), String> {
        let Some(items) = self.list(field, "[]string")? else {
            return Ok(());
        };
        let texts = items.iter().map(|item| {
            let mut text = String::new();
            set_text(item, &mut text).map_err(|found| self.mismatch(field, found, "string"))?;
            Ok(text)
        });
        *to = texts.collect::<Result<_, String>>()?;
        Ok(())
    }

    fn map(&self, field: &str, wanted: &str) -> Result<Option<Map>, String> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::Map(map)) => Ok(Some(map)),
            Some(other) => Err(self.mismatch(field, crate::json::kind(&other), wanted)),
        }
    }
}

/// A scalar as text, where Go's struct has a string; otherwise what it is instead.
fn set_text(value: &Value, to: &mut String) -> Result<(), &'static str> {
    *to = match value {
        Value::Nil => String::new(),
        Value::String(bytes) => crate::json::text(bytes).into_owned(),
        Value::Bool(truth) => truth.to_string(),
        Value::Float(number) => match crate::float::json(*number) {
            whole
                if whole
                    .bytes()
                    .all(|byte| byte.is_ascii_digit() || byte == b'-') =>
            {
                whole
            }
            _ => crate::float::shortest(*number),
        },
        other => return Err(crate::json::kind(other)),
    };
    Ok(())
}

/// Blanks for every kind of white space, nothing for what cannot be printed.
fn clean(text: &mut String) {
    if text
        .chars()
        .all(|letter| letter == ' ' || !(letter.is_whitespace() || letter.is_control()))
    {
        return;
    }
    let letters = text.chars().filter_map(|letter| match letter {
        letter if letter.is_whitespace() => Some(' '),
        letter if letter.is_control() => None,
        letter => Some(letter),
    });
    *text = letters.collect();
}
