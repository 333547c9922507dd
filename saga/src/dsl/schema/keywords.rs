//! The keywords of JSON Schema that a definition may use, and what stands behind each.

/// What stands behind a keyword.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// A value, which the meta-schema checks.
    Value,
    /// A schema.
    Schema,
    /// Schemas by name.
    Named,
    /// Schemas by regular expressions.
    Patterned,
    /// A list of schemas.
    List,
}

/// Every keyword that may be used.
pub(super) const KEYWORDS: [(&str, Holds); 49] = [
    ("$schema", Holds::Value),
    ("$ref", Holds::Value),
    ("$defs", Holds::Named),
    ("$comment", Holds::Value),
    ("title", Holds::Value),
    ("description", Holds::Value),
    ("default", Holds::Value),
    ("examples", Holds::Value),
    ("deprecated", Holds::Value),
    ("readOnly", Holds::Value),
    ("writeOnly", Holds::Value),
    ("type", Holds::Value),
    ("enum", Holds::Value),
    ("const", Holds::Value),
    ("format", Holds::Value),
    ("pattern", Holds::Value),
    ("minLength", Holds::Value),
    ("maxLength", Holds::Value),
    ("minimum", Holds::Value),
    ("maximum", Holds::Value),
    ("exclusiveMinimum", Holds::Value),
    ("exclusiveMaximum", Holds::Value),
    ("multipleOf", Holds::Value),
    ("properties", Holds::Named),
    ("patternProperties", Holds::Patterned),
    ("additionalProperties", Holds::Schema),
    ("unevaluatedProperties", Holds::Schema),
    ("propertyNames", Holds::Schema),
    ("required", Holds::Value),
    ("minProperties", Holds::Value),
    ("maxProperties", Holds::Value),
    ("dependentRequired", Holds::Value),
    ("dependentSchemas", Holds::Named),
    ("items", Holds::Schema),
    ("prefixItems", Holds::List),
    ("unevaluatedItems", Holds::Schema),
    ("contains", Holds::Schema),
    ("minContains", Holds::Value),
    ("maxContains", Holds::Value),
    ("minItems", Holds::Value),
    ("maxItems", Holds::Value),
    ("uniqueItems", Holds::Value),
    ("allOf", Holds::List),
    ("anyOf", Holds::List),
    ("oneOf", Holds::List),
    ("not", Holds::Schema),
    ("if", Holds::Schema),
    ("then", Holds::Schema),
    ("else", Holds::Schema),
];

/// Keywords of JSON Schema that may not be used, and what to do instead.
const REFUSED: [(&str, &str); 12] = [
    ("$id", "leave it out: the schema stands in the definition and has no address"),
    ("$anchor", "leave it out: refer to `#/$defs/name`"),
    ("$dynamicRef", "use `$ref`"),
    ("$dynamicAnchor", "leave it out: refer to `#/$defs/name`"),
    ("$vocabulary", "leave it out"),
    ("definitions", "write `$defs`"),
    ("dependencies", "write `dependentRequired` or `dependentSchemas`"),
    ("additionalItems", "write `prefixItems` with `items`"),
    ("nullable", "write `type: [string, \"null\"]`"),
    ("contentEncoding", "leave it out: it would not be checked"),
    ("contentMediaType", "leave it out: it would not be checked"),
    ("contentSchema", "leave it out: it would not be checked"),
];

/// What stands behind a keyword, if it may be used.
pub(super) fn find(name: &str) -> Option<Holds> {
    // Notes of others, which nobody reads here.
    if name.starts_with("x-") {
        return Some(Holds::Value);
    }
    KEYWORDS.iter().find(|(known, _)| *known == name).map(|(_, holds)| *holds)
}

/// What to do instead of a keyword that may not be used.
pub(super) fn instead(name: &str) -> Option<&'static str> {
    REFUSED.iter().find(|(refused, _)| *refused == name).map(|(_, help)| *help)
}
