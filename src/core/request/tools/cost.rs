//! What a check against a schema may cost, read off the schema before it is compiled.
//!
//! References multiply: a schema that refers twice to one that refers twice … is a page long and takes 2ⁿ steps. The
//! schemas that references lead to are the nodes of a graph, the references its edges, and the steps are those along
//! all paths. The validator remembers what it found at the references that close a circle, for objects and arrays; the
//! ways inside a circle count once for those, and as often as they meet for the other values.

mod graph;
mod targets;

use super::keywords::{Applies, schemas};
use crate::limits::{SCHEMA_PATTERN_STEPS, SCHEMA_REFS_MAX, SCHEMA_STEPS_MAX, SCHEMA_TARGETS_MAX};
use graph::{Edge, Graph, Node};
use serde_json::{Map, Value};
use targets::Targets;

/// Keywords that refer to another schema.
const REFERENCES: [&str; 3] = ["$ref", "$dynamicRef", "$recursiveRef"];

/// How often the schemas in one with `unevaluatedProperties` or `unevaluatedItems` are gone through: to judge the value,
/// and to find what they have evaluated.
const UNEVALUATED_ROUNDS: u64 = 3;

/// The figures of one schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cost {
    /// Steps for one value, at most.
    steps: u64,
    /// Schemas within each other that apply to one value, at most.
    pub(super) nesting: u64,
    /// Ways from one level of a recursion to the next; 0 without one.
    branches: u64,
    /// Finding the first error may take more steps than finding that there is one: alternatives collect the errors of
    /// each, and nothing is remembered.
    pub(super) explodes: bool,
}

/// The size of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    /// Values in it, itself included.
    pub(super) values: u64,
    /// How deep they are nested, 1 for a value without parts.
    pub(super) depth: u64,
}

impl Size {
    /// The recursion is as deep as the value.
    pub(super) fn of(value: &Value) -> Self {
        let add = |size: Self, inner: &Value| {
            let inner = Self::of(inner);
            Self {
                values: size.values + inner.values,
                depth: size.depth.max(inner.depth + 1),
            }
        };
        let one = Self { values: 1, depth: 1 };
        match value {
            Value::Array(items) => items.iter().fold(one, add),
            Value::Object(members) => members.values().fold(one, add),
            _ => one,
        }
    }
}

impl Cost {
    /// Steps that a check of a value of this size takes at most.
    pub(super) const fn steps_for(&self, size: Size) -> u64 {
        self.steps.saturating_mul(size.values)
    }

    /// Errors that are collected at most when a value of this size does not fit.
    pub(super) fn errors_for(&self, size: Size) -> u64 {
        let depth = u32::try_from(size.depth).unwrap_or(u32::MAX);
        let again = self.branches.max(1).saturating_pow(depth);
        self.steps_for(size).saturating_mul(again)
    }
}

/// Reads off what checks against a schema may cost.
///
/// # Errors
/// Why nothing is checked against it: too many references, one that cannot be followed, or a circle of them that never
/// leaves the value; or the least that a check may cost is too much.
pub(super) fn of(schema: &Value) -> Result<Cost, String> {
    let targets = Targets::of(schema);
    if targets.references > SCHEMA_REFS_MAX {
        return Err(format!("the schema has more than {SCHEMA_REFS_MAX} references"));
    }
    let mut reader = Reader {
        targets,
        found: vec![schema],
        nodes: Vec::new(),
        alternatives: false,
    };
    while let Some(next) = reader.found.get(reader.nodes.len()) {
        let node = reader.node(next)?;
        reader.nodes.push(node);
    }
    let graph = Graph::of(reader.nodes);
    if graph.is_endless() {
        return Err("the schema refers to itself for the same value".to_owned());
    }
    let (steps, branches) = (graph.steps(), graph.branches());
    if steps > SCHEMA_STEPS_MAX {
        return Err(format!(
            "a check against the schema may take more than {SCHEMA_STEPS_MAX} steps"
        ));
    }
    Ok(Cost {
        steps,
        nesting: graph.nesting(),
        branches,
        explodes: branches > 1 || reader.alternatives,
    })
}

