//! `sagamq consume`: by place, or as a member of a queue group.

mod group;
mod partitions;
mod printer;

use super::Context;
use crate::args::Format;
use crate::args::consume::ConsumeArgs;
use crate::error::CliError;
use crate::exit::Exit;
use printer::Printer;

pub(crate) async fn run(context: Context, args: ConsumeArgs) -> Result<Exit, CliError> {
    if args.value_only && context.output.format == Format::Json {
        return Err(CliError::Usage("--value-only and --output json cannot both be given".to_owned()));
    }
    let mut printer = Printer::new(context.output, args.value_only, args.max);
    let work = async {
        match &args.group {
            Some(group) => group::consume(&context, &args, group, &mut printer).await,
            None => partitions::consume(&context, &args, &mut printer).await,
        }
    };
    // Ctrl-C is how a reader that follows ends; records of a group that were not acknowledged yet are delivered again.
    tokio::select! {
        result = work => result.map(|()| Exit::Ok),
        _ = tokio::signal::ctrl_c() => Ok(Exit::Ok),
    }
}
