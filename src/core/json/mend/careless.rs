//! For tests: JSON values, and their texts as a careless model writes them.

use proptest::prelude::*;
use serde_json::Value;

/// What decides at each place whether the model is careless there.
pub(crate) fn dice() -> impl Strategy<Value = Vec<bool>> {
    prop::collection::vec(any::<bool>(), 1..40)
}

/// JSON values of every kind, with strings that need escapes.
pub(crate) fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        prop::num::f64::NORMAL.prop_map(Value::from),
        "[a-z\"\\\\,\\]}é😀 \n\t\r\u{0}\u{8}\u{c}\u{1f}]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[a-z\n\"\\\\]{0,3}", inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Writes a value as a careless model would: raw control characters, commas before brackets, white space anywhere.
/// `dice` decides at each place.
struct Careless<'a> {
    dice: &'a mut dyn Iterator<Item = bool>,
    out: String,
}

impl Careless<'_> {
    fn luck(&mut self) -> bool {
        self.dice.next().unwrap_or(false)
    }

    fn space(&mut self) {
        if self.luck() {
            self.out.push_str("\n  ");
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            if c < ' ' && self.luck() {
                self.out.push(c);
            } else {
                let quoted = Value::from(c.to_string()).to_string();
                self.out.push_str(&quoted[1..quoted.len() - 1]);
            }
        }
        self.out.push('"');
    }

    fn items<T>(&mut self, brackets: [char; 2], items: Vec<T>, mut write: impl FnMut(&mut Self, T)) {
        self.out.push(brackets[0]);
        let last = items.len().saturating_sub(1);
        for (number, item) in items.into_iter().enumerate() {
            self.space();
            write(self, item);
            self.space();
            if number < last || self.luck() {
                self.out.push(',');
            }
        }
        self.space();
        self.out.push(brackets[1]);
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.string(text),
            Value::Array(items) => {
                self.items(['[', ']'], items.iter().collect(), |this, item| this.value(item));
            }
            Value::Object(members) => {
                self.items(['{', '}'], members.iter().collect(), |this, (key, item)| {
                    this.string(key);
                    this.out.push(':');
                    this.value(item);
                });
            }
            other => self.out.push_str(&other.to_string()),
        }
    }
}

/// The text of a value as a careless model writes it.
pub(crate) fn careless(value: &Value, dice: &[bool]) -> String {
    let mut writer = Careless {
        dice: &mut dice.iter().copied().cycle(),
        out: String::new(),
    };
    writer.value(value);
    writer.out
}
