//! The PostgreSQL schema in which the SDK's tables lie.

use std::fmt;

/// Longest name of a schema in bytes; PostgreSQL cuts longer ones without a word.
const NAME_BYTES_MAX: usize = 63;

/// The PostgreSQL schema in which the SDK's tables lie: `sagamq` unless it is named otherwise. One service has one; several services may
/// share a database with a schema each.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PostgresSchema {
    name: String,
}

/// A text that cannot name a schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` cannot name a schema of PostgreSQL: a name has 1 to {NAME_BYTES_MAX} bytes, none of them zero")]
pub struct SchemaNameError(String);

impl Default for PostgresSchema {
    fn default() -> Self {
        Self { name: "sagamq".to_owned() }
    }
}

impl fmt::Debug for PostgresSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresSchema({})", self.name)
    }
}

impl PostgresSchema {
    /// The schema of this name, as it is: it is quoted wherever it is used.
    ///
    /// # Errors
    /// [`SchemaNameError`] when PostgreSQL could not keep the name.
    pub fn named(name: impl Into<String>) -> Result<Self, SchemaNameError> {
        let name = name.into();
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains('\0') {
            return Err(SchemaNameError(name));
        }
        Ok(Self { name })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name as it stands in SQL.
    pub(crate) fn quoted(&self) -> String {
        format!("\"{}\"", self.name.replace('"', "\"\""))
    }

    /// A table of it as it stands in SQL.
    pub(crate) fn table(&self, table: &str) -> String {
        format!("{}.{table}", self.quoted())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_quoted_or_refused() {
        assert_eq!(PostgresSchema::default().table("barrier"), "\"sagamq\".barrier");
        assert_eq!(PostgresSchema::named("a\"; DROP").expect("legal").quoted(), "\"a\"\"; DROP\"");
        for wrong in [String::new(), "a\0b".to_owned(), "a".repeat(64)] {
            assert_eq!(PostgresSchema::named(wrong.clone()), Err(SchemaNameError(wrong)));
        }
    }
}
