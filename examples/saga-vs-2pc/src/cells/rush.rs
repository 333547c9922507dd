//! The rush: customers with one credit each buy the same few pieces at once. In the end there are 0 pieces and as many credits, no more.

use super::measure::{Cell, open};
use super::{CellError, Desk};
use crate::books;
use crate::form::Form;
use crate::load::{self, Arrival, End, Load};
use crate::site::Site;
use crate::work::{Orders, Work};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Rounds of trying again at the most.
const ROUNDS: usize = 50;

/// Pause between two looks at who has paid.
const LOOK: Duration = Duration::from_millis(20);

/// The rush: customers with one credit each buy pieces at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rush {
    /// The form's name.
    pub form: String,
    /// Customers, and pieces.
    pub customers: usize,
    /// See [`Self::customers`].
    pub pieces: i64,
    /// Pieces that are left in the end.
    pub left: i64,
    /// Credits that the shop has in the end.
    pub credits: i64,
    /// Orders that were sent: a customer whose order came to nothing because of others tries again.
    pub orders: usize,
    /// Orders that came to nothing although pieces were there.
    pub turned_away: usize,
    /// From the first order until nothing was left to do, in seconds.
    pub seconds: f64,
    /// Most customers beyond the pieces who were seen to have paid at one time.
    pub oversold_most: i64,
    /// For how long there were any, in milliseconds.
    pub oversold_ms: f64,
}

/// Lets `customers` buy `pieces` at once, until all pieces are sold.
///
/// # Errors
/// [`CellError`], also when there are not 0 pieces and as many credits in the end.
pub async fn rush(desk: &Desk, form: Form, customers: usize, pieces: i64) -> Result<Rush, CellError> {
    let orders = Orders { products: 1, customers, credit: 1, pieces, in_turn: true, ..Orders::default() };
    let cell = Cell::new("rush", format!("{customers} buy {pieces}"), form, Work::Orders(orders), Arrival::Once(customers));
    desk.say(&cell);
    let site = Arc::new(open(desk, &cell).await?);
    sell(&cell, &site, customers, pieces, desk.seed).await.map_err(|error| error.named(&cell))
}

async fn sell(cell: &Cell, site: &Arc<Site>, customers: usize, pieces: i64, seed: u64) -> Result<Rush, CellError> {
    let client = site.client()?;
    let (reader, stop) = (Arc::clone(site), Arc::new(AtomicBool::new(false)));
    let stopped = Arc::clone(&stop);
    let watching = tokio::spawn(async move { oversold(&reader, pieces, &stopped).await });
    let (mut all, mut again) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let count = if round == 0 { customers } else { again.len() };
        let inputs = cell.work.inputs(seed).again(std::mem::take(&mut again), all.len());
        let load = Load {
            arrival: Arrival::Once(count),
            warm: Duration::ZERO,
            span: Duration::ZERO,
            count_max: customers,
            drain: Duration::from_secs(180),
        };
        let loaded = load::run(&client, load, inputs).await?;
        // Who was turned away by others and not for want of pieces tries again.
        let unlucky = loaded.ended.iter().filter(|one| one.end == End::Undone && one.reason.as_deref() != Some("SOLD_OUT"));
        again.extend(unlucky.map(|one| one.input.clone()));
        all.extend(loaded.ended);
        if again.is_empty() {
            break;
        }
    }
    stop.store(true, Ordering::Relaxed);
    let (oversold_most, oversold_ms) = watching.await.expect("the reader does not panic")?;
    books::balance(site, &cell.work, &all).await?;
    let left: i64 = site.books("stock").await?.get("product").into_iter().flatten().filter_map(|(_, row)| row["pieces"].as_i64()).sum();
    let credits = all.iter().filter(|one| one.end == End::Done).count();
    if left != 0 || i64::try_from(credits).ok() != Some(pieces) {
        return Err(CellError::NotSeen(format!("{left} pieces are left and {credits} credits were taken, not 0 and {pieces}")));
    }
    let (first, last) = (all.iter().map(|one| one.due_us).min(), all.iter().map(|one| one.finished_us).max());
    let turned_away = all.iter().filter(|one| one.end == End::Undone && one.reason.as_deref() != Some("SOLD_OUT")).count();
    Ok(Rush {
        form: cell.form.name().to_owned(),
        customers,
        pieces,
        left,
        credits: pieces,
        orders: all.len(),
        turned_away,
        seconds: last.unwrap_or(0).saturating_sub(first.unwrap_or(0)) as f64 / 1e6,
        oversold_most,
        oversold_ms,
    })
}

/// Looks at the payments until it is told to stop: how many more customers than there are pieces have paid at the most, and for how long
/// there were any.
async fn oversold(site: &Site, pieces: i64, stop: &AtomicBool) -> Result<(i64, f64), CellError> {
    let (mut most, mut since, mut total) = (0, None::<Instant>, Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        let payments = site.books("payments").await?;
        let paid = payments.get("payment").into_iter().flatten().filter(|(_, row)| books::counts(row)).count();
        let beyond = i64::try_from(paid).unwrap_or(i64::MAX) - pieces;
        most = most.max(beyond);
        if beyond > 0 {
            since.get_or_insert_with(Instant::now);
        } else if let Some(began) = since.take() {
            total += began.elapsed();
        }
        tokio::time::sleep(LOOK).await;
    }
    total += since.map_or(Duration::ZERO, |began| began.elapsed());
    Ok((most, total.as_secs_f64() * 1_000.0))
}
