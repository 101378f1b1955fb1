//! What an expression may name: fields that the schema has, `self`, `oldSelf`, and known functions.
//!
//! Pure. Types are told as far as the schema tells them: an expression that names a field which is not
//! there, or plainly comes to something else than it must, is refused with its definition.

use kube_cel::cel::{
    IdedExpr,
    common::ast::{EntryExpr, Expr, LiteralValue, operators},
};

use super::{Wanted, value::unescape};
use crate::schema::{Schema, Shape};

/// What is known of a value's type.
#[derive(Clone)]
enum Type {
    Of(Schema),
    ListOf(Box<Type>),
    Truth,
    Number,
    Text,
    /// Whatever it is.
    Dynamic,
}

/// What is wrong with an expression about values of a schema.
pub(super) fn problem(expression: &IdedExpr, schema: &Schema, wanted: Wanted) -> Option<String> {
    let names = vec![
        ("self".to_owned(), Type::Of(schema.clone())),
        // May be optional.
        ("oldSelf".to_owned(), Type::Dynamic),
    ];
    let mut scope = Scope { names };
    match scope.type_of(expression) {
        Err(problem) => Some(problem),
        Ok(found) => match wanted {
            Wanted::Truth if !found.may_be_truth() => {
                Some("cel expression must evaluate to a bool".to_owned())
            }
            Wanted::Text if !found.may_be_text() => {
                Some("messageExpression must evaluate to a string".to_owned())
            }
            _ => None,
        },
    }
}

impl Type {
    fn may_be_truth(&self) -> bool {
        match self {
            Self::Truth | Self::Dynamic => true,
            Self::Of(schema) => matches!(schema.shape(), Shape::Boolean | Shape::Any),
            _ => false,
        }
    }

    fn may_be_text(&self) -> bool {
        match self {
            Self::Text | Self::Dynamic => true,
            Self::Of(schema) => matches!(
                schema.shape(),
                Shape::String | Shape::IntOrString | Shape::Any
            ),
            _ => false,
        }
    }

    fn item(&self) -> Self {
        match self {
            Self::ListOf(item) => (**item).clone(),
            Self::Of(schema) => match schema.items().or_else(|| schema.values()) {
                Some(item) => Self::Of(item),
                None => Self::Dynamic,
            },
            _ => Self::Dynamic,
        }
    }

    fn element(&self) -> Self {
        match self {
            Self::Of(schema) if schema.values().is_some() => Self::Text,
            other => other.item(),
        }
    }
}

struct Scope {
    names: Vec<(String, Type)>,
}

impl Scope {
    fn type_of(&mut self, expression: &IdedExpr) -> Result<Type, String> {
        Ok(match &expression.expr {
            Expr::Literal(LiteralValue::Boolean(_)) => Type::Truth,
            Expr::Literal(LiteralValue::String(_)) => Type::Text,
            Expr::Literal(
                LiteralValue::Int(_) | LiteralValue::UInt(_) | LiteralValue::Double(_),
            ) => Type::Number,
            Expr::Literal(_) => Type::Dynamic,
            Expr::Ident(name) => self.name(name)?,
            Expr::Select(select) => {
                let owner = self.type_of(&select.operand)?;
                let field = field(&owner, &select.field)?;
                if select.test { Type::Truth } else { field }
            }
            Expr::List(list) => {
                let mut item = Type::Dynamic;
                for element in &list.elements {
                    item = self.type_of(element)?;
                }
                Type::ListOf(Box::new(item))
            }
            Expr::Map(map) => {
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        self.type_of(&entry.key)?;
                        self.type_of(&entry.value)?;
                    }
                }
                Type::Dynamic
            }
            Expr::Comprehension(comprehension) => {
                let range = self.type_of(&comprehension.iter_range)?;
                let start = self.type_of(&comprehension.accu_init)?;
                let depth = self.names.len();
                self.names
                    .push((comprehension.iter_var.clone(), range.element()));
                self.names.push((comprehension.accu_var.clone(), start));
                self.type_of(&comprehension.loop_cond)?;
                self.type_of(&comprehension.loop_step)?;
                let result = self.type_of(&comprehension.result)?;
                self.names.truncate(depth);
                match result {
                    // What was gathered is of the steps' making.
                    Type::ListOf(_) => Type::ListOf(Box::new(Type::Dynamic)),
                    other => other,
                }
            }
            Expr::Call(call) => {
                let name = call.func_name.as_str();
                let qualified = call
                    .target
                    .as_deref()
                    .and_then(|target| namespace(target))
                    .map(|space| format!("{space}.{name}"))
                    .filter(|name| FUNCTIONS.contains(&name.as_str()));
                if qualified.is_none() && !name.contains(['_', '@']) && !FUNCTIONS.contains(&name) {
                    return Err(format!(
                        "undeclared reference to '{name}' (in container '')"
                    ));
                }
                let mut values = Vec::new();
                let target = call.target.as_deref().filter(|_| qualified.is_none());
                for argument in target.into_iter().chain(&call.args) {
                    values.push(self.type_of(argument)?);
                }
                result(name, &values)
            }
            Expr::Struct(_) | Expr::Unspecified => {
                return Err("messages cannot be constructed".to_owned());
            }
        })
    }

    fn name(&self, name: &str) -> Result<Type, String> {
        let found = self.names.iter().rev().find(|(known, _)| known == name);
        match found {
            Some((_, found)) => Ok(found.clone()),
            // Types, as in `type(self) == string`.
            None if TYPES.contains(&name) => Ok(Type::Dynamic),
            None => Err(format!(
                "undeclared reference to '{name}' (in container '')"
            )),
        }
    }
}

