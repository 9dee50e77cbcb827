//! A plausible value for a JSON schema: the arguments that the demo's primary calls a tool with.

use serde_json::{Map, Value, json};

/// Deepest nesting built; deeper parts become `null`, so that a recursive schema ends.
const DEPTH_MAX: usize = 8;

/// A value that fits `schema`, as far as types, enums, bounds, required members and local `$ref`s go. `topic` fills
/// the free texts.
pub(super) fn sample(schema: &Value, topic: &str) -> Value {
    Sampler { root: schema, topic }.value(schema, "", 0)
}

struct Sampler<'a> {
    root: &'a Value,
    topic: &'a str,
}

impl Sampler<'_> {
    fn value(&self, schema: &Value, name: &str, depth: usize) -> Value {
        if depth > DEPTH_MAX {
            return Value::Null;
        }
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            let target = reference
                .strip_prefix('#')
                .and_then(|p| self.root.pointer(p))
                .unwrap_or(&Value::Null);
            return self.value(target, name, depth + 1);
        }
        for key in ["const", "default"] {
            if let Some(given) = schema.get(key) {
                return given.clone();
            }
        }
        for key in ["enum", "examples"] {
            if let Some(first) = schema
                .get(key)
                .and_then(Value::as_array)
                .and_then(|all| all.first())
            {
                return first.clone();
            }
        }
        for key in ["anyOf", "oneOf", "allOf"] {
            if let Some(first) = schema
                .get(key)
                .and_then(Value::as_array)
                .and_then(|all| all.first())
            {
                return self.value(first, name, depth + 1);
            }
        }
        let kind = match schema.get("type") {
            Some(Value::Array(kinds)) => kinds.first().and_then(Value::as_str),
            Some(kind) => kind.as_str(),
            None if schema.get("properties").is_some() || depth == 0 => Some("object"),
            None => None,
        };
        match kind {
            Some("object") => self.object(schema, depth),
            Some("array") => self.array(schema, name, depth),
            Some("integer") => json!(number(schema, name).round() as i64),
            Some("number") => json!(number(schema, name)),
            Some("boolean") => json!(true),
            Some("null") => Value::Null,
            _ => Value::String(self.text(schema, name)),
        }
    }

    fn object(&self, schema: &Value, depth: usize) -> Value {
        let mut object = Map::new();
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            for (name, property) in properties {
                object.insert(name.clone(), self.value(property, name, depth + 1));
            }
        }
        Value::Object(object)
    }

    fn array(&self, schema: &Value, name: &str, depth: usize) -> Value {
        let length = schema
            .get("minItems")
            .and_then(Value::as_u64)
            .unwrap_or(1)
            .clamp(1, 8);
        let item = schema
            .get("items")
            .map_or_else(|| json!(self.topic), |items| self.value(items, name, depth + 1));
        Value::Array((0..length).map(|_| item.clone()).collect())
    }

    fn text(&self, schema: &Value, name: &str) -> String {
        match schema.get("format").and_then(Value::as_str) {
            Some("date") => return "2026-05-04".to_owned(),
            Some("date-time") => return "2026-05-04T09:30:00Z".to_owned(),
            Some("email") => return "ada@example.org".to_owned(),
            Some("uri") => return "https://example.org/notes".to_owned(),
            _ => {}
        }
        let name = name.to_lowercase();
        let known = [
            (&["city", "location", "place"][..], "Lisbon"),
            (&["path", "file"][..], "notes/today.md"),
            (&["url", "uri", "link"][..], "https://example.org/notes"),
            (&["mail"][..], "ada@example.org"),
            (&["date", "day"][..], "2026-05-04"),
            (&["country"][..], "Portugal"),
            (&["command", "cmd"][..], "ls notes"),
            (&["language", "lang"][..], "en"),
        ];
        let found = known
            .iter()
            .find(|(words, _)| words.iter().any(|w| name.contains(w)));
        found.map_or_else(|| self.topic.to_owned(), |(_, text)| (*text).to_owned())
    }
}

/// A number within the schema's bounds that fits the name: a few, unless it looks like a year.
fn number(schema: &Value, name: &str) -> f64 {
    let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
    let guess: f64 = if name.contains("year") { 2026.0 } else { 3.0 };
    let low = bound("minimum")
        .or_else(|| bound("exclusiveMinimum").map(|n| n + 1.0))
        .unwrap_or(f64::MIN);
    let high = bound("maximum")
        .or_else(|| bound("exclusiveMaximum").map(|n| n - 1.0))
        .unwrap_or(f64::MAX);
    guess.min(high).max(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_fits_its_schema() {
        let schema = json!({"type": "object", "required": ["city"], "properties": {
            "city": {"type": "string"}, "unit": {"enum": ["celsius", "kelvin"]}, "query": {"type": "string"},
            "days": {"type": "integer", "minimum": 5, "maximum": 9}, "near": {"type": "array", "items": {"$ref": "#/$defs/p"}}},
            "$defs": {"p": {"type": "object", "properties": {"path": {"type": "string"}}}}});
        let expected = json!({"city": "Lisbon", "unit": "celsius", "query": "the tides", "days": 5,
            "near": [{"path": "notes/today.md"}]});
        assert_eq!(sample(&schema, "the tides"), expected);
        assert_eq!(sample(&Value::Null, "x"), json!({}));
    }

    #[test]
    fn a_recursive_schema_ends() {
        let schema = json!({"type": "object", "properties": {"next": {"$ref": "#"}}});
        assert!(sample(&schema, "x").to_string().len() < 200);
    }
}
