//! `make drill-memory`: the worst bodies from many clients at once, and the server's peak memory. The exit code says whether all is well.

use core::time::Duration;
use sagamq_tests::memory;

/// The drill takes a minute or two; on a machine that is busy, longer.
const TIME_MAX: Duration = Duration::from_secs(15 * 60);

#[tokio::main]
async fn main() {
    let Ok((report, is_good)) = tokio::time::timeout(TIME_MAX, memory::run()).await else {
        eprintln!("the drill did not end within {} minutes", TIME_MAX.as_secs() / 60);
        std::process::exit(1);
    };
    print!("{report}");
    if !is_good {
        std::process::exit(1);
    }
}