/// Reads the schemas that references lead to, one after the other.
struct Reader<'a> {
    targets: Targets<'a>,
    /// The schema itself and all that references lead to, in the order of the nodes.
    found: Vec<&'a Value>,
    nodes: Vec<Node>,
    alternatives: bool,
}

/// Where a schema stands in its node.
#[derive(Clone, Copy)]
struct Place {
    /// It applies to the node's own value.
    here: bool,
    /// Schemas around it that apply to the same value.
    nested: u64,
    /// How often it is gone through.
    times: u64,
}

impl<'a> Reader<'a> {
    fn node(&mut self, schema: &'a Value) -> Result<Node, String> {
        let mut node = Node::default();
        let place = Place {
            here: true,
            nested: 1,
            times: 1,
        };
        self.schema(schema, place, &mut node)?;
        Ok(node)
    }

    fn schema(&mut self, schema: &'a Value, mut place: Place, node: &mut Node) -> Result<(), String> {
        node.nested = node.nested.max(place.nested);
        if place.here {
            node.nested_here = node.nested_here.max(place.nested);
        }
        node.steps = node.steps.saturating_add(place.times);
        let Value::Object(members) = schema else {
            return Ok(());
        };
        if members.contains_key("unevaluatedProperties") || members.contains_key("unevaluatedItems") {
            place.times = place.times.saturating_mul(UNEVALUATED_ROUNDS);
        }
        for (keyword, value) in members {
            let steps = steps_of(keyword, value).saturating_mul(place.times);
            node.steps = node.steps.saturating_add(steps);
            self.alternatives |= matches!(keyword.as_str(), "anyOf" | "oneOf");
            match schemas(keyword, value) {
                Some((Applies::Nowhere, _)) => {}
                Some((applies, inner)) => {
                    let here = applies == Applies::Here;
                    let inside = Place {
                        here: place.here && here,
                        nested: if here { place.nested + 1 } else { 1 },
                        ..place
                    };
                    for schema in inner {
                        self.schema(schema, inside, node)?;
                    }
                }
                None => self.reference(keyword, members, place, node)?,
            }
        }
        Ok(())
    }

    /// Follows a keyword that refers to another schema.
    fn reference(
        &mut self,
        keyword: &str,
        members: &'a Map<String, Value>,
        place: Place,
        node: &mut Node,
    ) -> Result<(), String> {
        let reference = members.get(keyword).and_then(Value::as_str);
        let Some(reference) = reference.filter(|_| REFERENCES.contains(&keyword)) else {
            return Ok(());
        };
        let targets = self.targets.find(reference);
        if targets.is_empty() {
            return Err("the schema has a reference that leads to nothing in it".to_owned());
        }
        for target in targets {
            let known = self.found.iter().position(|one| std::ptr::eq(*one, target));
            let to = known.unwrap_or(self.found.len());
            if to == self.found.len() {
                if to == SCHEMA_TARGETS_MAX {
                    return Err(format!(
                        "the references of the schema lead to more than {SCHEMA_TARGETS_MAX} places"
                    ));
                }
                self.found.push(target);
            }
            node.edges.push(Edge {
                to,
                here: place.here,
                nested: place.nested,
                times: place.times,
            });
        }
        Ok(())
    }
}

/// Steps that a keyword takes by itself.
fn steps_of(keyword: &str, value: &Value) -> u64 {
    let pattern = |text: &str| {
        // Only these make a pattern go back, which its own limit ends late.
        let goes_back = text.contains("(?") || text.bytes().zip(text.bytes().skip(1)).any(backreference);
        if goes_back { SCHEMA_PATTERN_STEPS } else { 1 }
    };
    match (keyword, value) {
        ("enum" | "required", Value::Array(list)) => list.len() as u64,
        ("pattern", Value::String(text)) => pattern(text),
        ("patternProperties", Value::Object(named)) => named.keys().map(|text| pattern(text)).sum(),
        _ => 1,
    }
}

fn backreference((first, second): (u8, u8)) -> bool {
    first == b'\\' && (second.is_ascii_digit() || second == b'k')
}

#[cfg(test)]
mod tests;
