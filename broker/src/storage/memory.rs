//! Storage in memory, for tests that want speed and no disk. Nothing survives the process, whatever durability was asked for.

use super::image::Image;
use super::{Direction, Durability, Family, Moment, Moments, Mutation, Storage, StorageError, Visitor};
use bytes::Bytes;
use core::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

/// Storage in memory. Clones share the content.
#[derive(Clone, Debug, Default)]
pub struct MemoryStorage {
    // Readers take a clone of the image and let go, so a scan's visitor may read and write.
    image: Arc<RwLock<Image>>,
}

impl MemoryStorage {
    /// Empty storage.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Storage for MemoryStorage {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        Ok(self.image.read().unwrap_or_else(PoisonError::into_inner).get(family, key))
    }

    fn scan(&self, family: Family, range: Range<&[u8]>, direction: Direction, visit: Visitor<'_>) -> Result<(), StorageError> {
        let moment = self.image.read().unwrap_or_else(PoisonError::into_inner).clone();
        moment.scan(family, range, direction, visit);
        Ok(())
    }

    fn write(&self, mutations: &[Mutation], _durability: Durability) -> Result<(), StorageError> {
        self.image.write().unwrap_or_else(PoisonError::into_inner).apply(mutations);
        Ok(())
    }
}

impl Moment for Image {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        Ok(Self::get(self, family, key))
    }

    fn scan(&self, family: Family, range: Range<&[u8]>, visit: Visitor<'_>) -> Result<(), StorageError> {
        Self::scan(self, family, range, Direction::Forward, visit);
        Ok(())
    }
}

impl Moments for MemoryStorage {
    fn moment(&self) -> Box<dyn Moment + '_> {
        Box::new(self.image.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}
