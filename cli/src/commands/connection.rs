//! The client of a server, as the global options and the profile describe it.

use crate::args::connection::{ConnectionArgs, Secret};
use crate::bench::access::Access;
use crate::error::CliError;
use sagamq_sdk::{ClientBuilder, Profile};
use std::path::Path;

/// Where a server is if nothing says so.
const LOCAL: &str = "http://127.0.0.1:7070";

/// A client with the key or the token and the certificates that were given.
pub(super) fn client(args: &ConnectionArgs) -> Result<ClientBuilder, CliError> {
    Ok(access(args)?.builder())
}

/// The address with the key or the token and the certificates that were given, else those of the profile. An empty text, as an empty environment
/// variable gives, is none.
pub(super) fn access(args: &ConnectionArgs) -> Result<Access, CliError> {
    let profile = Profile::load(args.profile.as_deref())?;
    let has_secret = profile.api_key.is_some() || profile.client_cert.is_some();
    let profile = profile.for_server(args.server.as_deref());
    if has_secret && profile.api_key.is_none() && profile.client_cert.is_none() {
        tracing::info!(
            server = profile.server.as_deref(),
            "the key and the certificate of the profile are for another server, and are not used"
        );
    }
    let given = |secret: &Option<Secret>| secret.as_ref().filter(|secret| !secret.0.is_empty()).map(|secret| secret.0.clone());
    let token = match (given(&args.token), given(&args.api_key)) {
        (Some(_), Some(_)) => {
            let both = "--token and --api-key are both given, and both go into the header `authorization`: leave one out";
            return Err(CliError::Usage(both.to_owned()));
        }
        (token, key) => token.or(key).or(profile.api_key),
    };
    let file = |given: &Option<String>, of_profile| given.as_ref().filter(|path| !path.is_empty()).map(Into::into).or(of_profile);
    let authorities = read("the certificate authorities", file(&args.ca_file, profile.ca_file).as_deref())?;
    let certificate = read("the client certificate", file(&args.client_cert, profile.client_cert).as_deref())?;
    let key = read("the key of the client certificate", file(&args.client_key, profile.client_key).as_deref())?;
    let identity = match (certificate, key) {
        (Some(certificate), Some(key)) => Some([certificate, b"\n".to_vec(), key].concat()),
        (certificate, None) => certificate,
        (None, Some(_)) => return Err(CliError::Usage("--client-key needs --client-cert: a key alone says nothing".to_owned())),
    };
    let url = profile.server.unwrap_or_else(|| LOCAL.to_owned());
    Ok(Access { url, token, authorities, identity })
}

fn read(what: &str, path: Option<&Path>) -> Result<Option<Vec<u8>>, CliError> {
    let Some(path) = path else { return Ok(None) };
    std::fs::read(path).map(Some).map_err(|error| CliError::Usage(format!("cannot read {what} in {}: {error}", path.display())))
}
