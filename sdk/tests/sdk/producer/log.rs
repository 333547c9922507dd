//! A topic of one partition, as a server has it.

use super::*;

/// A topic of one partition: each key and each sequence stores its records once, and is answered the same again; sequences come in order, and only
/// the last five batches are remembered.
#[derive(Default)]
pub(super) struct Log {
    stored: Mutex<Vec<String>>,
    by_key: Mutex<HashMap<String, (u64, usize)>>,
    /// By producer: its epoch, and what is next.
    next: Mutex<HashMap<u64, (u16, u32)>>,
    /// The last batches, the oldest first.
    last: Mutex<VecDeque<String>>,
}

impl Log {
    pub(super) fn store(&self, seen: &Seen) -> Answer {
        if seen.method == "GET" {
            return described(1);
        }
        let mut stored = self.stored.lock().expect("no panic");
        let mut by_key = self.by_key.lock().expect("no panic");
        let key = key_of(seen);
        if is_binary(seen) && seen.header("idempotency-key").is_empty() && !by_key.contains_key(&key) {
            let Stamp { producer, epoch, sequence } = stamp(seen);
            let mut next = self.next.lock().expect("no panic");
            let known = next.get(&producer).copied();
            let (_, expected) = known.filter(|(of, _)| *of == epoch).unwrap_or((epoch, 0));
            match known {
                Some((newest, _)) if epoch < newest => return Answer::Problem(ErrorCode::ProducerFenced),
                None if sequence > 0 => return Answer::Problem(ErrorCode::UnknownProducer),
                _ if sequence != expected => return Answer::Problem(ErrorCode::OutOfOrderSequence),
                _ => {}
            }
            let records = u32::try_from(values(seen).len()).expect("few");
            next.insert(producer, (epoch, sequence_after(sequence, records)));
            let mut last = self.last.lock().expect("no panic");
            last.push_back(key.clone());
            if last.len() > 5 {
                last.pop_front().map(|forgotten| by_key.remove(&forgotten));
            }
        }
        let (first, count) = *by_key.entry(key).or_insert_with(|| {
            let first = stored.len() as u64;
            let new = values(seen);
            let count = new.len();
            stored.extend(new);
            (first, count)
        });
        assert_eq!(values(seen).len(), count, "a key stands for the same records");
        places(seen, first)
    }

    pub(super) fn stored(&self) -> Vec<String> {
        self.stored.lock().expect("no panic").clone()
    }
}
