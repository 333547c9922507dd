//! Producers that have a name: whoever takes it over supersedes the one that had it before.

use crate::ids::ProducerId;
use crate::names::ProducerName;
use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::ToSchema;

/// The bit of ids that the server gives. Producers without a name draw ids below.
const NAMED: u64 = 1 << 62;

/// Bits of an id that count how often its name was taken over.
const GENERATION_BITS: u32 = 24;

/// The lowest bits of an id are its producer's own: it may begin anew under another.
const OWN_BITS: u32 = 8;

/// Highest number of a name, and highest generation of one number.
pub const NUMBER_MAX: u32 = (1 << (62 - GENERATION_BITS - OWN_BITS)) - 1;
/// See [`NUMBER_MAX`].
pub const GENERATION_MAX: u32 = (1 << GENERATION_BITS) - 1;

/// The id of the producer that has taken a name over so many times.
///
/// # Panics
/// When a number is above the highest.
#[must_use]
pub fn named_id(number: u32, generation: u32) -> ProducerId {
    assert!(number <= NUMBER_MAX && generation <= GENERATION_MAX, "an id has no room for {number} and {generation}");
    ProducerId(NAMED | u64::from(number) << (GENERATION_BITS + OWN_BITS) | u64::from(generation) << OWN_BITS)
}

/// The number of the name and the generation in an id that the server gave; none in one that its producer drew.
#[must_use]
pub fn name_of_id(id: u64) -> Option<(u32, u32)> {
    let number = u32::try_from((id & (NAMED - 1)) >> (GENERATION_BITS + OWN_BITS)).ok()?;
    let generation = u32::try_from(id >> OWN_BITS & u64::from(GENERATION_MAX)).ok()?;
    (id & NAMED != 0).then_some((number, generation))
}

/// `POST /v1/producers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RegisterProducer {
    /// The name to take over.
    pub name: ProducerName,
}

/// The producer that has a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct NamedProducer {
    /// The name.
    pub name: ProducerName,
    /// Its id, for its batches. The lowest eight bits, which are 0, are the producer's own.
    pub producer_id: ProducerId,
    /// When it took the name over, in milliseconds since 1970.
    pub registered_at_ms: u64,
}

/// `GET /v1/producers`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct NamedProducerList {
    /// By name.
    pub producers: Vec<NamedProducer>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::PRODUCER_ID_MAX;

    #[test]
    fn an_id_says_whose_it_is_whatever_its_own_bits_are() {
        for (number, generation) in [(0, 0), (1, 2), (NUMBER_MAX, GENERATION_MAX)] {
            let ProducerId(id) = named_id(number, generation);
            assert!(id <= PRODUCER_ID_MAX && id & 0xff == 0);
            assert_eq!((name_of_id(id), name_of_id(id | 0xff)), (Some((number, generation)), Some((number, generation))));
        }
        assert_eq!((name_of_id(NAMED - 1), name_of_id(0)), (None, None), "ids that are drawn have no name");
        assert_eq!(serde_json::to_string(&named_id(0, 1)).expect("text"), "\"4611686018427388160\"");
        assert_eq!(serde_json::from_str::<ProducerId>("\"4611686018427388160\"").expect("an id"), named_id(0, 1));
    }
}
