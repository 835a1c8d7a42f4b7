//! The few numbers that are made of many: least, median.

use serde::{Deserialize, Serialize};

/// Several measurements of one thing, in the order they were taken.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Samples {
    /// The measurements.
    pub all: Vec<f64>,
}

impl Samples {
    /// Adds one.
    pub fn push(&mut self, value: f64) {
        self.all.push(value);
    }

    /// The least, or `None` when there are none.
    #[must_use]
    pub fn least(&self) -> Option<f64> {
        self.all.iter().copied().min_by(f64::total_cmp)
    }

    /// The most, or `None` when there are none.
    #[must_use]
    pub fn most(&self) -> Option<f64> {
        self.all.iter().copied().max_by(f64::total_cmp)
    }

    /// The median (of an even number the mean of the middle two), or `None` when there are none.
    #[must_use]
    pub fn median(&self) -> Option<f64> {
        let mut sorted = self.all.clone();
        sorted.sort_by(f64::total_cmp);
        let upper = *sorted.get(sorted.len() / 2)?;
        let lower = sorted[(sorted.len() - 1) / 2];
        Some(f64::midpoint(lower, upper))
    }
}

/// `one / other` where both are there.
#[must_use]
pub fn ratio(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    Some(one? / other?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[f64]) -> Samples {
        Samples { all: values.to_vec() }
    }

    #[test]
    fn median_and_least_do_not_depend_on_the_order() {
        assert_eq!(samples(&[9.0, 1.0, 5.0]).median(), Some(5.0));
        assert_eq!(samples(&[4.0, 1.0, 2.0, 100.0]).median(), Some(3.0));
        assert_eq!(samples(&[9.0, 1.0, 5.0]).least(), Some(1.0));
    }

    #[test]
    fn nothing_measured_is_no_number() {
        assert_eq!(samples(&[]).median(), None);
        assert_eq!(ratio(Some(1.0), None), None);
        assert_eq!(ratio(Some(3.0), Some(2.0)), Some(1.5));
    }
}
