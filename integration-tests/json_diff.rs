//! Where two JSON values differ.

use serde_json::Value;

/// Reads JSON.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn parsed(text: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(text).map_err(|e| format!("{e}: {}", String::from_utf8_lossy(text)))
}

/// The first place at which two values differ; the order of an object's members does not count.
pub(crate) fn difference(wanted: &Value, got: &Value) -> Option<String> {
    at("", wanted, got)
}

fn at(path: &str, wanted: &Value, got: &Value) -> Option<String> {
    match (wanted, got) {
        (Value::Object(wanted), Value::Object(got)) => {
            let differing = wanted.iter().find_map(|(name, value)| match got.get(name) {
                Some(other) => at(&format!("{path}/{name}"), value, other),
                None => Some(format!("{path}/{name} is missing, wanted {value}")),
            });
            differing.or_else(|| {
                let surplus = got.iter().find(|(name, _)| !wanted.contains_key(*name));
                surplus.map(|(name, value)| format!("{path}/{name} must not be there: {value}"))
            })
        }
        (Value::Array(wanted), Value::Array(got)) if wanted.len() == got.len() => {
            let mut pairs = wanted.iter().zip(got).enumerate();
            pairs.find_map(|(index, (wanted, got))| at(&format!("{path}/{index}"), wanted, got))
        }
        _ if wanted == got => None,
        _ => Some(format!("{path}:\n  wanted {wanted}\n  got    {got}")),
    }
}

/// Those members of the JSON object `wanted` that `got` does not have just so.
pub(crate) fn all_equal(wanted: &str, got: &Value) -> Vec<String> {
    let members: Value = serde_json::from_str(wanted).unwrap_or_else(|e| panic!("{wanted}: {e}"));
    let members = members.as_object().expect("an object of members");
    members
        .iter()
        .filter_map(|(name, value)| difference(value, &got[name]).map(|d| format!("{name}{d}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_first_difference_is_named() {
        assert_eq!(
            difference(&json!({"a": 1, "b": [2]}), &json!({"b": [2], "a": 1})),
            None
        );
        let place = |wanted, got| difference(&wanted, &got).unwrap();
        assert!(place(json!({"a": [1, {"b": 2}]}), json!({"a": [1, {"b": 3}]})).starts_with("/a/1/b"));
        assert!(place(json!({"a": 1}), json!({})).contains("/a is missing"));
        assert!(place(json!({}), json!({"a": 1})).contains("/a must not be there"));
        assert!(place(json!([1]), json!([1, 2])).starts_with(':'));
        assert_eq!(
            all_equal(r#"{"a":1,"c":null}"#, &json!({"a": 1, "b": 2})),
            [""; 0]
        );
        assert_eq!(all_equal(r#"{"a":1}"#, &json!({"a": 2})).len(), 1);
    }
}
