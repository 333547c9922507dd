//! What one node says to another, and never to a client.

use sagamq_api::ErrorCode;

/// Why a proof is refused.
pub(super) const OF_NODES: [ErrorCode; 4] =
    [ErrorCode::NodeProofInvalid, ErrorCode::NodeProofSpent, ErrorCode::NodeRestarted, ErrorCode::NodeClockSkew];

/// Whether that is said to nodes of the cluster and not to clients.
pub(in crate::web) fn is_of_nodes(code: ErrorCode) -> bool {
    OF_NODES.contains(&code)
}
