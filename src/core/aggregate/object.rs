//! Objects on their way in and out: members of which the last value counts, and writing one object into the body.

/// Members of which one value is kept, each where its name first came.
#[derive(Debug, Default)]
pub(super) struct Kept(Vec<(String, String)>);

impl Kept {
    /// Keeps a value, for the one that was there before. Null says nothing and replaces nothing.
    pub(super) fn last(&mut self, name: &str, json: &str) {
        match self.0.iter_mut().find(|(n, _)| n == name) {
            Some((_, old)) if json != "null" && old != json => json.clone_into(old),
            Some(_) => {}
            None => self.0.push((name.to_owned(), json.to_owned())),
        }
    }

    /// Keeps the first value that is neither null nor an empty text.
    pub(super) fn first(&mut self, name: &str, json: &str) {
        let says = |json: &str| !matches!(json, "null" | "\"\"");
        if !self.get(name).is_some_and(says) {
            self.last(name, json);
        }
    }

    /// The JSON text of a member.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(n, _)| n == name);
        found.map(|(_, json)| json.as_str())
    }

    /// The members that are not among `named`.
    pub(super) fn except<'a>(&'a self, named: &'a [&str]) -> impl Iterator<Item = (&'a str, &'a str)> {
        let rest = self.0.iter().filter(|(name, _)| !named.contains(&name.as_str()));
        rest.map(|(name, json)| (name.as_str(), json.as_str()))
    }

    /// Bytes held.
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|(name, json)| name.len() + json.len()).sum()
    }
}

/// Writes one object.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

impl<'a> Writer<'a> {
    /// Opens the object.
    pub(super) fn open(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    /// A member's name; its value is to be written next.
    pub(super) fn name(&mut self, name: &str) -> &mut Vec<u8> {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        let name = serde_json::Value::from(name).to_string();
        self.out.extend_from_slice(name.as_bytes());
        self.out.push(b':');
        self.out
    }

    /// A member whose value is JSON text already.
    pub(super) fn member(&mut self, name: &str, json: &str) {
        self.name(name).extend_from_slice(json.as_bytes());
    }

    /// The same, where there is one.
    pub(super) fn maybe(&mut self, name: &str, json: Option<&str>) {
        if let Some(json) = json {
            self.member(name, json);
        }
    }

    /// Members as they are kept.
    pub(super) fn all<'b>(&mut self, members: impl Iterator<Item = (&'b str, &'b str)>) {
        for (name, json) in members {
            self.member(name, json);
        }
    }

    /// Closes the object.
    pub(super) fn close(self) {
        self.out.push(b'}');
    }
}

/// Writes a list, each item by `write`.
pub(super) fn list<T>(
    out: &mut Vec<u8>,
    items: impl Iterator<Item = T>,
    mut write: impl FnMut(T, &mut Vec<u8>),
) {
    out.push(b'[');
    for (position, item) in items.enumerate() {
        if position > 0 {
            out.push(b',');
        }
        write(item, out);
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_and_first_values() {
        let mut kept = Kept::default();
        for (name, json) in [("a", "null"), ("a", "1"), ("b", "2"), ("a", "3"), ("a", "null")] {
            kept.last(name, json);
        }
        for json in ["null", "\"\"", "\"x\"", "\"y\""] {
            kept.first("c", json);
        }
        let mut out = Vec::new();
        let mut object = Writer::open(&mut out);
        object.member("\"q\"", "[]");
        object.all(kept.except(&["b"]));
        object.maybe("none", None);
        object.close();
        assert_eq!(String::from_utf8(out).unwrap(), r#"{"\"q\"":[],"a":3,"c":"x"}"#);
        assert_eq!(kept.get("b"), Some("2"));
    }
}
