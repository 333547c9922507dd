//! Which version a new saga takes, of those that are tried side by side: by its business key, so that a start again takes the same.

use super::definitions::{Candidates, Published};
use sagamq_api::SagaName;
use std::sync::Arc;

/// Sets these hashes apart from all others. Never changed: a key would change its version.
const CONTEXT: &str = "sagamq 2026-11 share of a saga version";

/// The one of the candidates that the business key takes.
pub(super) fn choose(candidates: Candidates, key: &str) -> Arc<Published> {
    let Candidates { active, canary } = candidates;
    match canary {
        Some((tried, percent)) if is_within(&active.description.name, key, percent) => tried,
        _ => active,
    }
}

/// Whether the key is among these hundredths of all keys. The hundredths of a larger share include those of a smaller one.
fn is_within(saga: &SagaName, key: &str, percent: u8) -> bool {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    hasher.update(saga.as_str().as_bytes()).update(&[0]).update(key.as_bytes());
    let place = u64::from_be_bytes(hasher.finalize().as_bytes()[..8].try_into().expect("eight bytes were taken"));
    place % 100 < u64::from(percent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_about_what_it_says_and_grows_without_moving_keys() {
        let saga: SagaName = "checkout".parse().expect("legal");
        let within = |percent: u8| (0..10_000).filter(|n| is_within(&saga, &format!("o-{n}"), percent)).collect::<Vec<_>>();
        let (ten, thirty) = (within(10), within(30));
        assert!((900..1_100).contains(&ten.len()) && (2_800..3_200).contains(&thirty.len()), "{} {}", ten.len(), thirty.len());
        assert!(ten.iter().all(|n| thirty.contains(n)));
    }
}
