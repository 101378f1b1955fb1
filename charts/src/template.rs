//! Go's templates, as Helm uses them.
//!
//! Text goes through [`lexer`] and [`parser`] to a tree ([`ast`]), which [`execution`] walks. Parsed templates are shared by
//! any number of renderings, also on several threads; a [`Rendering`] has what one of them may use. What goes wrong is a
//! [`TemplateError`], which says where and knows the values.
//!
//! Never touches files or the network; `lookup` asks through the [`Environment`].

mod ast;
mod builtin;
mod compare;
mod error;
mod escape;
mod execution;
mod lexer;
mod number;
mod parser;
mod path;
mod scope;
mod unread;
mod warning;

use std::{
    cell::RefCell,
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;

use crate::{Environment, Value};

use ast::{Definition, Source};

pub use error::{Position, TemplateError};
pub use path::{ValuePath, suggest};
pub use unread::unread;
pub use warning::Warning;

/// What Go prints for nil; Helm removes it from everything it renders.
const NO_VALUE: &str = "<no value>";

/// What a `tpl`'s text is called.
const TPL_NAME: &str = "gotpl";

/// How many texts given to `tpl` are kept parsed, and how many [`Templates::words`] they may have.
const TPL_KEPT: usize = 2048;
const TPL_WORDS: usize = 500_000;

/// Actions and operands of all templates of a chart: the largest public ones have some ten thousands.
const WORDS: usize = 2_000_000;

/// How templates are executed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// A key that a map doesn't have is an error, rather than nil.
    pub strict: bool,
    /// `required` and `fail` let pass, as `lint` needs it.
    pub lint: bool,
}

/// A set of parsed templates that may name each other.
#[derive(Debug)]
pub struct Templates {
    definitions: HashMap<Arc<str>, Arc<Definition>>,
    options: Options,
    /// How many actions and operands there may still be.
    words: usize,
    /// Texts given to `tpl`, parsed.
    expanded: Mutex<Expanded>,
}

/// Texts given to `tpl`, parsed.
#[derive(Debug, Default)]
struct Expanded {
    texts: HashMap<Bytes, Arc<Parsed>>,
    words: usize,
}

/// A text, parsed.
#[derive(Debug)]
struct Parsed {
    definitions: HashMap<Arc<str>, Arc<Definition>>,
    words: usize,
}

/// What an execution gave.
#[derive(Clone, PartialEq, Debug)]
pub struct Executed {
    pub text: Bytes,
    pub warnings: Vec<Warning>,
}

impl Default for Templates {
    fn default() -> Templates {
        Templates::with_options(Options::default())
    }
}

impl Templates {
    pub fn new() -> Templates {
        Templates::default()
    }

    pub fn with_options(options: Options) -> Templates {
        Templates {
            definitions: HashMap::new(),
            options,
            words: WORDS,
            expanded: Mutex::default(),
        }
    }

    /// Parses a file's text: a template of the file's name, and those it defines. One that is not empty replaces an earlier
    /// one of its name.
    pub fn add(&mut self, name: &str, text: impl Into<Bytes>) -> Result<(), TemplateError> {
        for definition in parse(name, text.into(), &mut self.words)? {
            let known = self.definitions.contains_key(&definition.name);
            if !known || !definition.is_empty() {
                self.definitions.insert(definition.name.clone(), definition);
            }
        }
        Ok(())
    }

    /// Whether there is a template of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.definitions.contains_key(name)
    }

    /// Executes one template, with limits of its own.
    pub fn execute(
        &self,
        name: &str,
        data: Value,
        environment: &Environment,
    ) -> Result<Executed, TemplateError> {
        let rendering = Rendering::new(self, environment);
        let text = rendering.execute(name, data)?;
        let warnings = rendering.into_warnings();
        Ok(Executed { text, warnings })
    }

    /// What `tpl` was given, if it was parsed before and kept.
    fn expanded(&self, text: &Bytes) -> Option<Arc<Parsed>> {
        self.kept().texts.get(text).cloned()
    }

    /// Parses what `tpl` was given, and keeps it.
    fn expand(&self, text: &Bytes) -> Result<Arc<Parsed>, TemplateError> {
        let mut left = TPL_WORDS;
        let definitions = parse(TPL_NAME, text.clone(), &mut left)?.into_iter();
        let parsed = Arc::new(Parsed {
            definitions: definitions
                .map(|definition| (definition.name.clone(), definition))
                .collect(),
            // Its bytes take memory too.
            words: TPL_WORDS - left + text.len() / 64,
        });
        let mut kept = self.kept();
        kept.words += parsed.words;
        if kept.texts.len() >= TPL_KEPT || kept.words > TPL_WORDS {
            kept.texts.clear();
            kept.words = parsed.words;
        }
        // The text may be a piece of a larger one, which would be kept with it.
        let text = Bytes::copy_from_slice(text);
        kept.texts.insert(text, parsed.clone());
        Ok(parsed)
    }

    fn kept(&self) -> MutexGuard<'_, Expanded> {
        // A thread that panicked while it held the lock left a whole map behind.
        let kept = self.expanded.lock();
        kept.unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn parse(
    name: &str,
    text: Bytes,
    words: &mut usize,
) -> Result<Vec<Arc<Definition>>, TemplateError> {
    let source = Arc::new(Source {
        name: name.into(),
        text,
    });
    let definitions = parser::parse(&source, words)?;
    Ok(definitions.into_iter().map(Arc::new).collect())
}

/// One rendering of a set of templates: its limits hold for all that it executes.
pub struct Rendering<'a> {
    templates: &'a Templates,
    environment: &'a Environment,
    spent: RefCell<execution::Spent>,
}

impl<'a> Rendering<'a> {
    pub fn new(templates: &'a Templates, environment: &'a Environment) -> Rendering<'a> {
        Rendering {
            templates,
            environment,
            spent: RefCell::default(),
        }
    }

    /// Executes one template. Maps among the data may change: templates `set` them.
    pub fn execute(&self, name: &str, data: Value) -> Result<Bytes, TemplateError> {
        let Some(definition) = self.templates.definitions.get(name) else {
            return Err(TemplateError::absent(name));
        };
        let spent = self.spent.take();
        let (result, spent) =
            execution::run(self.templates, self.environment, spent, definition, data);
        self.spent.replace(spent);
        result
    }

    /// What was strange, though no error: in the order it was met.
    pub fn into_warnings(self) -> Vec<Warning> {
        self.spent.into_inner().warnings
    }
}

/// A text without [`NO_VALUE`].
fn without_no_value(text: Vec<u8>) -> Bytes {
    let mark = NO_VALUE.as_bytes();
    if find(&text, mark).is_none() {
        return text.into();
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = &text[..];
    while let Some(at) = find(rest, mark) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at + mark.len()..];
    }
    out.extend_from_slice(rest);
    out.into()
}

/// Where `needle`, which isn't empty, first is.
fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += haystack[at..].iter().position(|byte| *byte == needle[0])?;
        if haystack[at..].starts_with(needle) {
            return Some(at);
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests;
