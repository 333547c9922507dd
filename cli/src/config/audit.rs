//! Settings of the audit log.

use super::within;
use sagamq_server::run::AuditSettings;
use std::time::Duration;

/// Sets one of them.
pub(super) fn set(audit: &mut AuditSettings, key: &str, text: &str) -> Result<(), String> {
    match key {
        "audit" => {
            audit.is_kept = match text {
                "on" => Some(true),
                "off" => Some(false),
                _ => return Err("expected on or off".to_owned()),
            };
        }
        "audit_retention" => {
            let range = Duration::from_secs(3_600)..=Duration::from_secs(10 * 366 * 86_400);
            audit.retention = within(text, range, "expected a duration from 1h to 10 years")?;
        }
        "audit_refusals_per_minute" => {
            let expected = "expected a number from 0 (none) to 10000";
            audit.refusals_per_minute = text.parse().ok().filter(|refusals| *refusals <= 10_000).ok_or(expected)?;
        }
        other => return Err(format!("`{other}` is no setting")),
    }
    Ok(())
}
