//! The client of a server, as the global options describe it.

use crate::args::connection::ConnectionArgs;
use crate::bench::access::Access;
use crate::error::CliError;
use sagamq_sdk::ClientBuilder;

/// A client with the token and the certificates that were given.
pub(super) fn client(args: &ConnectionArgs) -> Result<ClientBuilder, CliError> {
    Ok(access(args)?.builder())
}

/// The address with the token and the certificates that were given. An empty text, as an empty environment variable gives, is none.
pub(super) fn access(args: &ConnectionArgs) -> Result<Access, CliError> {
    let authorities = read("the certificate authorities", args.ca_file.as_deref())?;
    let certificate = read("the client certificate", args.client_cert.as_deref())?;
    let key = read("the key of the client certificate", args.client_key.as_deref())?;
    let identity = match (certificate, key) {
        (Some(certificate), Some(key)) => Some([certificate, b"\n".to_vec(), key].concat()),
        (certificate, None) => certificate,
        (None, Some(_)) => return Err(CliError::Usage("--client-key needs --client-cert: a key alone says nothing".to_owned())),
    };
    let token = args.token.as_ref().filter(|token| !token.0.is_empty()).map(|token| token.0.clone());
    Ok(Access { url: args.server.clone(), token, authorities, identity })
}

fn read(what: &str, path: Option<&str>) -> Result<Option<Vec<u8>>, CliError> {
    let Some(path) = path.filter(|path| !path.is_empty()) else { return Ok(None) };
    std::fs::read(path).map(Some).map_err(|error| CliError::Usage(format!("cannot read {what} in {path}: {error}")))
}
