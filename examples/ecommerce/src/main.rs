//! `sagamq-shop`: the services of the example and the payment provider, each a process of its own, and the demo and drills that run
//! them.

use clap::{Parser, Subcommand};
use sagamq_example_ecommerce::orders::{self, OrderArgs};
use sagamq_example_ecommerce::payments::{self, PaymentArgs};
use sagamq_example_ecommerce::provider::{self, ProviderArgs};
use sagamq_example_ecommerce::service::ServiceArgs;
use sagamq_example_ecommerce::trial::atomic::{self, AtomicArgs};
use sagamq_example_ecommerce::trial::backup::{self, BackupArgs};
use sagamq_example_ecommerce::trial::broker_kills::{self, BrokerKillsArgs};
use sagamq_example_ecommerce::trial::demo::{self, DemoArgs};
use sagamq_example_ecommerce::trial::doubt::{self, DoubtArgs};
use sagamq_example_ecommerce::trial::followers::{self, FollowersArgs};
use sagamq_example_ecommerce::trial::styles::{self, StylesArgs};
use sagamq_example_ecommerce::{inventory, loyalty, notifications, shipping, status, telemetry};
use std::error::Error;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// A shop of services that sell things together: by a saga, by events alone, or in transactions
#[derive(Debug, Parser)]
#[command(name = "sagamq-shop", version, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take orders over HTTP, keep the order book, tell others what became of an order
    Order(OrderArgs),
    /// Take money through the payment provider
    Payment(PaymentArgs),
    /// Count stock: on hand, reserved, sold
    Inventory(ServiceArgs),
    /// Reserve and send parcels; called over HTTP, not through a topic
    Shipping(ServiceArgs),
    /// Give customers points for completed orders; called by nobody, reacts to events
    Loyalty(ServiceArgs),
    /// Write to customers when an order is at its end; called by nobody, reacts to events
    Notifications(ServiceArgs),
    /// Say how far each order is; called by none of the others, made of events alone
    Status(ServiceArgs),
    /// Another company's payment provider, whose answers go astray as they are told to
    Provider(ProviderArgs),
    /// Run broker and services, put thousands of orders through them, kill some on the way, and audit the books
    Demo(DemoArgs),
    /// Lose the provider's answers in every kind of step, under kills of everybody, and audit the books
    DrillDoubt(DoubtArgs),
    /// Kill the broker again and again while orders go through, and audit the books
    DrillKills(BrokerKillsArgs),
    /// Restore the broker from an old copy under newer services, send all orders again, and audit the books
    DrillBackup(BackupArgs),
    /// Have services that only listen away, then slow, while orders go through; they must catch up, and no order wait for them
    DrillFollowers(FollowersArgs),
    /// Measure the four styles beside each other, and count what a fraud check changes in each
    Styles(StylesArgs),
    /// Kill coordinator and participants of two-phase commit at every point, and check each transaction and the books
    #[command(name = "drill-2pc")]
    DrillTwoPhase(AtomicArgs),
}

#[tokio::main]
async fn main() -> ExitCode {
    let command = Cli::parse().command;
    // A trial tells its story itself: what the client repeats while the broker is dead is no news.
    let is_trial = matches!(
        command,
        Command::Demo(_)
            | Command::DrillDoubt(_)
            | Command::DrillKills(_)
            | Command::DrillBackup(_)
            | Command::DrillFollowers(_)
            | Command::DrillTwoPhase(_)
            | Command::Styles(_)
    );
    let level = if is_trial { "off" } else { "info" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    // Colours only where somebody looks; the demo keeps the services' logs in files.
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
    // A trial runs others, which export by themselves.
    let telemetry = match if is_trial { Ok(None) } else { telemetry::begin(service(&command)) } {
        Ok(telemetry) => telemetry,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    let result: Result<(), Box<dyn Error>> = match command {
        Command::Order(args) => orders::run(&args).await.map_err(Into::into),
        Command::Payment(args) => payments::run(&args).await.map_err(Into::into),
        Command::Inventory(args) => inventory::run(&args).await.map_err(Into::into),
        Command::Shipping(args) => shipping::run(&args).await.map_err(Into::into),
        Command::Loyalty(args) => loyalty::run(&args).await.map_err(Into::into),
        Command::Notifications(args) => notifications::run(&args).await.map_err(Into::into),
        Command::Status(args) => status::run(&args).await.map_err(Into::into),
        Command::Provider(args) => provider::run(&args).await.map_err(Into::into),
        Command::Demo(args) => demo::run(args).await.map_err(Into::into),
        Command::DrillDoubt(args) => doubt::run(args).await.map_err(Into::into),
        Command::DrillKills(args) => broker_kills::run(args).await.map_err(Into::into),
        Command::DrillBackup(args) => backup::run(args).await.map_err(Into::into),
        Command::DrillFollowers(args) => followers::run(args).await.map_err(Into::into),
        Command::Styles(args) => styles::run(args).await.map_err(Into::into),
        Command::DrillTwoPhase(args) => atomic::run(args).await.map_err(Into::into),
    };
    if let Some(telemetry) = telemetry {
        telemetry.shutdown().await;
    }
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What traces call a process of this kind.
const fn service(command: &Command) -> &'static str {
    match command {
        Command::Order(_) => "shop-order",
        Command::Payment(_) => "shop-payment",
        Command::Inventory(_) => "shop-inventory",
        Command::Shipping(_) => "shop-shipping",
        Command::Loyalty(_) => "shop-loyalty",
        Command::Notifications(_) => "shop-notifications",
        Command::Status(_) => "shop-status",
        Command::Provider(_) => "shop-provider",
        Command::Demo(_)
        | Command::DrillDoubt(_)
        | Command::DrillKills(_)
        | Command::DrillBackup(_)
        | Command::DrillFollowers(_)
        | Command::Styles(_)
        | Command::DrillTwoPhase(_) => "shop",
    }
}
