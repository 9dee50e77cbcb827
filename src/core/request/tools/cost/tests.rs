use super::*;
use serde_json::json;

fn cost(schema: &Value) -> Cost {
    of(schema).unwrap()
}

/// A schema that refers `times` times to one that does the same …, `levels` deep.
fn doubling(levels: usize, times: usize) -> Value {
    let reference = |level: usize| json!({"$ref": format!("#/$defs/d{level}")});
    let mut defs = Map::new();
    for level in 0..levels {
        defs.insert(
            format!("d{level}"),
            json!({"anyOf": vec![reference(level + 1); times]}),
        );
    }
    defs.insert(format!("d{levels}"), json!(false));
    json!({"$defs": defs, "$ref": "#/$defs/d0"})
}

#[test]
fn paths_are_counted() {
    let flat = cost(&json!({"properties": {"a": {"type": "integer"}}}));
    assert_eq!(
        (flat.steps, flat.nesting, flat.branches, flat.explodes),
        (4, 1, 0, false)
    );
    let steps = |levels| cost(&doubling(levels, 2)).steps;
    assert!(steps(12) > 2 * steps(11) && steps(11) > 1 << 11);
    assert!(of(&doubling(15, 2)).is_ok());
    let wide =
        json!({"anyOf": vec![json!({"$ref": "#/$defs/a"}); 32], "$defs": {"a": {"enum": vec![0; 100]}}});
    assert!((3200..3400).contains(&cost(&wide).steps));
}

#[test]
fn what_may_take_too_long_is_refused() {
    let refused = |schema: &Value| of(schema).unwrap_err();
    assert_eq!(
        refused(&doubling(17, 2)),
        "the schema has more than 32 references"
    );
    // 10 levels of 3 are 31 references.
    assert!(of(&doubling(10, 3)).is_ok());
    let nested = (0..60).fold(
        json!(false),
        |inner, _| json!({"unevaluatedProperties": false, "anyOf": [inner]}),
    );
    assert!(refused(&nested).contains("steps"));
    assert!(refused(&json!({"allOf": [{"$ref": "#"}]})).contains("same value"));
    assert!(refused(&json!({"$ref": "#/$defs/no"})).contains("leads to nothing"));
    assert!(
        refused(&json!({"$ref": "#/$defs/a", "$defs": {"a": {"$id": "a"}}})).contains("leads to nothing")
    );
}

#[test]
fn references_are_found_however_they_are_written() {
    for schema in [
        json!({"$ref": "#/$defs/a~1%20b", "$defs": {"a/ b": {"enum": [1, 2, 3]}}}),
        json!({"$id": "https://x/y", "$ref": "https://x/y#/$defs/a", "$defs": {"a": {"enum": [1, 2, 3]}}}),
        json!({"$ref": "#n", "$defs": {"a": {"$anchor": "n", "enum": [1, 2]}}}),
        json!({"$ref": "#n", "definitions": {"a": {"$id": "#n", "enum": [1, 2]}}}),
        json!({"$dynamicRef": "#n", "$defs": {"a": {"$dynamicAnchor": "n", "enum": [1, 2]}}}),
    ] {
        let steps = cost(&schema).steps;
        assert!(steps > 5, "{schema}: {steps}");
    }
    // Names and data are no references.
    let named = json!({"properties": {"$ref": {"type": "string"}}, "const": {"$ref": 5}});
    assert_eq!(Targets::of(&named).references, 0);
}

#[test]
fn circles_are_told_from_trees() {
    let list = cost(&json!({"properties": {"next": {"$ref": "#"}}}));
    assert_eq!((list.branches, list.explodes), (1, false));
    let tree = cost(&json!({"properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}}));
    assert_eq!((tree.branches, tree.explodes), (2, true));
    let size = Size::of(&json!({"left": {"left": {}}}));
    assert_eq!(size, Size { values: 3, depth: 3 });
    assert_eq!(tree.errors_for(size), tree.steps * 3 * 8);
    // The ways inside a circle that stay at the value multiply.
    let twice = |to: &str| json!({"anyOf": [{"$ref": to}, {"$ref": to}]});
    let circle = json!({
        "$defs": {"a": twice("#/$defs/b"), "b": twice("#/$defs/c"), "c": {"items": {"$ref": "#/$defs/a"}}},
        "$ref": "#/$defs/a",
    });
    assert!(cost(&circle).steps > 4 * 5);
}

#[test]
fn nesting_goes_through_references() {
    let schema = json!({
        "allOf": [{"not": {"$ref": "#/$defs/a"}}],
        "$defs": {"a": {"anyOf": [{"items": {"allOf": [{"if": {"if": {"if": {"if": true}}}}]}}]}},
    });
    // Three around the reference and two of `a`; its items have six for themselves.
    assert_eq!(cost(&schema).nesting, 6);
}
