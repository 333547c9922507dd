//! One style, measured: alone, as busy as asked for, and with a slow service.

use super::StylesArgs;
use super::counted::{Counted, Each, requests_to_find};
use crate::mode::Mode;
use crate::trial::TrialError;
use crate::trial::plan::Plan;
use crate::trial::run::{self, Ran};
use crate::trial::site::Site;
use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

/// Orders that are sold first and not measured.
const WARM_UP: usize = 20;

/// How many of the orders are sold one at a time, as a part of all.
const ALONE_PART: usize = 5;

/// How many of the orders meet the slow service, as a part of all.
const SLOW_PART: usize = 2;

/// How fast orders ended.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Speed {
    pub(super) half: Duration,
    pub(super) most: Duration,
    /// Orders that were done.
    pub(super) a_second: f64,
    /// How many of all were not, in percent: in transactions, those that waited for a lock for too long.
    pub(super) undone_percent: f64,
}

/// What a style costs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Figures {
    /// One order at a time.
    pub(super) alone: Speed,
    /// What each of these took.
    pub(super) each: Each,
    /// Many at a time.
    pub(super) busy: Speed,
    /// The same with a slow service.
    pub(super) slow: Speed,
    /// Requests to find out where an order is.
    pub(super) asked: usize,
}

/// Measures one style on two shops of its own: one in which all is well, and one with a slow service.
pub(super) async fn measure(args: &StylesArgs, mode: Mode) -> Result<Figures, TrialError> {
    let plan = Plan::plain(args.site.seed, args.orders).in_mode(mode);
    let figures = RefCell::new(Figures::default());
    run::trial(&args.site, 0.0, &plan, async |site| {
        run::open(&site, &plan).await?;
        let (warm_up, rest) = split(&plan, WARM_UP);
        let (alone, busy) = split(&rest, rest.orders.len() / ALONE_PART);
        sell(args, &site, &warm_up, 1).await?;
        let before = Counted::look(&site).await?;
        let measured = sell(args, &site, &alone, 1).await?;
        let each = Counted::look(&site).await?.since(&before, alone.orders.len());
        let busy = sell(args, &site, &busy, args.in_flight).await?;
        let asked = requests_to_find(&site, mode, &plan.orders[0].order_id).await?;
        *figures.borrow_mut() = Figures { alone: measured, each, busy, asked, ..Figures::default() };
        Ok(())
    })
    .await?;
    let (few, _) = split(&plan, plan.orders.len() / SLOW_PART);
    let slow = Plan { slow_shipping_ms: args.slow_ms, ..few };
    run::trial(&args.site, 0.0, &slow, async |site| {
        run::open(&site, &slow).await?;
        figures.borrow_mut().slow = sell(args, &site, &slow, args.in_flight).await?;
        Ok(())
    })
    .await?;
    Ok(figures.into_inner())
}

/// The first so many orders, and the others.
fn split(plan: &Plan, first: usize) -> (Plan, Plan) {
    let (mut some, mut others) = (plan.clone(), plan.clone());
    others.orders = some.orders.split_off(first);
    (some, others)
}

/// Sells orders that nobody has a reason to refuse.
async fn sell(args: &StylesArgs, site: &Arc<Site>, plan: &Plan, in_flight: u64) -> Result<Speed, TrialError> {
    let Ran { outcome, took, .. } = run::traffic(&args.traffic(in_flight), site, plan, &[]).await?;
    let undone: Vec<_> = outcome.ended.iter().filter(|ended| !ended.is_completed()).collect();
    if let Some(lost) = undone.first().filter(|_| plan.mode != Mode::TwoPhase) {
        let why = lost.why().unwrap_or_default();
        return Err(TrialError::WrongAnswer(format!("the good order `{}` is {}: {why}", lost.order.order_id, lost.state())));
    }
    #[expect(clippy::cast_precision_loss, reason = "rates for people")]
    let (all, undone) = (outcome.ended.len() as f64, undone.len() as f64);
    Ok(Speed {
        half: outcome.within(50),
        most: outcome.within(99),
        a_second: (all - undone) / took.as_secs_f64().max(0.001),
        undone_percent: undone * 100.0 / all.max(1.0),
    })
}
