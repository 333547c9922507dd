//! `sagamq health`: whether the server takes reads and writes, as an exit code. Made for health checks of containers.

use super::Context;
use crate::error::CliError;
use crate::exit::Exit;
use serde_json::json;

pub(crate) async fn run(context: Context) -> Result<Exit, CliError> {
    let Context { client, output } = context;
    client.ready().await?;
    output.answer(&json!({ "ready": true }), |_| format!("{} takes reads and writes", client.url()))?;
    Ok(Exit::Ok)
}