/// The name of a library that a function is called on: `math.least`.
fn namespace(target: &IdedExpr) -> Option<&str> {
    match &target.expr {
        Expr::Ident(name) => Some(name),
        _ => None,
    }
}

fn field(owner: &Type, name: &str) -> Result<Type, String> {
    let unescaped = unescape(name);
    match owner {
        Type::Of(schema) => match schema.shape() {
            Shape::Object(_) => match schema.property(&unescaped) {
                Some(field) => Ok(Type::Of(field)),
                // Nobody may look at what is merely preserved.
                None if schema.custom().is_none() => Ok(Type::Dynamic),
                None => Err(format!("undefined field '{name}'")),
            },
            Shape::Map(values) => Ok(Type::Of(values.clone())),
            Shape::Any | Shape::IntOrString => Ok(Type::Dynamic),
            _ => Err(format!("type does not support field selection: '{name}'")),
        },
        Type::Truth | Type::Number | Type::Text | Type::ListOf(_) => {
            Err(format!("type does not support field selection: '{name}'"))
        }
        Type::Dynamic => Ok(Type::Dynamic),
    }
}

fn result(name: &str, values: &[Type]) -> Type {
    match name {
        operators::LOGICAL_AND
        | operators::LOGICAL_OR
        | operators::LOGICAL_NOT
        | operators::EQUALS
        | operators::NOT_EQUALS
        | operators::LESS
        | operators::LESS_EQUALS
        | operators::GREATER
        | operators::GREATER_EQUALS
        | operators::IN
        | operators::NOT_STRICTLY_FALSE
        | "startsWith"
        | "endsWith"
        | "matches"
        | "hasValue" => Type::Truth,
        operators::INDEX => values.first().map_or(Type::Dynamic, Type::item),
        "size" | "int" | "uint" | "double" | "indexOf" | "lastIndexOf" => Type::Number,
        "lowerAscii" | "upperAscii" | "trim" | "join" | "charAt" | "substring" | "format" => {
            Type::Text
        }
        operators::CONDITIONAL => values.get(1).cloned().unwrap_or(Type::Dynamic),
        operators::ADD => match values {
            [Type::Text, _] | [_, Type::Text] => Type::Text,
            [Type::Number, Type::Number] => Type::Number,
            _ => Type::Dynamic,
        },
        _ => Type::Dynamic,
    }
}

const TYPES: &[&str] = &[
    "bool",
    "bytes",
    "double",
    "duration",
    "int",
    "list",
    "map",
    "null_type",
    "string",
    "timestamp",
    "type",
    "uint",
];

/// The functions that the evaluator has.
const FUNCTIONS: &[&str] = &[
    "add",
    "asApproximateFloat",
    "asInteger",
    "base64.decode",
    "base64.encode",
    "bool",
    "bytes",
    "charAt",
    "cidr",
    "compareTo",
    "contains",
    "containsCIDR",
    "containsIP",
    "distinct",
    "double",
    "duration",
    "endsWith",
    "family",
    "find",
    "findAll",
    "first",
    "flatten",
    "format",
    "format.byte",
    "format.date",
    "format.datetime",
    "format.dns1035Label",
    "format.dns1035LabelPrefix",
    "format.dns1123Label",
    "format.dns1123LabelPrefix",
    "format.dns1123Subdomain",
    "format.dns1123SubdomainPrefix",
    "format.labelValue",
    "format.named",
    "format.qualifiedName",
    "format.uri",
    "format.uuid",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getEscapedPath",
    "getFullYear",
    "getHost",
    "getHostname",
    "getHours",
    "getMilliseconds",
    "getMinutes",
    "getMonth",
    "getPort",
    "getQuery",
    "getScheme",
    "getSeconds",
    "hasValue",
    "indexOf",
    "int",
    "ip",
    "ip.isCanonical",
    "isCIDR",
    "isGlobalUnicast",
    "isGreaterThan",
    "isIP",
    "isInteger",
    "isLessThan",
    "isLinkLocalMulticast",
    "isLinkLocalUnicast",
    "isLoopback",
    "isQuantity",
    "isSemver",
    "isSorted",
    "isURL",
    "isUnspecified",
    "join",
    "jsonpatch.escapeKey",
    "last",
    "lastIndexOf",
    "lists.range",
    "lowerAscii",
    "major",
    "masked",
    "matches",
    "math.abs",
    "math.bitAnd",
    "math.bitNot",
    "math.bitOr",
    "math.bitShiftLeft",
    "math.bitShiftRight",
    "math.bitXor",
    "math.ceil",
    "math.floor",
    "math.greatest",
    "math.isFinite",
    "math.isInf",
    "math.isNaN",
    "math.least",
    "math.round",
    "math.sign",
    "math.sqrt",
    "math.trunc",
    "max",
    "min",
    "minor",
    "optional.none",
    "optional.of",
    "or",
    "orValue",
    "patch",
    "prefixLength",
    "quantity",
    "replace",
    "reverse",
    "semver",
    "sets.contains",
    "sets.equivalent",
    "sets.intersects",
    "sign",
    "size",
    "slice",
    "sort",
    "split",
    "startsWith",
    "string",
    "strings.quote",
    "sub",
    "substring",
    "sum",
    "timestamp",
    "trim",
    "type",
    "uint",
    "upperAscii",
    "url",
    "validate",
    "value",
];
