//! Declared errors on the wire. They have the form of an exception of Python, so that a peer in
//! Python can raise them, or catch them by their class:
//!
//! | error | class | args | kwargs |
//! |---|---|---|---|
//! | enum, `Closed` | `Closed` | none | none |
//! | enum, `Broken(7)` | `Broken` | `[7]` | none |
//! | enum, `TooFew { left: 2 }` | `TooFew` | none | `{"left": 2}` |
//! | struct `Denied { user: "ann" }` | `Denied` | none | `{"user": "ann"}` |
//! | any other value | its type | `[value]` | none |

use serde_json::{Map, Value};

use super::error::DeclaredError;
use super::variant::{Shape, variant_of};
use crate::message::{Failure, json_text};

/// The failure that carries a declared error. An error without a JSON form (NaN, for example) has no
/// data.
pub(crate) fn failure_of<E: DeclaredError>(error: &E, module: &str) -> Failure {
    let variant = variant_of(error);
    let class = variant.map_or(type_name::<E>(), |(name, _)| name);
    let mut failure = Failure::new(module, class, error.to_string());
    failure.args.clear();
    let value = json_text(error).ok().and_then(|text| serde_json::from_str(text.get()).ok());
    match (variant.map(|(_, shape)| shape), value) {
        (None, Some(Value::Object(fields))) => failure.kwargs = fields,
        (None, Some(value)) => failure.args.push(value),
        (Some(shape), Some(Value::Object(tagged))) => match (shape, tagged.into_iter().next()) {
            (Shape::Struct, Some((_, Value::Object(fields)))) => failure.kwargs = fields,
            (Shape::Tuple, Some((_, Value::Array(values)))) => failure.args = values,
            (_, content) => failure.args.extend(content.map(|(_, value)| value)),
        },
        // A unit variant is its class.
        _ => {}
    }
    failure
}

/// The declared error in a failure; `None`: it is another one.
pub(crate) fn error_of<E: DeclaredError>(failure: &Failure, module: &str) -> Option<E> {
    if failure.module != module {
        return None;
    }
    let Failure { class, args, kwargs, .. } = failure;
    let values = || Value::from(args.clone());
    let content = match &args[..] {
        _ if !kwargs.is_empty() => vec![Value::from(kwargs.clone())],
        [] => vec![Map::new().into(), values()],
        [only] => vec![only.clone(), values()],
        _ => vec![values()],
    };
    let variants = content.iter().map(|content| Value::from(Map::from_iter([(class.clone(), content.clone())])));
    // The last one: Python gives every exception its message as an argument.
    let unit = (kwargs.is_empty()).then(|| Value::from(class.as_str()));
    let first = unit.clone().filter(|_| args.is_empty());
    let others = content.iter().filter(|_| class == type_name::<E>());
    first.into_iter().chain(variants).chain(others.cloned()).chain(unit).find_map(|value| E::deserialize(value).ok())
}

/// The name of a type, without its module and parameters.
fn type_name<E>() -> &'static str {
    let path = std::any::type_name::<E>();
    let path = path.split('<').next().unwrap_or(path);
    path.rsplit("::").next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use serde::{Deserialize, Serialize};
    use serde_json::json;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    enum Stock {
        Closed,
        Broken(u32),
        Parts(Vec<u32>),
        Moved(String, u8),
        TooFew { left: u32, part: Option<String> },
        Nothing {},
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Denied {
        user: String,
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "kind")]
    enum Tagged {
        Bad { code: i8 },
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Code(u16);

    macro_rules! debug_as_text {
        ($($type:ty),*) => {
            $(impl fmt::Display for $type {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    write!(f, "text of {self:?}")
                }
            })*
        };
    }
    debug_as_text!(Stock, Denied, Tagged, Code);

    fn travels<E: DeclaredError + PartialEq + fmt::Debug>(error: &E, class: &str, args: Value, kwargs: Value) {
        let failure = failure_of(error, "stock");
        assert_eq!((failure.class.as_str(), failure.module.as_str()), (class, "stock"));
        assert_eq!((json!(failure.args), json!(failure.kwargs)), (args, kwargs), "{error:?}");
        assert_eq!(failure.message, error.to_string());
        let read: Failure = serde_json::from_str(&serde_json::to_string(&failure).unwrap()).unwrap();
        assert_eq!(error_of::<E>(&read, "stock").as_ref(), Some(error));
        assert_eq!(error_of::<E>(&read, "other"), None);
    }

    #[test]
    fn every_form_of_error_travels_as_an_exception() {
        travels(&Stock::Closed, "Closed", json!([]), json!({}));
        travels(&Stock::Broken(7), "Broken", json!([7]), json!({}));
        travels(&Stock::Parts(vec![1]), "Parts", json!([[1]]), json!({}));
        travels(&Stock::Parts(vec![]), "Parts", json!([[]]), json!({}));
        travels(&Stock::Moved("a".to_owned(), 1), "Moved", json!(["a", 1]), json!({}));
        let few = Stock::TooFew { left: 2, part: None };
        travels(&few, "TooFew", json!([]), json!({"left": 2, "part": null}));
        travels(&Stock::Nothing {}, "Nothing", json!([]), json!({}));
        travels(&Denied { user: "ann".to_owned() }, "Denied", json!([]), json!({"user": "ann"}));
        travels(&Tagged::Bad { code: -1 }, "Tagged", json!([]), json!({"kind": "Bad", "code": -1}));
        travels(&Code(404), "Code", json!([404]), json!({}));
    }

    #[test]
    fn an_exception_of_python_becomes_the_error_of_its_class() {
        let mut failure = Failure::new("stock", "Closed", "closed since Monday");
        assert_eq!(failure.args, ["closed since Monday"]);
        assert_eq!(error_of::<Stock>(&failure, "stock"), Some(Stock::Closed));
        failure.class = "Unknown".to_owned();
        assert_eq!(error_of::<Stock>(&failure, "stock"), None);
        failure.class = "TooFew".to_owned();
        assert_eq!(error_of::<Stock>(&failure, "stock"), None, "data is missing");
    }
}
