//! `sagamq consume`: by place, or as a member of a queue group or a stream group.

mod group;
mod partitions;
mod printer;
mod sink;
mod stream;

use super::Context;
use crate::args::Format;
use crate::args::consume::ConsumeArgs;
use crate::error::CliError;
use crate::exit::Exit;
use crate::serve::signals::Signals;
use printer::Printer;
use tokio_util::sync::CancellationToken;

pub(crate) async fn run(context: Context, args: ConsumeArgs) -> Result<Exit, CliError> {
    if args.value_only && context.output.format == Format::Json {
        return Err(CliError::Usage("--value-only and --output json cannot both be given".to_owned()));
    }
    let mut printer = Printer::new(context.output, args.value_only, args.max);
    // Ctrl-C is how a reader that follows ends. A member of a group gives back what it has first; a second signal does not wait for that.
    let stop = CancellationToken::new();
    let signals = Signals::take_over().map_err(|error| CliError::Io { what: "cannot take over signals".to_owned(), error })?;
    tokio::spawn(signals.watch(stop.clone()));
    let result = match (&args.group, &args.stream_group) {
        (Some(group), _) => group::consume(&context, &args, group, &mut printer, &stop).await,
        (None, Some(group)) => stream::consume(&context, &args, group, &mut printer, &stop).await,
        (None, None) => tokio::select! {
            result = partitions::consume(&context, &args, &mut printer) => result,
            () = stop.cancelled() => Ok(()),
        },
    };
    result.map(|()| Exit::Ok)
}
