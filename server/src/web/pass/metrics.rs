//! What became of the requests that came to a node that stands by, and of the proofs that were shown to one that is asked by others.

use super::codes::OF_NODES;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use sagamq_api::ErrorCode;

/// What became of a request that came to a node that stands by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The active node answered it, whatever.
    Answered,
    /// Nobody is known to be active.
    NoActive,
    /// The active node could not be reached.
    Unreachable,
    /// One of the two nodes does not take the other's certificate.
    Certificate,
    /// It was sent, and no answer came back.
    Lost,
    /// The active node refused the proof.
    Refused,
    /// Another node had passed it on.
    SecondHop,
    /// As many as may be were under way.
    TooMany,
    /// Its path cannot be passed on as it is.
    Target,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

/// Why a proof was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabel {
    code: &'static str,
}

/// Counts them.
#[derive(Clone, Debug, Default)]
pub(crate) struct PassMetrics {
    outcomes: Family<OutcomeLabel, Counter>,
    refused: Family<CodeLabel, Counter>,
    kept: Gauge,
    forgotten: Counter,
}

impl Outcome {
    const ALL: [Self; 9] = [
        Self::Answered,
        Self::NoActive,
        Self::Unreachable,
        Self::Certificate,
        Self::Lost,
        Self::Refused,
        Self::SecondHop,
        Self::TooMany,
        Self::Target,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::NoActive => "no_active",
            Self::Unreachable => "unreachable",
            Self::Certificate => "certificate",
            Self::Lost => "lost",
            Self::Refused => "refused",
            Self::SecondHop => "second_hop",
            Self::TooMany => "too_many",
            Self::Target => "target",
        }
    }
}

impl PassMetrics {
    /// Registers them.
    pub(crate) fn register(&self, registry: &mut Registry) {
        for outcome in Outcome::ALL {
            drop(self.outcomes.get_or_create_owned(&OutcomeLabel { outcome: outcome.as_str() }));
        }
        let help = "Requests that came to this node while it stood by, and what became of passing them on";
        registry.register("sagamq_cluster_passed_requests", help, self.outcomes.clone());
        for code in OF_NODES {
            drop(self.refused.get_or_create_owned(&CodeLabel { code: code.as_str() }));
        }
        let help = "Requests that were passed on to this node, or said so, and whose proof it refused";
        registry.register("sagamq_cluster_proofs_refused", help, self.refused.clone());
        let help = "Proofs of requests that were passed on to this node, which it keeps so that none counts twice";
        registry.register("sagamq_cluster_proofs_kept", help, self.kept.clone());
        let help = "Proofs that were forgotten before their time, because there were too many: what was made as early counts no more";
        registry.register("sagamq_cluster_proofs_forgotten", help, self.forgotten.clone());
    }

    /// A proof was refused.
    pub(super) fn refused(&self, code: ErrorCode) {
        self.refused.get_or_create_owned(&CodeLabel { code: code.as_str() }).inc();
    }

    /// So many proofs are kept, and so many had to be forgotten. Says whether these are the first.
    pub(super) fn kept(&self, kept: usize, forgotten: usize) -> bool {
        self.kept.set(i64::try_from(kept).unwrap_or(i64::MAX));
        forgotten > 0 && self.forgotten.inc_by(forgotten as u64) == 0
    }

    pub(super) fn count(&self, outcome: Outcome) {
        self.outcomes.get_or_create_owned(&OutcomeLabel { outcome: outcome.as_str() }).inc();
    }

    /// How many had that outcome.
    #[cfg(test)]
    pub(in crate::web) fn counted(&self, outcome: Outcome) -> u64 {
        self.outcomes.get_or_create_owned(&OutcomeLabel { outcome: outcome.as_str() }).get()
    }
}
