//! One factor at a time around the base: orders in four steps, 1,000 products that are asked for alike, four services near by, nobody
//! refuses.

use super::Scale;
use super::measure::Cell;
use crate::form::{Form, Mode, Shape};
use crate::load::Arrival;
use crate::work::{Orders, PRODUCTS, Work};
use std::time::Duration;

/// Clients of a closed load.
const CLIENTS: usize = 16;

/// Clients of Snapper's grid.
const SNAPPER_CLIENTS: usize = 32;

/// The forms that every factor compares.
#[must_use]
pub fn forms() -> Vec<Form> {
    vec![Form::LIST_SAGA, Form::PARALLEL_SAGA, Form::LIST_2PC, Form::PARALLEL_2PC]
}

/// Every cell of a scale that needs nothing but a load.
#[must_use]
pub fn all(scale: Scale) -> Vec<Cell> {
    let mut cells = Vec::new();
    let both = [Arrival::Open(scale.rate), Arrival::Closed(CLIENTS)];
    let (open, closed) = ([Arrival::Open(scale.rate)], [Arrival::Closed(CLIENTS)]);
    orders(&mut cells, "base", "base", &both, |_| {});
    orders(&mut cells, "contention", "hot", if scale.ends_only { &closed } else { &both }, |orders| orders.products = 1);
    for exponent in some(scale, &[0.0, 0.9, 1.0, 1.25, 1.5]) {
        orders(&mut cells, "contention", &format!("Zipf {exponent}"), &closed, |orders| orders.exponent = exponent);
    }
    for banks in some(scale, &[2, 4, 8]) {
        for (form, arrival) in pairs(&open) {
            cells.push(Cell::new("participants", banks.to_string(), form, Work::Transfers { banks, exponent: 0.0 }, arrival));
        }
    }
    for exponent in some(scale, &[0.0, 0.9, 1.0, 1.25, 1.5]) {
        for (form, arrival) in pairs(&[Arrival::Closed(SNAPPER_CLIENTS)]) {
            cells.push(Cell::new("snapper", format!("Zipf {exponent}"), form, Work::Transfers { banks: 4, exponent }, arrival));
        }
    }
    for millis in some(scale, &[0, 1, 10]) {
        for (form, arrival) in pairs(&open) {
            let mut cell = Cell::new("round trip", format!("{millis} ms"), form, Work::Orders(Orders::default()), arrival);
            for place in &mut cell.places {
                place.round_trip = Some(Duration::from_millis(millis));
            }
            cells.push(cell);
        }
    }
    for (shape, mode) in
        [Shape::List, Shape::Diamond, Shape::Parallel].into_iter().flat_map(|shape| [Mode::Saga, Mode::TwoPhase].map(|mode| (shape, mode)))
    {
        let form = Form { mode, shape };
        let mut cell = Cell::new("unequal", "1, 5, 20, 80 ms", form, Work::Orders(Orders::default()), Arrival::Closed(1));
        for (place, millis) in cell.places.iter_mut().zip([1, 5, 20, 80]) {
            place.round_trip = Some(Duration::from_millis(millis));
        }
        cells.push(cell);
    }
    for share in some(scale, &[0.0, 0.05, 0.2]) {
        orders(&mut cells, "refusals", &format!("{:.0}%", share * 100.0), &closed, |orders| orders.failing = Some((share, "ship")));
    }
    for step in some(scale, &["create", "pay", "deduct", "ship"]) {
        orders(&mut cells, "refused at", step, &[Arrival::Closed(1)], |orders| orders.failing = Some((1.0, step)));
    }
    for (name, products) in some(scale, &[("1,000 products", PRODUCTS), ("hot", 1)]) {
        for millis in some(scale, &[10, 100, 1_000]) {
            orders(&mut cells, "duration", &format!("{millis} ms, {name}"), &closed, |orders| {
                orders.products = products;
                orders.waiting = Some(("ship", Duration::from_millis(millis)));
            });
        }
    }
    cells
}

/// Orders whose last step takes as long as somebody who is asked for his consent: four of them for one hot product, all forms at the same
/// time, since they mostly wait.
#[must_use]
pub fn long() -> Vec<Vec<Cell>> {
    let of = |seconds| {
        let cell = |form| {
            let waiting = Some(("ship", Duration::from_secs(seconds)));
            let work = Work::Orders(Orders { products: 1, waiting, ..Orders::default() });
            Cell::new("long duration", format!("{seconds} s, hot"), form, work, Arrival::Once(4))
        };
        forms().into_iter().map(cell).collect()
    };
    vec![of(10), of(60)]
}

/// The smallest grid that goes through everything.
#[must_use]
pub fn smoke(scale: Scale) -> Vec<Cell> {
    let mut cells = Vec::new();
    orders(&mut cells, "refusals", "20%", &[Arrival::Closed(4)], |orders| orders.failing = Some((0.2, "ship")));
    for (form, arrival) in pairs(&[Arrival::Open(scale.rate)]) {
        cells.push(Cell::new("participants", "2", form, Work::Transfers { banks: 2, exponent: 1.0 }, arrival));
    }
    cells
}

fn orders(cells: &mut Vec<Cell>, factor: &'static str, value: &str, arrivals: &[Arrival], change: impl Fn(&mut Orders)) {
    for (form, arrival) in pairs(arrivals) {
        let mut orders = Orders::default();
        change(&mut orders);
        cells.push(Cell::new(factor, value, form, Work::Orders(orders), arrival));
    }
}

fn pairs(arrivals: &[Arrival]) -> Vec<(Form, Arrival)> {
    forms().into_iter().flat_map(|form| arrivals.iter().map(move |&arrival| (form, arrival))).collect()
}

/// All values, or the last, which is the farthest from the base.
fn some<T: Copy>(scale: Scale, values: &[T]) -> Vec<T> {
    match values {
        [.., last] if scale.ends_only => vec![*last],
        _ => values.to_vec(),
    }
}
