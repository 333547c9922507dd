//! What others see of transactions that are on their way, and what they lose by it: a reader looks at orders while they run, and
//! transactions write what rests on what they read before.

use super::measure::{Cell, open};
use super::{CellError, Desk};
use crate::books;
use crate::form::Form;
use crate::load::{self, Arrival, End, Load};
use crate::service::RowKey;
use crate::site::Site;
use crate::work::{Orders, PLENTY, Work, transaction};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Where an order's effects lie: service and table.
const EFFECTS: [(&str, &str); 4] = [("orders", "order"), ("payments", "payment"), ("stock", "deduction"), ("shipping", "shipment")];

/// Products of the transactions that read and write.
const READ_PRODUCTS: usize = 4;

/// What a reader saw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// The form's name.
    pub form: String,
    /// Orders in the end done and undone.
    pub done: usize,
    /// See [`Self::done`].
    pub undone: usize,
    /// Looks at the four rows of an order, without locks.
    pub looks: usize,
    /// Looks that saw an effect of an order that came to nothing.
    pub dirty: usize,
    /// Looks that saw some effects of an order that was done and not the others.
    pub torn: usize,
}

/// What became of updates that rest on an earlier read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lost {
    /// The form's name.
    pub form: String,
    /// Transactions that were done.
    pub done: usize,
    /// Transactions that were undone.
    pub undone: usize,
    /// Of those that were done, how many left no trace in the stock.
    pub lost: i64,
}

/// Reads orders while they run, one in five of which is refused in the last step.
///
/// # Errors
/// [`CellError`], also when the books do not balance.
pub async fn seen(desk: &Desk, form: Form, span: Duration) -> Result<Seen, CellError> {
    let work = Work::Orders(Orders { failing: Some((0.2, "ship")), ..Orders::default() });
    let cell = Cell::new("anomalies", "reader", form, work, Arrival::Closed(8));
    desk.say(&cell);
    let mut site = open(desk, &cell).await?;
    let seen = read_orders(&cell, &site, span, desk.seed).await;
    seen.map_err(|error| error.of(&cell, &mut site))
}

async fn read_orders(cell: &Cell, site: &Site, span: Duration, seed: u64) -> Result<Seen, CellError> {
    let inputs = cell.work.inputs(seed);
    let given = inputs.given();
    let load = Load { arrival: cell.arrival, warm: Duration::ZERO, span, count_max: 20_000, drain: Duration::from_secs(120) };
    let client = site.client()?;
    let running = tokio::spawn(async move { load::run(&client, load, inputs).await });
    let looks = look_while(site, &running, &given).await?;
    let loaded = running.await.expect("the load does not panic")?;
    books::balance(site, &cell.work, &loaded.ended).await?;
    let ends: BTreeMap<&str, End> = loaded.ended.iter().map(|one| (one.key.as_str(), one.end)).collect();
    let (mut dirty, mut torn) = (0, 0);
    for (key, effects) in &looks {
        let there = effects.iter().filter(|&&effect| effect).count();
        match ends.get(key.as_str()) {
            Some(End::Undone) => dirty += usize::from(there > 0),
            Some(End::Done) => torn += usize::from(there > 0 && there < EFFECTS.len()),
            Some(End::Blocked) | None => {}
        }
    }
    let count = |end| loaded.ended.iter().filter(|one| one.end == end).count();
    Ok(Seen { form: cell.form.name().to_owned(), done: count(End::Done), undone: count(End::Undone), looks: looks.len(), dirty, torn })
}

/// Looks at one of the newest orders again and again: its key, and which of its effects were there.
async fn look_while<T>(site: &Site, running: &JoinHandle<T>, given: &AtomicUsize) -> Result<Vec<(String, [bool; 4])>, CellError> {
    let (mut looks, mut turn) = (Vec::new(), 0);
    while !running.is_finished() {
        let newest = given.load(Ordering::Relaxed);
        turn += 1;
        if newest == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        }
        // One of the last eight: as many are on their way.
        let key = transaction(newest.saturating_sub(1 + turn % 8));
        let mut effects = [false; 4];
        // From the last step to the first: what is seen of a later one was done after all earlier ones.
        for (number, (service, table)) in EFFECTS.into_iter().enumerate().rev() {
            let row: Option<Value> = site.ask(service, "read", &RowKey { key: format!("{table}/{key}") }).await?;
            effects[number] = row.is_some_and(|row| books::counts(&row));
        }
        looks.push((key, effects));
    }
    Ok(looks)
}

/// Transactions that read a product's stock, pay, and then write the stock by what they read.
///
/// # Errors
/// [`CellError`].
pub async fn lost(desk: &Desk, form: Form) -> Result<Lost, CellError> {
    let cell = Cell::new("anomalies", "read then write", form, Work::Reading { products: READ_PRODUCTS }, Arrival::Closed(8));
    desk.say(&cell);
    let mut site = open(desk, &cell).await?;
    let lost = async {
        let loaded = load::run(&site.client()?, desk.load(&cell), cell.work.inputs(desk.seed)).await?;
        books::balance(&site, &cell.work, &loaded.ended).await?;
        let stock = site.books("stock").await?;
        let left: i64 = stock.get("product").into_iter().flatten().filter_map(|(_, row)| row["pieces"].as_i64()).sum();
        let taken = i64::try_from(READ_PRODUCTS).expect("few") * PLENTY - left;
        let count = |end| loaded.ended.iter().filter(|one| one.end == end).count();
        let done = count(End::Done);
        let lost = i64::try_from(done).expect("few") - taken;
        Ok(Lost { form: form.name().to_owned(), done, undone: count(End::Undone), lost })
    }
    .await;
    lost.map_err(|error: CellError| error.of(&cell, &mut site))
}
