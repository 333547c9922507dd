//! What the server may call, and what it shows there: hosts and addresses that are allowed or denied, and secrets, which have names everywhere
//! but in the request that they are for.

mod address_rule;
mod certificate;
mod header;
mod host_rule;
mod reach;
mod resolver;
mod secret;
mod source;

pub use address_rule::{AddressRule, AddressRuleError};
pub(crate) use certificate::first_expiry_in_pem_s;
pub use certificate::first_expiry_s;
pub(crate) use header::{HEADERS_MAX, HeaderTemplate, header_name, needs_a_secret};
pub use host_rule::{HostRule, HostRuleError};
pub(crate) use reach::{Denied, Reach, is_in_the_clear};
pub(crate) use resolver::GuardedResolver;
pub use secret::SecretText;
pub(crate) use source::SecretError;
pub use source::SecretSource;
