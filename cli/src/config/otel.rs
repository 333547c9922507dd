//! The variables of OpenTelemetry, under the names that its specification gives them. Some are settings as well: `otel_service_name` is
//! `OTEL_SERVICE_NAME`.

use core::fmt;
use sagamq_telemetry::{Faults, Settings};
use std::collections::BTreeMap;

/// Variables with their texts. Some are secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Variables(BTreeMap<String, String>);

/// Whether a setting is a variable of OpenTelemetry.
pub(super) fn is_key(key: &str) -> bool {
    key.starts_with("otel_")
}

impl Variables {
    /// Whether a variable of this name is one of them.
    pub(super) fn are(name: &str) -> bool {
        Settings::VARIABLES.contains(&name)
    }

    /// Those of an environment. An empty one is as if it were not there.
    pub(super) fn of<'a>(environment: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        let those = environment.into_iter().filter(|(name, text)| Self::are(name) && !text.trim().is_empty());
        Self(those.map(|(name, text)| (name.clone(), text.clone())).collect())
    }

    /// Whether the variable of this setting is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.0.contains_key(&key.to_ascii_uppercase())
    }

    /// Gives the variable of a setting this text.
    pub(super) fn set(&mut self, key: &str, text: &str) -> Result<(), String> {
        let name = key.to_ascii_uppercase();
        if let Err(Faults(faults)) = Settings::read(|asked| (asked == name).then(|| text.to_owned())) {
            let told = faults.first().map_or("", String::as_str);
            return Err(told.split_once(": ").map_or(told, |(_, reason)| reason).to_owned());
        }
        self.0.insert(name, text.to_owned());
        Ok(())
    }

    /// Takes those of the environment that no setting has set.
    pub(super) fn fill(&mut self, environment: Self) {
        for (name, text) in environment.0 {
            self.0.entry(name).or_insert(text);
        }
    }

    /// What they say together.
    pub(super) fn read(&self) -> Result<Option<Settings>, Vec<String>> {
        Settings::read(|name| self.0.get(name).cloned()).map_err(|Faults(faults)| faults)
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_variables_say_does_not_show() {
        let environment = [("OTEL_EXPORTER_OTLP_HEADERS".to_owned(), "authorization=s3cret".to_owned())];
        let variables = Variables::of(environment.iter().map(|(name, text)| (name, text)));
        assert_eq!(format!("{variables:?}"), r#"{"OTEL_EXPORTER_OTLP_HEADERS"}"#);
    }
}
