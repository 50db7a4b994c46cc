//! Atomic cells for counts. All operations are relaxed, because no other memory access depends on a
//! count, and a scrape may be slightly out of date.

use std::marker::PhantomData;
use std::ops::Index;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::protocol::label::Label;

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A value that can decrease.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicI64);

impl Gauge {
    pub(crate) fn add(&self, change: i64) {
        self.0.fetch_add(change, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, value: usize) {
        self.0.store(value as i64, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One cell for each value of a label.
#[derive(Debug)]
pub(crate) struct Labelled<L, T, const N: usize> {
    cells: [T; N],
    label: PhantomData<L>,
}

impl<L: Label, T, const N: usize> Labelled<L, T, N> {
    pub(crate) fn from_fn(cell: impl FnMut(usize) -> T) -> Self {
        const { assert!(N == L::ALL.len()) };
        Self { cells: std::array::from_fn(cell), label: PhantomData }
    }
}

impl<L: Label, T: Default, const N: usize> Default for Labelled<L, T, N> {
    fn default() -> Self {
        Self::from_fn(|_| T::default())
    }
}

impl<L: Label, T, const N: usize> Index<L> for Labelled<L, T, N> {
    type Output = T;

    fn index(&self, label: L) -> &T {
        &self.cells[label.index()]
    }
}

/// Counts of values in `N` buckets with upper bounds and in one bucket for larger values, and the
/// sum of the values.
#[derive(Debug)]
pub(crate) struct Histogram<const N: usize> {
    buckets: [Counter; N],
    above: Counter,
    sum: Counter,
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        Self {
            buckets: std::array::from_fn(|_| Counter::default()),
            above: Counter::default(),
            sum: Counter::default(),
        }
    }
}

impl<const N: usize> Histogram<N> {
    /// Counts a value in the first bucket whose upper bound, `bound(index)`, is at least the value.
    pub(crate) fn observe(&self, value: u64, bound: impl Fn(usize) -> u64) {
        let bucket = (0..N).find(|at| value <= bound(*at)).map_or(&self.above, |at| &self.buckets[at]);
        bucket.add(1);
        self.sum.add(value);
    }

    /// Number of values in each bucket. The last bucket contains the values above all bounds.
    pub(crate) fn counts(&self) -> impl Iterator<Item = u64> + '_ {
        self.buckets.iter().chain([&self.above]).map(Counter::get)
    }

    pub(crate) fn sum(&self) -> u64 {
        self.sum.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_counted_in_the_first_bucket_with_a_large_enough_bound() {
        let histogram = Histogram::<3>::default();
        for value in [0, 1, 2, 10, 11, 100, 101, 1_000] {
            histogram.observe(value, |at| [1, 10, 100][at]);
        }
        assert_eq!(histogram.counts().collect::<Vec<_>>(), [2, 2, 2, 2]);
        assert_eq!(histogram.sum(), 1_225);
    }
}
