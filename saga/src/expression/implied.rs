//! What is there when a condition holds, because it asks for it: `has(steps.a.output) && …`.

/// Chains of fields that are there, each with its variable in front.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Implied(pub(super) Vec<Vec<String>>);

impl Implied {
    /// How many fields of the path on the variable are there for sure, from the first on.
    pub(crate) fn known(&self, variable: &str, path: &[String]) -> usize {
        let fields = self.0.iter().filter_map(|chain| chain.split_first().filter(|(root, _)| *root == variable).map(|(_, fields)| fields));
        fields.map(|fields| fields.iter().zip(path).take_while(|(known, field)| known == field).count()).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use crate::expression::Template;

    fn condition(text: &str) -> Template {
        Template::text(&format!("${{ {text} }}")).expect("an expression")
    }

    #[test]
    fn what_a_condition_asks_for_is_there_when_it_holds() {
        let path = ["a", "output", "id"].map(str::to_owned);
        for (text, known) in [
            ("has(steps.a.output)", 2),
            ("input.b && has(steps.a.output.id)", 3),
            ("!(!has(steps.a.output) || input.b)", 2),
            ("steps.a.?output.hasValue()", 2),
            ("has(steps.a)", 1),
            ("has(steps.b.output)", 0),
            ("has(steps.a.output) || input.b", 0),
            ("!has(steps.a.output)", 0),
        ] {
            assert_eq!(condition(text).implied().known("steps", &path), known, "{text}");
        }
    }
}
