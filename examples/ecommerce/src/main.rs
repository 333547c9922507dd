//! `sagamq-shop`: the four services of the example, each a process of its own, and the demo that runs them.

use clap::{Parser, Subcommand};
use sagamq_example_ecommerce::demo::{self, DemoArgs};
use sagamq_example_ecommerce::service::ServiceArgs;
use sagamq_example_ecommerce::{inventory, orders, payments, shipping};
use std::error::Error;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// A shop of four services that sell things together, tied by one saga
#[derive(Debug, Parser)]
#[command(name = "sagamq-shop", version, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take orders over HTTP and keep the order book
    Order(ServiceArgs),
    /// Authorise and capture money on cards
    Payment(ServiceArgs),
    /// Count stock: on hand, reserved, sold
    Inventory(ServiceArgs),
    /// Reserve and send parcels; called over HTTP, not through a topic
    Shipping(ServiceArgs),
    /// Run broker and services, put thousands of orders through them, kill some on the way, and check the books
    Demo(DemoArgs),
}

#[tokio::main]
async fn main() -> ExitCode {
    let command = Cli::parse().command;
    // The demo tells its story itself: what the client repeats while the broker is dead is no news.
    let level = if matches!(command, Command::Demo(_)) { "off" } else { "info" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    // Colours only where somebody looks; the demo keeps the services' logs in files.
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
    let result: Result<(), Box<dyn Error>> = match command {
        Command::Order(args) => orders::run(&args).await.map_err(Into::into),
        Command::Payment(args) => payments::run(&args).await.map_err(Into::into),
        Command::Inventory(args) => inventory::run(&args).await.map_err(Into::into),
        Command::Shipping(args) => shipping::run(&args).await.map_err(Into::into),
        Command::Demo(args) => demo::run(args).await.map_err(Into::into),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
