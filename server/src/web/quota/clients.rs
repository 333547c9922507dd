//! [`Clients`]: what each client may still take.

use super::bucket::Bucket;
use super::client::ClientId;
use super::limits::QuotaLimits;
use core::time::Duration;
use std::collections::HashMap;

/// Most clients that are told apart; those beyond share one quota. As many more have shown a key or a token.
pub(super) const CLIENTS_MAX: usize = 10_000;

/// How often it is looked at the most which clients can be forgotten, in milliseconds.
const SWEEP_INTERVAL_MS: u64 = 1_000;

/// Who pays for a request, and what he may have.
#[derive(Clone, Debug)]
pub(super) struct Payer {
    pub(super) id: ClientId,
    pub(super) limits: QuotaLimits,
}

/// Those that are not as good as new.
#[derive(Debug, Default)]
pub(super) struct Clients {
    by_id: HashMap<ClientId, Client>,
    swept_ms: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Client {
    limits: QuotaLimits,
    requests: Bucket,
    bytes: Bucket,
}

impl Client {
    fn full(limits: QuotaLimits, now_ms: u64) -> Self {
        let QuotaLimits { requests_per_second, bytes_per_second } = limits;
        Self { limits, requests: Bucket::full(requests_per_second, now_ms), bytes: Bucket::full(bytes_per_second, now_ms) }
    }

    fn fill(&mut self, now_ms: u64) {
        self.requests.fill(self.limits.requests_per_second, now_ms);
        self.bytes.fill(self.limits.bytes_per_second, now_ms);
    }

    fn is_full(&self) -> bool {
        self.requests.is_full(self.limits.requests_per_second) && self.bytes.is_full(self.limits.bytes_per_second)
    }

    /// The bound that keeps him from more for the longest, with what it is and how many milliseconds that takes; `None`: there is more.
    pub(super) fn wait(&self) -> Option<(&'static str, u64, u64)> {
        let bounds = [("requests", self.limits.requests_per_second, &self.requests), ("bytes", self.limits.bytes_per_second, &self.bytes)];
        let bounds = bounds.into_iter().filter(|(_, per_second, _)| *per_second > 0);
        let waits = bounds.map(|(bound, per_second, bucket)| (bound, per_second, bucket.wait_ms(per_second)));
        waits.filter(|(_, _, wait_ms)| *wait_ms > 0).max_by_key(|(_, _, wait_ms)| *wait_ms)
    }

    /// Takes so much. Of what has no bound nothing is counted: it would be a debt on the day when it has one, and nobody who has one is forgotten.
    pub(super) fn take(&mut self, requests: u64, bytes: u64) {
        if self.limits.requests_per_second > 0 {
            self.requests.take(requests);
        }
        if self.limits.bytes_per_second > 0 {
            self.bytes.take(bytes);
        }
    }

    /// How long it is until more bytes may be taken.
    pub(super) fn bytes_wait(&self) -> Duration {
        let per_second = self.limits.bytes_per_second;
        Duration::from_millis(if per_second > 0 { self.bytes.wait_ms(per_second) } else { 0 })
    }
}

impl Clients {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Who begins a request, as he is now, and how he is called. From here on he has what his key says now, also on streams that began before.
    pub(super) fn begins(&mut self, payer: Payer, servers: QuotaLimits, now_ms: u64) -> (&mut Client, String) {
        let Payer { id, limits } = self.told_apart(payer, servers, now_ms);
        let name = id.to_string();
        let client = self.of(Payer { id, limits }, now_ms);
        client.limits = limits;
        client.fill(now_ms);
        (client, name)
    }

    /// Who goes on with a request that has begun.
    pub(super) fn goes_on(&mut self, payer: Payer, servers: QuotaLimits, now_ms: u64) -> &mut Client {
        let payer = self.told_apart(payer, servers, now_ms);
        let client = self.of(payer, now_ms);
        client.fill(now_ms);
        client
    }

    /// The same, if there is room to tell him apart. Those beyond have together what the server gives to one.
    fn told_apart(&mut self, payer: Payer, servers: QuotaLimits, now_ms: u64) -> Payer {
        // Those who have shown who they are have as many places of their own, which nobody else takes.
        let is_known = matches!(payer.id, ClientId::Known(_)) && self.by_id.len() < 2 * CLIENTS_MAX;
        let is_told_apart = self.by_id.contains_key(&payer.id) || self.has_room(now_ms) || is_known;
        if is_told_apart { payer } else { Payer { id: ClientId::Others, limits: servers } }
    }

    fn of(&mut self, Payer { id, limits }: Payer, now_ms: u64) -> &mut Client {
        self.by_id.entry(id).or_insert_with(|| Client::full(limits, now_ms))
    }

    /// Whether one more can be told apart. Those that have not used anything of late are forgotten: a new one is as good.
    fn has_room(&mut self, now_ms: u64) -> bool {
        if self.by_id.len() >= CLIENTS_MAX && now_ms.saturating_sub(self.swept_ms) >= SWEEP_INTERVAL_MS {
            self.swept_ms = now_ms;
            self.by_id.retain(|_, client| {
                client.fill(now_ms);
                !client.is_full()
            });
        }
        self.by_id.len() < CLIENTS_MAX
    }
}
