//! [`GuardedResolver`]: asks where a name leads, and leaves out what must not be called. It is asked for each connection, so what was found
//! when a name was checked counts for nothing.

use super::reach::{Denied, Reach};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::net::SocketAddr;
use std::sync::Arc;

/// A resolver that leaves out what must not be called.
pub(crate) struct GuardedResolver {
    reach: Arc<Reach>,
    /// Names of proxies: an operator set them, and where they are is not a participant's address.
    proxies: Vec<String>,
    /// Who knows where names lead.
    asked: Arc<dyn Resolve>,
}

/// The system's resolver.
struct System;

impl Resolve for System {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            // The port is that of the URL; it is put in by whoever asks.
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let found: Vec<SocketAddr> = found.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

impl GuardedResolver {
    /// The system's resolver, guarded.
    pub(crate) fn system(reach: Arc<Reach>, proxies: Vec<String>) -> Self {
        Self { reach, proxies, asked: Arc::new(System) }
    }

    /// A resolver of a test's own, guarded.
    #[cfg(test)]
    pub(crate) fn asking(reach: Arc<Reach>, asked: Arc<dyn Resolve>) -> Self {
        Self { reach, proxies: Vec::new(), asked }
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let text = name.as_str().to_owned();
        let found = self.asked.resolve(name);
        if self.proxies.contains(&text) {
            return found;
        }
        let reach = Arc::clone(&self.reach);
        Box::pin(async move {
            let (mut allowed, mut denied) = (Vec::new(), None::<Denied>);
            for address in found.await? {
                match reach.judge_found(&text, address.ip()) {
                    Ok(()) => allowed.push(address),
                    Err(reason) => denied = Some(reason),
                }
            }
            match denied {
                Some(reason) if allowed.is_empty() => Err(reason.into()),
                _ => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}
