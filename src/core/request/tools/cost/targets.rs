//! Where the references of a schema lead.

use super::REFERENCES;
use serde_json::Value;

/// What can be referred to.
pub(super) struct Targets<'a> {
    root: &'a Value,
    /// The root's own `$id`.
    id: Option<&'a str>,
    /// Names of schemas, and whose they are.
    anchors: Vec<(&'a str, &'a Value)>,
    /// The name of `$id` in the schema's draft.
    id_name: &'static str,
    /// A part of the schema has an `$id` of its own, so references in it count from there.
    embedded: bool,
    /// How many references there are.
    pub(super) references: usize,
}

impl<'a> Targets<'a> {
    /// Goes through a whole schema, also through what is data in it: a reference may lead anywhere. The recursion is as
    /// deep as the schema.
    pub(super) fn of(root: &'a Value) -> Self {
        let draft = root.get("$schema").and_then(Value::as_str);
        let id_name = if draft.is_some_and(|uri| uri.contains("draft-04")) {
            "id"
        } else {
            "$id"
        };
        let mut targets = Self {
            root,
            id: root.get(id_name).and_then(Value::as_str),
            id_name,
            anchors: Vec::new(),
            embedded: false,
            references: 0,
        };
        targets.survey(root);
        targets
    }

    fn survey(&mut self, value: &'a Value) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.survey(item)),
            Value::Object(members) => {
                for (name, member) in members {
                    match (name.as_str(), member.as_str()) {
                        ("$anchor" | "$dynamicAnchor", Some(anchor)) => self.anchors.push((anchor, value)),
                        ("$id" | "id", Some(id)) if id.starts_with('#') => {
                            self.anchors.push((&id[1..], value));
                        }
                        (name, Some(_)) if name == self.id_name => {
                            self.embedded |= !std::ptr::eq(value, self.root);
                        }
                        (name, Some(_)) if REFERENCES.contains(&name) => self.references += 1,
                        _ => self.survey(member),
                    }
                }
            }
            _ => {}
        }
    }

    /// The schemas that a reference may lead to; several where a name is given twice, none where it leads elsewhere.
    pub(super) fn find(&self, reference: &str) -> Vec<&'a Value> {
        if self.embedded {
            return Vec::new();
        }
        let local = self.id.and_then(|id| reference.strip_prefix(id));
        let Some(fragment) = local
            .filter(|rest| rest.is_empty())
            .or_else(|| local.unwrap_or(reference).strip_prefix('#'))
        else {
            return Vec::new();
        };
        let fragment = decoded(fragment);
        if fragment.is_empty() || fragment.starts_with('/') {
            return self.root.pointer(&fragment).into_iter().collect();
        }
        let named = self.anchors.iter().filter(|(name, _)| *name == fragment);
        named.map(|(_, schema)| *schema).collect()
    }
}

/// A URI's text without its percent escapes.
fn decoded(fragment: &str) -> String {
    let digit = |byte: Option<&u8>| byte.and_then(|b| char::from(*b).to_digit(16));
    let (bytes, mut out, mut at) = (fragment.as_bytes(), Vec::with_capacity(fragment.len()), 0);
    while let Some(byte) = bytes.get(at) {
        let escape = (digit(bytes.get(at + 1)), digit(bytes.get(at + 2)));
        match (byte, escape) {
            (b'%', (Some(high), Some(low))) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
