//! [`Rights`]: the decision.

use super::grant::Grant;
use super::operation::Need;
use super::resource::Resource;
use super::role::Role;

/// What somebody may do: all that was granted to him.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights(Vec<Grant>);

impl Rights {
    /// Those of these grants.
    #[must_use]
    pub fn new(grants: Vec<Grant>) -> Self {
        Self(grants)
    }

    /// The grants.
    #[must_use]
    pub fn grants(&self) -> &[Grant] {
        &self.0
    }

    /// **The decision**: whether an operation that needs this may be done with that. What is not allowed by a grant is forbidden.
    #[must_use]
    pub fn allows(&self, need: Need, resource: &Resource<'_>) -> bool {
        let has = |roles: &[Role]| {
            self.0.iter().any(|grant| (grant.role() == Role::Admin || roles.contains(&grant.role())) && grant.covers(resource))
        };
        match need {
            Need::Nothing => true,
            Need::AnyRole => has(&Role::ALL),
            Need::OneOf(roles) => has(roles),
        }
    }

    /// Whether the keys may be made and taken away: the right that gives all others.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.allows(Need::OneOf(&[Role::Admin]), &Resource::SERVER)
    }
}
