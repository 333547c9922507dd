//! The backup drill: the broker is restored from an old copy, under participants and a provider that are newer than it.
//!
//! The restored broker has forgotten that most orders were ever placed, and believes that others are half done. Customers send their
//! orders again, and the restored sagas run on. Everything they ask for was done before: instance ids come from the business key, so
//! each call has the key that it had, and every participant gives the answer that it gave.

use super::audit::{Audit, by_order};
use super::books::{self, Books};
use super::kills::{How, Strike};
use super::occurred::Occurrence;
use super::plan::{ORDERS_MIN, Plan, Trouble};
use super::site::{BROKER, Site};
use super::traffic::Outcome;
use super::{TrialArgs, TrialError, occurred, report, run};
use sagamq_api::saga::SagaState;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;
use uuid::Uuid;

const TROUBLE: Trouble = Trouble { doubts_each: 1, doubt_share: 0.05 };

/// The copy is made when so many percent of the orders have ended.
const BACKUP_AT_PERCENT: usize = 40;

/// Options of the backup drill.
#[derive(Clone, Debug, clap::Args)]
pub struct BackupArgs {
    /// Orders to draw
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(ORDERS_MIN..=1_000_000))]
    pub orders: u64,
    /// Those that demo and drills share.
    #[command(flatten)]
    pub trial: TrialArgs,
}

/// Runs the drill. All processes are gone when this returns.
///
/// # Errors
/// [`TrialError`]; [`TrialError::Failed`] when anything was charged, sold or sent a second time.
pub async fn run(args: BackupArgs) -> Result<(), TrialError> {
    let plan = Plan::draw(args.trial.site.seed, args.orders, TROUBLE);
    println!(
        "\
SagaMQ backup drill: {} orders (seed {})

  When {BACKUP_AT_PERCENT} % of the orders have ended, the broker is stopped and its data directory is copied; then the shop goes on. When
  all orders have ended, the broker is killed and the old copy is put in its place. The services and the payment provider keep
  what they have. Every customer sends his order again, and the sagas of the copy run on. Nothing may be charged twice.
",
        plan.orders.len(),
        args.trial.site.seed,
    );
    run::trial(&args.trial.site, args.trial.lose_replies, &plan, async |site| {
        run::open(&site, &plan).await?;
        println!("FIRST LIFE");
        let strike = Strike { who: BROKER, at_percent: BACKUP_AT_PERCENT, down: Duration::ZERO, how: How::Kill };
        let first = run::traffic_with(&args.trial, &site, &plan, &[strike], async || backup(&site).await).await?;
        let (before, audit) = run::close(&site, &plan, &first.outcome).await?;
        println!("{}", report::report(&first, &before, plan.mode));
        run::verdict(&audit, &[])?;

        println!("SECOND LIFE: the broker comes back from its copy");
        restore(&site).await?;
        let restored = books::all_sagas(&site, plan.mode).await?;
        // Whoever cancelled an order in the first life does not say so again: the order book knows it.
        let again = Plan { cancelled: BTreeSet::new(), ..plan.clone() };
        let mut second = run::traffic(&args.trial, &site, &again, &[]).await?;
        println!("{}", report::report(&second, &Books::collect(&site, plan.mode).await?, plan.mode));
        let blocked = look_at_blocked(&first.outcome, &mut second.outcome);
        println!("BLOCKED, and left as the first life had completed them: {blocked}\n");
        let (after, mut audit) = run::close(&site, &plan, &second.outcome).await?;
        same_as_before(&mut audit, &first.outcome, &before, &second.outcome, &after);
        let known: BTreeSet<_> = restored.iter().map(|saga| saga.id).collect();
        let forgotten = before.sagas.iter().filter(|saga| !known.contains(&saga.id)).count();
        let under_way = restored.iter().filter(|saga| !saga.state.is_final()).count();
        let occurrence = |what: &str, times: usize| Occurrence { what: what.to_owned(), times: times as u64 };
        let must_occur = [
            occurrence("sagas that the copy had forgotten", forgotten),
            occurrence("sagas that were under way in the copy", under_way),
            occurred::repeated(&after),
        ];
        run::verdict(&audit, &must_occur)
    })
    .await
}

/// A saga that was under way in the copy may be past its timeout when it comes back, and begin to undo an order that was paid and sent
/// meanwhile. The services do not let it: it is `BLOCKED`, and the order must be what the first life made of it. Returns how many.
fn look_at_blocked(first: &Outcome, second: &mut Outcome) -> usize {
    let completed = |id: &str| first.ended.iter().any(|it| it.order.order_id == id && it.is_completed());
    let blocked = second
        .ended
        .iter_mut()
        .filter(|it| it.saga().is_some_and(|saga| saga.state == SagaState::Blocked) && completed(&it.order.order_id));
    blocked.map(|it| it.stands = Some(SagaState::Completed)).count()
}

/// The second life changed nothing of what the first one had finished: each order has the saga that it had, and no card was asked for
/// money again.
fn same_as_before(audit: &mut Audit, first: &Outcome, before: &Books, second: &Outcome, after: &Books) {
    let ids: BTreeMap<&str, Uuid> = first.ended.iter().filter_map(|it| Some((it.order.order_id.as_str(), it.saga()?.id))).collect();
    for it in &second.ended {
        let id = it.order.order_id.as_str();
        audit.same("ids of both lives", id, it.saga().map(|saga| saga.id), ids.get(id).copied());
    }
    let (charges_before, charges_after) = (by_order(before), by_order(after));
    for ended in first.ended.iter().filter(|ended| ended.is_completed()) {
        let id = ended.order.order_id.as_str();
        audit.same("charges of both lives", id, charges_after.get(id), charges_before.get(id));
    }
}

/// Copies the broker's data while it is stopped.
async fn backup(site: &Site) -> Result<(), TrialError> {
    let (data, copy) = (site.data(BROKER), site.data("backup"));
    tokio::task::spawn_blocking(move || copy_directory(&data, &copy)).await??;
    Ok(())
}

/// Kills the broker and starts it on the copy.
async fn restore(site: &Site) -> Result<(), TrialError> {
    site.kill(BROKER).await?;
    let (data, copy, newer) = (site.data(BROKER), site.data("backup"), site.data("newer"));
    tokio::task::spawn_blocking(move || {
        std::fs::rename(&data, &newer)?;
        copy_directory(&copy, &data)
    })
    .await??;
    site.restart(BROKER).await?;
    Ok(())
}

fn copy_directory(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_directory(&entry.path(), &to)?;
        } else {
            std::fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}
