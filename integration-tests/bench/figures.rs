//! Named figures, their percentiles and their medians over rounds.

use std::collections::BTreeMap;

/// Figures by name; each name ends in the figure's unit.
pub(crate) type Figures = BTreeMap<&'static str, f64>;

/// The value below which `share` of the samples lie (nearest rank), or nothing where there are none.
pub(crate) fn percentile(samples: &mut [u64], share: f64) -> Option<f64> {
    let last = samples.len().checked_sub(1)?;
    let rank = ((samples.len() as f64 * share).ceil() as usize)
        .saturating_sub(1)
        .min(last);
    Some(*samples.select_nth_unstable(rank).1 as f64)
}

/// The median of a few values.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    Some((values[last / 2] + values[values.len() / 2]) / 2.0)
}

/// What is reported of several rounds of the same thing.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub(crate) struct Summary {
    /// The median of each figure.
    pub(crate) median: Figures,
    /// The least of each figure.
    pub(crate) min: Figures,
    /// The greatest of each figure.
    pub(crate) max: Figures,
}

impl Summary {
    /// Summarises rounds; a figure that a round lacks is taken from the others.
    pub(crate) fn of(rounds: &[Figures]) -> Self {
        let mut summary = Self::default();
        for name in rounds.iter().flat_map(Figures::keys).copied() {
            let values: Vec<f64> = rounds
                .iter()
                .filter_map(|round| round.get(name))
                .copied()
                .collect();
            summary
                .min
                .insert(name, values.iter().copied().fold(f64::INFINITY, f64::min));
            summary
                .max
                .insert(name, values.iter().copied().fold(f64::NEG_INFINITY, f64::max));
            if let Some(value) = median(values) {
                summary.median.insert(name, value);
            }
        }
        summary
    }
}

/// The medians over the rounds of `combine(own, other)` for each of `names`: rounds are compared pairwise, so that a
/// disturbance that lasts longer than a round falls on both sides.
pub(crate) fn compare(
    own: &[Figures],
    other: &[Figures],
    names: &[&'static str],
    combine: impl Fn(f64, f64) -> f64,
) -> Figures {
    let pairs = |name: &'static str| {
        let pairs = own.iter().zip(other);
        pairs
            .filter_map(|(own, other)| Some(combine(*own.get(name)?, *other.get(name)?)))
            .collect()
    };
    names
        .iter()
        .filter_map(|&name| Some((name, median(pairs(name))?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let mut samples: Vec<u64> = (1..=100).rev().collect();
        assert_eq!(percentile(&mut samples, 0.5), Some(50.0));
        assert_eq!(percentile(&mut samples, 0.99), Some(99.0));
        assert_eq!(percentile(&mut [7], 0.99), Some(7.0));
        assert_eq!(percentile(&mut [], 0.5), None);
    }

    #[test]
    fn rounds_are_compared_pairwise() {
        let rounds = |values: [f64; 3]| values.map(|value| Figures::from([("cpu", value)]));
        let (own, other) = (rounds([2.0, 40.0, 6.0]), rounds([1.0, 10.0, 6.0]));
        assert_eq!(
            compare(&own, &other, &["cpu", "absent"], |own, other| own / other),
            Figures::from([("cpu", 2.0)])
        );
        let summary = Summary::of(&own);
        assert_eq!(
            (summary.min["cpu"], summary.median["cpu"], summary.max["cpu"]),
            (2.0, 6.0, 40.0)
        );
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
    }
}
