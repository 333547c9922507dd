//! What stays in the log of members when it is trimmed.

use super::*;
use crate::log::memory::{Flavour, MemoryLog};
use crate::node::tests::ManualUptime;
use futures_util::FutureExt as _;
use sagamq_broker::env::SystemClock;
use uuid::Uuid;

const OF: Identity = Identity { cluster: Uuid::from_u128(1), shards: 1 };
const HEARTBEAT: Duration = Duration::from_secs(1);

fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("a log without delays answers at once")
}

fn process(node: &str, boot: u128) -> Process {
    Process { node: node.to_owned(), boot: Uuid::from_u128(boot), url: String::new() }
}

fn roll(log: &MemoryLog, clock: &ManualUptime) -> Roll {
    now(Roll::read(Arc::new(log.clone()), Arc::new(clock.clone()), Arc::new(SystemClock))).expect("memory")
}

fn say(roll: &mut Roll, by: &Process, says: Says) {
    now(roll.catch_up()).expect("memory");
    now(roll.say(OF, by, says)).expect("nobody else is there");
}

#[test]
fn what_was_said_a_moment_ago_stays_however_much_is_trimmed() {
    let (log, clock) = (MemoryLog::new(Flavour::Conditional), ManualUptime::default());
    let (one, other) = (process("one", 1), process("other", 2));
    let (mut active, mut standby) = (roll(&log, &clock), roll(&log, &clock));
    say(&mut active, &one, Says::Claims { term: 1, read: 0, lease_ms: 5_000 });
    let heartbeat = |active: &mut Roll| {
        say(active, &one, Says::Active { term: 1, lease_ms: 5_000, written: vec![1] });
        if let Some((upto, trim)) = active.trim(HEARTBEAT) {
            now(trim).expect("memory");
            active.is_trimmed(upto);
        }
    };
    let mut trims = 0;
    for second in 0..1_000 {
        clock.set(HEARTBEAT * second);
        say(&mut standby, &other, Says::Standby { folded: vec![1] });
        // Somebody says it in the moment before each one.
        if second % 7 == 0 {
            say(&mut roll(&log, &clock), &process("operator", 9), Says::Drains { boot: Uuid::from_u128(u128::from(second)) });
        }
        let before = now(log.bounds(LogName::Members)).expect("memory").trimmed;
        heartbeat(&mut active);
        trims += u32::from(now(log.bounds(LogName::Members)).expect("memory").trimmed > before);
        // Who begins to read now sees everybody who lives.
        if second % 20 == 0 {
            let seen = roll(&log, &clock);
            assert!(seen.members().nodes().contains_key("other"), "after {second} s: {:?}", seen.members());
        }
        now(standby.catch_up()).expect("memory");
        let drained = second / 7 * 7;
        assert!(standby.members().drains(Uuid::from_u128(u128::from(drained))).is_some(), "after {second} s");
    }
    assert!(trims >= 3, "trimmed {trims} times");
    let kept = log.entries(LogName::Members).len() as u64;
    assert!(kept < TRIM_ENTRIES + 3 * u64::from(KEPT_HEARTBEATS), "{kept} are kept");
}
