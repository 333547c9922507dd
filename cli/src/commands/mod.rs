//! What the commands do. Each file has the name of its argument file in `args/`.

mod audit;
mod bench;
mod cluster;
mod completions;
mod conformance;
mod connection;
mod consume;
mod demo;
mod dlq;
mod group;
mod group_stream;
mod health;
mod json;
mod key;
mod man;
mod produce;
mod saga;
mod schedule;
mod serve;
mod service;
mod topic;
mod tx;

use crate::args::key::KeyCommand;
use crate::args::{Cli, Command, GlobalArgs};
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::Output;
use sagamq_sdk::{Client, RetryPolicy};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// Runs a command to its end.
pub(crate) fn run(cli: Cli) -> Result<Exit, CliError> {
    let output = Output::new(cli.global.output);
    match cli.command {
        Command::Serve(args) => serve::run(&args, output),
        Command::Demo(args) => demo::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
        Command::Conformance(args) => conformance::run(*args, output),
        Command::Cluster(command) => cluster::run(command, output),
        Command::Bench(command) => bench::run(&cli.global, &command),
        Command::Health => with_client(&cli.global, async |context| health::run(context).await),
        Command::Topic(command) => with_client(&cli.global, async |context| topic::run(context, command).await),
        Command::Produce(args) => with_client(&cli.global, async |context| produce::run(context, args).await),
        Command::Schedule(command) => with_client(&cli.global, async |context| schedule::run(context, command).await),
        Command::Consume(args) => with_client(&cli.global, async |context| consume::run(context, args).await),
        Command::Group(command) => with_client(&cli.global, async |context| group::run(context, command).await),
        Command::Dlq(command) => with_client(&cli.global, async |context| dlq::run(context, command).await),
        Command::Service(command) => with_client(&cli.global, async |context| service::run(context, command).await),
        Command::Key(KeyCommand::Init(args)) => key::init(&args, output),
        Command::Key(command) => with_client(&cli.global, async |context| key::run(context, command).await),
        Command::Audit(args) => with_client(&cli.global, async |context| audit::run(context, args).await),
        Command::Tx(command) => with_client(&cli.global, async |context| tx::run(context, command).await),
        Command::Saga(command) => match saga::offline(command, output)? {
            saga::Next::Done(exit) => Ok(exit),
            saga::Next::Ask(command) => with_client(&cli.global, async |context| saga::run(context, command).await),
        },
    }
}

/// What a command of the client works with.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// The server.
    pub(crate) client: Client,
    /// Where the answer goes.
    pub(crate) output: Output,
}

/// Runs a command of the client on a small runtime.
fn with_client(global: &GlobalArgs, command: impl AsyncFnOnce(Context) -> Result<Exit, CliError>) -> Result<Exit, CliError> {
    if global.verbose {
        crate::serve::log::to_stderr_for_a_client();
    }
    let client = connection::client(&global.connection)?.retry(retry_policy(global.retry_for)).build()?;
    let context = Context { client, output: Output::new(global.output) };
    let runtime = runtime(Builder::new_current_thread())?;
    let result = runtime.block_on(command(context));
    // A read of stdin that nobody waits for any more must not hold the process.
    runtime.shutdown_background();
    result
}

fn runtime(mut builder: Builder) -> Result<Runtime, CliError> {
    builder.enable_all().build().map_err(|error| CliError::Io { what: "cannot start the runtime".to_owned(), error })
}

/// Repeats for so long, however often that is.
fn retry_policy(at_most: Duration) -> RetryPolicy {
    if at_most.is_zero() {
        return RetryPolicy::none();
    }
    RetryPolicy { attempts: u32::MAX, max: Duration::from_secs(2), deadline: at_most, ..RetryPolicy::default() }
}
