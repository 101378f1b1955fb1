//! `.Files`: a chart's files that are neither templates nor its own description, as templates read them.

use std::{any::Any, collections::BTreeMap, rc::Rc};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;

use super::object::wrong_number;
use crate::{
    Failure, Map, Object, Value,
    chart::{File, glob::Pattern},
    yaml,
};

/// Files by their paths.
#[derive(Clone)]
pub(super) struct Files(Rc<BTreeMap<String, Bytes>>);

impl Files {
    pub(super) fn new(files: &[File]) -> Files {
        let files = files.iter();
        Files(Rc::new(
            files
                .map(|file| (file.name.clone(), file.data.clone()))
                .collect(),
        ))
    }

    /// What is not there is empty.
    fn get(&self, name: &str) -> Bytes {
        self.0.get(name).cloned().unwrap_or_default()
    }

    /// A pattern that is none means every file.
    fn glob(&self, pattern: &str) -> Files {
        let pattern = Pattern::glob(pattern).ok();
        let matches = |name: &str| pattern.as_ref().is_none_or(|pattern| pattern.matches(name));
        let files = self.0.iter().filter(|(name, _)| matches(name));
        Files(Rc::new(
            files
                .map(|(name, data)| (name.clone(), data.clone()))
                .collect(),
        ))
    }

    fn lines(&self, name: &str) -> Result<Value, Failure> {
        let Some(data) = self.0.get(name) else {
            return Ok(Value::strings(Vec::new()));
        };
        let text = data.strip_suffix(b"\n").unwrap_or(data);
        let lines = text.split(|byte| *byte == b'\n');
        let lines = lines.map(|line| Value::string(data.slice_ref(line)));
        Ok(Value::strings(lines.collect()))
    }

    /// A YAML map of file names, without their directories, to what a function makes of their contents.
    fn map(&self, content: impl Fn(&Bytes) -> Value) -> Value {
        if self.0.is_empty() {
            return Value::string("");
        }
        let map = Map::new();
        for (name, data) in self.0.iter() {
            let base = name
                .rsplit_once('/')
                .map_or(name.as_str(), |(_, base)| base);
            map.insert(base.to_owned(), content(data));
        }
        Value::string(yaml::emit(&Value::Map(map)))
    }
}

impl Object for Files {
    fn type_name(&self) -> &'static str {
        "engine.files"
    }

    fn kind(&self) -> &'static str {
        "map"
    }

    fn field(&self, name: &str) -> Option<Value> {
        self.0.get(name).cloned().map(Value::String)
    }

    fn method(&self, name: &str, args: &[Value]) -> Option<Result<Value, Failure>> {
        let argument = match args {
            [Value::String(text)] => Some(crate::json::text(text).into_owned()),
            _ => None,
        };
        let wanted = usize::from(!matches!(name, "AsConfig" | "AsSecrets"));
        let known = ["Get", "GetBytes", "Glob", "Lines", "AsConfig", "AsSecrets"];
        if !known.contains(&name) {
            return None;
        }
        if args.len() != wanted {
            return Some(Err(wrong_number(name, wanted, args.len())));
        }
        Some(match (name, argument) {
            ("AsConfig", _) => Ok(self.map(|data| Value::String(data.clone()))),
            ("AsSecrets", _) => Ok(self.map(|data| Value::string(BASE64_STANDARD.encode(data)))),
            (_, None) => Err(Failure::new("wrong type for value; expected string")),
            ("Get" | "GetBytes", Some(path)) => Ok(Value::String(self.get(&path))),
            ("Glob", Some(pattern)) => Ok(Value::Object(Rc::new(self.glob(&pattern)))),
            (_, Some(path)) => self.lines(&path),
        })
    }

    fn print(&self) -> String {
        let numbers = |data: &Bytes| {
            let numbers: Vec<String> = data.iter().map(u8::to_string).collect();
            numbers.join(" ")
        };
        let files = self.0.iter();
        let files: Vec<String> = files
            .map(|(name, data)| format!("{name}:[{}]", numbers(data)))
            .collect();
        format!("map[{}]", files.join(" "))
    }

    fn plain(&self) -> Value {
        let map = Map::new();
        for (name, data) in self.0.iter() {
            map.insert(name.clone(), Value::String(data.clone()));
        }
        Value::Map(map)
    }

    /// Go's JSON has bytes as base64.
    fn document(&self) -> Value {
        let map = Map::new();
        for (name, data) in self.0.iter() {
            map.insert(name.clone(), Value::string(BASE64_STANDARD.encode(data)));
        }
        Value::Map(map)
    }

    fn truth(&self) -> bool {
        !self.0.is_empty()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
