//! Spellings that tool schemas use and that the drafts do not have, or that a validator takes too seriously.

use super::keywords::schemas_mut;
use serde_json::Value;

/// Keywords about what a string encodes. They are annotations, but of drafts 6 and 7 the validator checks them.
const ANNOTATIONS: [&str; 3] = ["contentEncoding", "contentMediaType", "contentSchema"];

/// Rewrites a schema and those inside it. The recursion is as deep as the schema.
pub(super) fn translate(schema: &mut Value) {
    let Value::Object(members) = schema else {
        return;
    };
    for keyword in ANNOTATIONS {
        members.remove(keyword);
    }
    // OpenAPI 3.0: a value of the type, or null. JSON Schema has no such keyword and would refuse the null.
    if members.get("nullable") == Some(&Value::Bool(true))
        && let Some(kind) = members.get_mut("type")
    {
        let null = Value::from("null");
        match kind {
            Value::Array(kinds) if !kinds.contains(&null) => kinds.push(null),
            Value::String(one) if one != "null" => *kind = Value::from(vec![one.as_str(), "null"]),
            _ => {}
        }
        if let Some(Value::Array(values)) = members.get_mut("enum")
            && !values.contains(&Value::Null)
        {
            values.push(Value::Null);
        }
    }
    for (keyword, value) in members {
        for inner in schemas_mut(keyword, value) {
            translate(inner);
        }
    }
}
