//! A queue that has the size of a pointer while it is empty.

use std::collections::VecDeque;
use std::ops::Deref;

/// A FIFO queue that derefs to [`VecDeque`] and frees its memory when it becomes empty.
#[derive(Debug)]
#[expect(clippy::box_collection, reason = "an unboxed queue is four times as large, and every session has several")]
pub(crate) struct LazyQueue<T>(Option<Box<VecDeque<T>>>);

impl<T> Default for LazyQueue<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: 'static> LazyQueue<T> {
    const EMPTY: &'static VecDeque<T> = &VecDeque::new();

    pub(crate) fn push_back(&mut self, item: T) {
        self.0.get_or_insert_default().push_back(item);
    }

    pub(crate) fn pop_front(&mut self) -> Option<T> {
        self.remove(0)
    }

    pub(crate) fn remove(&mut self, at: usize) -> Option<T> {
        self.change(|queue| queue.remove(at)).flatten()
    }

    pub(crate) fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        self.0.as_mut()?.get_mut(at)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut().flat_map(|queue| queue.iter_mut())
    }

    pub(crate) fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        self.change(|queue| queue.retain(keep));
    }

    pub(crate) fn take(&mut self) -> impl Iterator<Item = T> + use<T> {
        self.0.take().into_iter().flat_map(|queue| *queue)
    }

    fn change<R>(&mut self, change: impl FnOnce(&mut VecDeque<T>) -> R) -> Option<R> {
        let queue = self.0.as_mut()?;
        let result = change(queue);
        if queue.is_empty() {
            self.0 = None;
        }
        Some(result)
    }
}

impl<T: 'static> Deref for LazyQueue<T> {
    type Target = VecDeque<T>;

    fn deref(&self) -> &VecDeque<T> {
        self.0.as_deref().unwrap_or(Self::EMPTY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_queue_is_a_pointer() {
        assert_eq!(size_of::<LazyQueue<[u8; 100]>>(), size_of::<usize>());
        let mut queue = LazyQueue::default();
        assert_eq!((queue.len(), queue.pop_front(), queue.remove(3)), (0, None, None));
        (1..=5).for_each(|item| queue.push_back(item));
        assert_eq!(queue.pop_front(), Some(1));
        assert_eq!(queue.remove(1), Some(3));
        queue.iter_mut().for_each(|item| *item *= 10);
        assert_eq!(queue.iter().copied().collect::<Vec<_>>(), [20, 40, 50]);
        queue.retain(|item| *item == 40);
        assert_eq!(queue.get_mut(0), Some(&mut 40));
        queue.retain(|_| false);
        assert!(queue.0.is_none(), "memory is freed");
        (1..=2).for_each(|item| queue.push_back(item));
        assert_eq!(queue.take().collect::<Vec<_>>(), [1, 2]);
        assert!(queue.0.is_none());
    }
}
