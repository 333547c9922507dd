//! `sagamq saga retention`: how long sagas at their end are kept.

use crate::args::saga::RetentionArgs;
use crate::commands::Context;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{Output, human};
use sagamq_api::saga::{Retention, RetentionList};

pub(super) async fn retention(context: &Context, args: RetentionArgs) -> Result<Exit, CliError> {
    let sagas = context.client.sagas();
    let RetentionArgs { name, keep, count, forever, reset } = args;
    let keep_ms = keep.map(|keep| u64::try_from(keep.as_millis()).unwrap_or(u64::MAX));
    let list = match name {
        Some(name) if reset => sagas.unset_retention(&name).await?,
        name if forever || keep_ms.is_some() || count.is_some() => {
            sagas.set_retention(name.as_ref(), &Retention { keep_ms, keep_count: count }).await?
        }
        _ => sagas.retention().await?,
    };
    context.output.answer(&list, |list| table(context.output, list))?;
    Ok(Exit::Ok)
}

fn table(output: Output, list: &RetentionList) -> String {
    let row = |name: String, retention: &Retention| {
        let keep = retention.keep_ms.map_or_else(|| "for ever".to_owned(), human::duration_ms);
        [name, keep, retention.keep_count.map_or_else(|| "all".to_owned(), |count| count.to_string())]
    };
    let own = list.sagas.iter().map(|own| row(own.saga.to_string(), &own.retention));
    output.table(["SAGA", "KEEP", "COUNT"], core::iter::once(row("(all others)".to_owned(), &list.default)).chain(own))
}
