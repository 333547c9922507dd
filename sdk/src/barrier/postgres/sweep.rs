//! Deleting old rows of the barrier on PostgreSQL, and knowing afterwards that they were deleted.

use super::PostgresBarrier;
use super::rows::{Place, PostgresBarrierError};
use tokio_postgres::Client;

/// Rows that one statement looks at: its locks are held for a moment only.
const PAGE_ROWS: i64 = 1_000;

impl PostgresBarrier {
    /// Deletes what was recorded before this time (milliseconds since 1970; at the latest now) and returns how many rows that were.
    /// Actions in doubt stay, and so do rows that a call holds just now.
    ///
    /// That rows were swept is itself recorded, before the first one is deleted. From then on a call of a saga **that started before
    /// this time** and finds no row is an unknown outcome with [`SWEPT`](crate::barrier::SWEPT): no effect happens twice and no
    /// compensation is an empty success, but somebody has to look at the saga and to [`resolve`](Self::resolve) it. So keep rows for longer
    /// than a saga of yours may live, the time that a blocked one waits for its repair included, and for longer than the oldest backup of
    /// the broker that you would restore.
    ///
    /// The client must not be in a transaction: the watermark has to be committed before the first row is deleted.
    ///
    /// # Errors
    /// [`PostgresBarrierError`] when the database fails; rows before it are deleted.
    pub async fn sweep(&self, client: &mut Client, before_ms: u64) -> Result<u64, PostgresBarrierError> {
        let before_ms = i64::try_from(before_ms.min((self.clock)())).unwrap_or(i64::MAX);
        self.rows.raise_watermark(client, before_ms).await?;
        let (mut swept, mut behind) = (0, Place::begin());
        while let Some(end) = self.rows.page_end(client, &behind, PAGE_ROWS).await? {
            swept += self.rows.sweep_page(client, &behind, &end, before_ms).await?;
            behind = end;
        }
        Ok(swept)
    }
}
