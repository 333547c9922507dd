//! What was decided: what a participant that has prepared asks.

use crate::saga::Outcome;
use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// Query of `GET /v1/transactions/{id}/outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema, IntoParams))]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
pub struct OutcomeQuery {
    /// Which coordinator's data the transaction is of, as its calls said. A server with other data does not answer: that it has never heard of
    /// the transaction says nothing.
    pub cluster: Uuid,
}

/// `GET /v1/transactions/{id}/outcome`: what the coordinator has decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct TransactionOutcome {
    /// Id of the transaction.
    pub id: Uuid,
    /// What was decided.
    pub outcome: Outcome,
    /// Whether the coordinator knows the transaction. One that it has never heard of, or has forgotten, was rolled back: none is forgotten
    /// before all of its branches have acknowledged a commit.
    pub known: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_outcome_has_its_golden_form() {
        for (outcome, text) in [(Outcome::Committed, "committed"), (Outcome::RolledBack, "rolled_back"), (Outcome::Undecided, "undecided")]
        {
            let answer = TransactionOutcome { id: Uuid::from_u128(5), outcome, known: true };
            let expected = json!({"id": "00000000-0000-0000-0000-000000000005", "outcome": text, "known": true});
            assert_eq!(serde_json::to_value(answer).expect("JSON"), expected);
            assert_eq!(serde_json::from_value::<TransactionOutcome>(expected).expect("its own form"), answer);
            assert_eq!(outcome.to_string(), text);
        }
    }

    #[test]
    fn a_query_names_the_data_that_is_meant_and_nothing_else() {
        assert!(serde_json::from_value::<OutcomeQuery>(json!({})).is_err());
        assert!(serde_json::from_value::<OutcomeQuery>(json!({"cluster": Uuid::nil(), "more": 1})).is_err());
        assert!(serde_json::from_value::<OutcomeQuery>(json!({"cluster": Uuid::nil()})).is_ok());
    }
}
