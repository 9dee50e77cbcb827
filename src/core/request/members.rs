//! A JSON object as its members, each value's text kept as it was written: what is not changed stays byte for byte.

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// The members of an object, in order.
#[derive(Debug, Default)]
pub struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

impl Members {
    /// Reads an object.
    ///
    /// # Errors
    /// When the text is not one JSON object.
    pub fn read(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }

    /// The members in order, each with the text of its value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.get()))
    }

    /// The text of a member's value. Of a name that stands there twice the last counts, as it does for the servers.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .rfind(|(n, _)| n == name)
            .map(|(_, value)| value.get())
    }

    /// A member read as `T`; `None` when it is absent or something else.
    #[must_use]
    pub fn read_as<'a, T: Deserialize<'a>>(&'a self, name: &str) -> Option<T> {
        serde_json::from_str(self.get(name)?).ok()
    }

    /// Sets a member, in its place where there is one, else at the end; of a name that stands there twice only the last
    /// is left. `json` must be JSON text; anything else is refused, and `false` says so.
    pub fn set(&mut self, name: &str, json: String) -> bool {
        let Ok(value) = RawValue::from_string(json) else {
            return false;
        };
        let Some(last) = self.0.iter().rposition(|(n, _)| n == name) else {
            self.0.push((name.to_owned(), value));
            return true;
        };
        self.0[last].1 = value;
        let mut at = 0;
        self.0.retain(|(n, _)| {
            at += 1;
            at > last || n != name
        });
        true
    }

    /// Removes a member.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(n, _)| n != name);
    }

    /// The object's text: members in order, values as they were.
    #[must_use]
    pub fn to_json(&self) -> String {
        let values: usize = self.0.iter().map(|(n, v)| n.len() + v.get().len() + 4).sum();
        let mut json = String::with_capacity(values + 2);
        json.push('{');
        for (index, (name, value)) in self.0.iter().enumerate() {
            if index > 0 {
                json.push(',');
            }
            json.push_str(&serde_json::Value::String(name.clone()).to_string());
            json.push(':');
            json.push_str(value.get());
        }
        json.push('}');
        json
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_changed_stays_as_written() {
        let mut members =
            Members::read(br#"{"b": 1.50, "a" :[1, 2],"seed":18446744073709551616,"\u0078":"\u00e9"}"#)
                .unwrap();
        assert!(members.set("a", "null".into()) && members.set("z", "true".into()));
        assert!(!members.set("z", "tru".into()));
        members.remove("absent");
        assert_eq!(
            members.to_json(),
            r#"{"b":1.50,"a":null,"seed":18446744073709551616,"x":"\u00e9","z":true}"#
        );
        assert_eq!(members.read_as::<bool>("z"), Some(true));
        assert_eq!(members.get("y"), None);
    }

    #[test]
    fn of_a_name_that_stands_twice_the_last_counts() {
        let mut members = Members::read(br#"{"a":1,"b":2,"a":3,"c":4}"#).unwrap();
        assert_eq!(members.get("a"), Some("3"));
        assert!(members.set("a", "5".into()));
        assert_eq!(members.to_json(), r#"{"b":2,"a":5,"c":4}"#);
    }
}
