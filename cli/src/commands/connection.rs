//! The client of a server, as the global options describe it.

use crate::args::connection::ConnectionArgs;
use crate::error::CliError;
use sagamq_sdk::{Client, ClientBuilder};

/// A client with the token and the certificates that were given. An empty text, as an empty environment variable gives, is none.
pub(super) fn client(args: &ConnectionArgs) -> Result<ClientBuilder, CliError> {
    let mut builder = Client::builder(&args.server);
    if let Some(token) = args.token.as_ref().filter(|token| !token.0.is_empty()) {
        builder = builder.bearer_token(&token.0);
    }
    if let Some(pem) = read("the certificate authorities", args.ca_file.as_deref())? {
        builder = builder.ca_certificates(pem);
    }
    let certificate = read("the client certificate", args.client_cert.as_deref())?;
    let key = read("the key of the client certificate", args.client_key.as_deref())?;
    match (certificate, key) {
        (Some(certificate), Some(key)) => builder = builder.client_certificate([certificate, b"\n".to_vec(), key].concat()),
        (Some(certificate), None) => builder = builder.client_certificate(certificate),
        (None, Some(_)) => return Err(CliError::Usage("--client-key needs --client-cert: a key alone says nothing".to_owned())),
        (None, None) => {}
    }
    Ok(builder)
}

fn read(what: &str, path: Option<&str>) -> Result<Option<Vec<u8>>, CliError> {
    let Some(path) = path.filter(|path| !path.is_empty()) else { return Ok(None) };
    std::fs::read(path).map(Some).map_err(|error| CliError::Usage(format!("cannot read {what} in {path}: {error}")))
}
