//! Ids of instances: a UUID that says which lane owns the instance.

use uuid::Uuid;

/// Makes the id of an instance of this lane.
///
/// The id is a UUID of version 8: its first two bytes are the lane, big-endian, and the rest is random (106 bits after version and
/// variant). So any request with an id, and any record with one, finds its lane without a look-up, on any node.
#[must_use]
pub fn new_instance_id(lane: u16, random: [u8; 14]) -> Uuid {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&lane.to_be_bytes());
    bytes[2..].copy_from_slice(&random);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// The lane in an id. Any UUID has one; whether that lane exists is for the caller to check.
#[must_use]
pub fn lane_of(id: Uuid) -> u16 {
    let bytes = id.as_bytes();
    u16::from_be_bytes([bytes[0], bytes[1]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lane_survives_version_and_variant() {
        for lane in [0, 1, 15, 0x8000, u16::MAX] {
            let id = new_instance_id(lane, [0xff; 14]);
            assert_eq!((lane_of(id), id.get_version_num()), (lane, 8));
        }
    }
}
