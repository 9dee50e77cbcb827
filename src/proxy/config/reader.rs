//! Reads tables of a TOML file key by key, so that all errors are reported at once, each with its path.

use serde::de::DeserializeOwned;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;
use toml::{Table, Value};

/// One thing wrong in the config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Dotted path of the key.
    pub(crate) path: String,
    /// What stands there.
    pub(crate) value: Option<String>,
    /// Why it cannot be used.
    pub(crate) reason: String,
    /// What to write instead.
    pub(crate) remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path)?;
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        write!(f, ": {}. {}", self.reason, self.remedy)
    }
}

/// A table being read. Every key asked for is taken out; [`Section::finish`] reports what is left as unknown.
pub(crate) struct Section<'p> {
    path: String,
    table: Table,
    known: Vec<String>,
    problems: &'p mut Vec<Problem>,
}

impl<'p> Section<'p> {
    pub(crate) fn root(table: Table, problems: &'p mut Vec<Problem>) -> Self {
        Self {
            path: String::new(),
            table,
            known: Vec::new(),
            problems,
        }
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    pub(crate) fn problem(
        &mut self,
        key: &str,
        value: Option<String>,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let path = self.path_of(key);
        self.problems.push(Problem {
            path,
            value,
            reason: reason.into(),
            remedy: remedy.into(),
        });
    }

    fn take_raw(&mut self, key: &str) -> Option<Value> {
        self.known.push(key.to_owned());
        self.table.remove(key)
    }

    /// A sub-table; empty where the file has none.
    pub(crate) fn section(&mut self, key: &str) -> Section<'_> {
        let path = self.path_of(key);
        let table = match self.take_raw(key) {
            Some(Value::Table(table)) => table,
            None => Table::new(),
            Some(other) => {
                self.problem(
                    key,
                    Some(shown(&other)),
                    "must be a table",
                    format!("Write [{path}] on a line of its own."),
                );
                Table::new()
            }
        };
        Section {
            path,
            table,
            known: Vec::new(),
            problems: self.problems,
        }
    }

    /// A value of any type that serde can read.
    pub(crate) fn read<T: DeserializeOwned>(&mut self, key: &str, default: T, wanted: &str) -> T {
        let Some(value) = self.take_raw(key) else {
            return default;
        };
        match value.clone().try_into() {
            Ok(read) => read,
            Err(_) => {
                self.problem(
                    key,
                    Some(shown(&value)),
                    format!("must be {wanted}"),
                    "Correct the value or leave the key out.",
                );
                default
            }
        }
    }

    /// A name out of a set; `None` where there is none, or one that `known` does not know.
    pub(crate) fn choice<T>(
        &mut self,
        key: &str,
        wanted: &str,
        known: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let value = self.take_raw(key)?;
        let read = value.as_str().and_then(known);
        if read.is_none() {
            let reason = format!("must be {wanted}");
            let remedy = "Correct the value or leave the key out.";
            self.problem(key, Some(shown(&value)), reason, remedy);
        }
        read
    }

    /// A key that earlier versions knew.
    pub(crate) fn retired(&mut self, key: &str, remedy: &str) {
        if let Some(value) = self.table.remove(key) {
            self.problem(key, Some(shown(&value)), "is not a key any more", remedy);
        }
    }

    /// Whether the file has the key.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// A whole number within bounds.
    pub(crate) fn count(&mut self, key: &str, default: usize, range: RangeInclusive<usize>) -> usize {
        let wanted = format!("a whole number from {} to {}", range.start(), range.end());
        let Some(value) = self.take_raw(key) else {
            return default;
        };
        match value
            .as_integer()
            .and_then(|n| usize::try_from(n).ok())
            .filter(|n| range.contains(n))
        {
            Some(n) => n,
            None => {
                self.problem(
                    key,
                    Some(shown(&value)),
                    format!("must be {wanted}"),
                    "Write a number within these bounds; its unit stands in the key's name.",
                );
                default
            }
        }
    }

    /// A time in seconds, decimals allowed; from a hundredth to a week.
    pub(crate) fn seconds(&mut self, key: &str, default: Duration) -> Duration {
        const LEAST_S: f64 = 0.01;
        const WEEK_S: f64 = 604_800.0;
        let Some(value) = self.take_raw(key) else {
            return default;
        };
        let seconds = value.as_float().or_else(|| value.as_integer().map(|n| n as f64));
        match seconds.filter(|s| (LEAST_S..=WEEK_S).contains(s)) {
            Some(s) => Duration::from_secs_f64(s),
            None => {
                let reason = "must be a time in seconds, from 0.01 to 604800";
                self.problem(
                    key,
                    Some(shown(&value)),
                    reason,
                    "Write a number such as 30 or 0.5.",
                );
                default
            }
        }
    }

    /// The names of the sub-tables and keys that are still there.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.table.keys().cloned().collect()
    }

    /// Reports every key that nobody asked for.
    pub(crate) fn finish(mut self) {
        for key in self.keys() {
            let near = self
                .known
                .iter()
                .map(|k| (strsim::damerau_levenshtein(k, &key), k.clone()))
                .filter(|(distance, k)| *distance <= k.len().max(3) / 3 + 1)
                .min();
            let remedy = match near {
                Some((_, k)) => format!("Did you mean `{k}`?"),
                None if self.known.is_empty() => "Remove it.".to_owned(),
                None => format!("Known keys here: {}.", self.known.join(", ")),
            };
            self.problem(&key, None, "unknown key", remedy);
        }
    }
}

/// A value as the file has it, shortened.
pub(crate) fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}
