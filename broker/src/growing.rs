//! A list that grows while others read it: what is in it stays where it is, so references to it last.

use std::sync::OnceLock;

/// A list that only grows. It begins with as many places as are asked for and then at least doubles, so a look passes few parts.
#[derive(Debug)]
pub(crate) struct Growing<T> {
    places: Box<[T]>,
    /// The places behind these.
    more: OnceLock<Box<Self>>,
}

impl<T> Growing<T> {
    /// A list of these.
    pub(crate) fn new(places: impl IntoIterator<Item = T>) -> Self {
        Self { places: places.into_iter().collect(), more: OnceLock::new() }
    }

    pub(crate) fn get(&self, mut index: usize) -> Option<&T> {
        let mut part = self;
        loop {
            match part.places.get(index) {
                Some(place) => return Some(place),
                None => (index, part) = (index - part.places.len(), part.more.get()?),
            }
        }
    }

    /// All of them, also those beyond what was asked for.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        core::iter::successors(Some(self), |part| part.more.get().map(|more| &**more)).flat_map(|part| &part.places)
    }

    /// Has at least `len` places from now on; `make` fills the new ones by their index. Only one may do this at a time.
    pub(crate) fn grow_to(&self, len: usize, make: impl FnMut(usize) -> T) {
        let (mut last, mut have) = (self, self.places.len());
        while let Some(more) = last.more.get() {
            (last, have) = (more, have + more.places.len());
        }
        if have < len {
            let places = have..have + (len - have).max(have);
            let is_alone = last.more.set(Box::new(Self::new(places.map(make)))).is_ok();
            assert!(is_alone, "a list was grown by two at once");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_it_stays_where_it_is_and_what_comes_knows_its_place() {
        let list = Growing::new(0..3);
        let first = list.get(2).expect("it is there");
        assert!(list.get(3).is_none());
        for len in [2, 4, 5, 100, 101] {
            list.grow_to(len, |index| index);
            assert!((0..len.max(3)).all(|index| list.get(index) == Some(&index)), "{len}");
        }
        assert!(core::ptr::eq(first, list.get(2).expect("it is there still")));
        assert!(list.iter().enumerate().all(|(index, &place)| index == place));
        assert!((101..=200).contains(&list.iter().count()), "it at most doubles");
    }

    #[test]
    fn one_that_begins_empty_grows_too() {
        let list = Growing::new([]);
        list.grow_to(2, |index| index);
        assert_eq!(list.iter().copied().collect::<Vec<_>>(), [0, 1]);
    }
}
