//! The one error of the benchmark: a sentence that says what went wrong and where.

use std::fmt;

/// A sentence for the person at the terminal. The benchmark never recovers: a figure that was not measured as
/// described is worth less than none.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

/// Attaches the place of an error to it.
pub(crate) trait At<T> {
    /// Turns any error into a [`Failure`] that starts with `place`.
    fn at(self, place: &str) -> Result<T, Failure>;
}

impl<T, E: fmt::Display> At<T> for Result<T, E> {
    fn at(self, place: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure(format!("{place}: {error}")))
    }
}

/// A [`Failure`] from a sentence.
pub(crate) fn failure<T>(sentence: impl Into<String>) -> Result<T, Failure> {
    Err(Failure(sentence.into()))
}
