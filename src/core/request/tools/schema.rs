//! A tool's `parameters`, compiled, and the check of arguments against them.
//!
//! The check runs between two frames of a stream, so what it may cost is known before it begins.

use super::cost::{Cost, Size};
use super::{capped, cost, one_line, spelling};
use crate::limits::{
    SCHEMA_BACKTRACK_MAX, SCHEMA_ERRORS_MAX, SCHEMA_NESTING_MAX, SCHEMA_PATTERN_BYTES_MAX, SCHEMA_STEPS_MAX,
    TOOL_DETAIL_CHARS_MAX, TOOL_NAMES_SHOWN_MAX, TOOL_SCHEMA_BYTES_MAX, TOOL_VALUE_CHARS_MAX,
};
use jsonschema::error::ValidationErrorKind;
use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::Value;

/// A compiled schema.
pub(super) struct Schema {
    validator: Validator,
    cost: Cost,
}

impl Schema {
    /// Compiles a schema of any draft that the crate knows. References are looked up inside the schema only.
    ///
    /// # Errors
    /// Why arguments cannot be checked against it.
    pub(super) fn compile(parameters: &str) -> Result<Self, String> {
        if parameters.len() > TOOL_SCHEMA_BYTES_MAX {
            return Err(format!("the schema is larger than {TOOL_SCHEMA_BYTES_MAX} bytes"));
        }
        // The parser bounds the depth, and with it every recursion over the schema.
        let mut schema: Value = serde_json::from_str(parameters).map_err(|error| error.to_string())?;
        spelling::translate(&mut schema);
        let cost = cost::of(&schema)?;
        let patterns = PatternOptions::fancy_regex()
            .backtrack_limit(SCHEMA_BACKTRACK_MAX)
            .size_limit(SCHEMA_PATTERN_BYTES_MAX)
            .dfa_size_limit(SCHEMA_PATTERN_BYTES_MAX);
        let validator = jsonschema::options()
            .offline()
            .should_validate_formats(false)
            .with_pattern_options(patterns)
            .build(&schema)
            .map_err(|error| capped(&one_line(&error.to_string()), TOOL_DETAIL_CHARS_MAX))?;
        Ok(Self { validator, cost })
    }

    /// Checks a value. What would cost too much counts as right.
    ///
    /// # Errors
    /// Where the value does not fit and why, or only that it does not, where finding out would cost too much.
    pub(super) fn check(&self, value: &Value) -> Result<(), String> {
        let size = Size::of(value);
        let nesting = self.cost.nesting.saturating_mul(size.depth);
        if self.cost.steps_for(size) > SCHEMA_STEPS_MAX || nesting > SCHEMA_NESTING_MAX {
            return Ok(());
        }
        if self.validator.is_valid(value) {
            return Ok(());
        }
        let bounded = self.cost.errors_for(size) <= SCHEMA_ERRORS_MAX;
        if !bounded && self.cost.explodes {
            return Err("they do not fit the tool's schema".to_owned());
        }
        match self.validator.validate(value) {
            Err(error) if decided(&error) => Err(describe(&error)),
            Err(_) if bounded => self
                .validator
                .iter_errors(value)
                .find(decided)
                .map_or(Ok(()), |error| Err(describe(&error))),
            Err(_) | Ok(()) => Ok(()),
        }
    }
}

/// Whether the error is one of the arguments, and not of the check itself.
fn decided(error: &ValidationError<'_>) -> bool {
    !matches!(
        error.kind(),
        ValidationErrorKind::BacktrackLimitExceeded { .. }
            | ValidationErrorKind::RegexEngineFailure { .. }
            | ValidationErrorKind::Referencing(_)
    )
}

/// One line about an error. What the model chose, names and values, stands in it quoted and shortened.
fn describe(error: &ValidationError<'_>) -> String {
    let reason = match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            unexpected_names("Additional", unexpected)
        }
        ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            unexpected_names("Unevaluated", unexpected)
        }
        _ => {
            let value = capped(&error.instance().to_string(), TOOL_VALUE_CHARS_MAX);
            one_line(&error.masked_with(value).to_string()).into_owned()
        }
    };
    let path = error.instance_path().as_str();
    let whole = if path.is_empty() {
        reason
    } else {
        format!("at {}: {reason}", place(path))
    };
    capped(&whole, TOOL_DETAIL_CHARS_MAX)
}

/// A path into the arguments: as it is where its names are ordinary ones, else quoted.
fn place(path: &str) -> String {
    let path = capped(path, TOOL_DETAIL_CHARS_MAX / 2);
    let ordinary = |c: char| c.is_alphanumeric() || "/_-.~$@…".contains(c);
    if path.chars().all(ordinary) {
        path
    } else {
        format!("{path:?}")
    }
}

fn unexpected_names(which: &str, names: &[String]) -> String {
    let shown: Vec<String> = names
        .iter()
        .take(TOOL_NAMES_SHOWN_MAX)
        .map(|name| format!("{:?}", capped(name, TOOL_VALUE_CHARS_MAX)))
        .collect();
    let verb = if names.len() == 1 { "was" } else { "were" };
    format!(
        "{which} properties are not allowed ({} {verb} unexpected)",
        shown.join(", ")
    )
}
