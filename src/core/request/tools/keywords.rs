//! Which keywords of a schema hold further schemas, in all drafts, and what those are applied to.

use serde_json::Value;

/// What the schemas of a keyword are applied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Applies {
    /// The value itself.
    Here,
    /// Parts of the value.
    Inside,
    /// Nothing, unless a reference leads there.
    Nowhere,
}

/// The shape of a keyword's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    /// A schema, or an array of them.
    Schemas,
    /// An object whose members are schemas; their names are not keywords.
    Named,
}

fn kind(keyword: &str) -> Option<(Applies, Holds)> {
    Some(match keyword {
        "allOf" | "anyOf" | "oneOf" | "not" | "if" | "then" | "else" => (Applies::Here, Holds::Schemas),
        "dependentSchemas" | "dependencies" => (Applies::Here, Holds::Named),
        "items"
        | "prefixItems"
        | "additionalItems"
        | "unevaluatedItems"
        | "contains"
        | "propertyNames"
        | "additionalProperties"
        | "unevaluatedProperties" => (Applies::Inside, Holds::Schemas),
        "properties" | "patternProperties" => (Applies::Inside, Holds::Named),
        "$defs" | "definitions" => (Applies::Nowhere, Holds::Named),
        _ => return None,
    })
}

/// What a keyword's schemas apply to, and those schemas.
pub(super) fn schemas<'a>(keyword: &str, value: &'a Value) -> Option<(Applies, Vec<&'a Value>)> {
    let (applies, holds) = kind(keyword)?;
    let schemas = match (holds, value) {
        (Holds::Schemas, Value::Array(list)) => list.iter().collect(),
        (Holds::Schemas, one) => vec![one],
        (Holds::Named, Value::Object(named)) => named.values().collect(),
        (Holds::Named, _) => Vec::new(),
    };
    Some((applies, schemas))
}

/// The same schemas, to be changed.
pub(super) fn schemas_mut<'a>(keyword: &str, value: &'a mut Value) -> Vec<&'a mut Value> {
    match (kind(keyword), value) {
        (Some((_, Holds::Schemas)), Value::Array(list)) => list.iter_mut().collect(),
        (Some((_, Holds::Schemas)), one) => vec![one],
        (Some((_, Holds::Named)), Value::Object(named)) => named.values_mut().collect(),
        _ => Vec::new(),
    }
}
