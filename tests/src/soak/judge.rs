//! Whether a long run was one that could go on for ever: nothing grows after the first third, and nobody waited for long.

use super::sample::Sample;

/// Of the run, this part is for the server to reach its steady state.
const SETTLING: f64 = 1.0 / 3.0;

/// Growth from the end of the first third to the end of the run that is allowed, as a part of the middle value.
const GROWTH_OF_MIDDLE: f64 = 0.10;

/// Growth of memory that is allowed in any case, in MiB: what an allocator keeps.
const MEMORY_MIB: f64 = 32.0;

/// Growth of the data directory that is allowed in any case, in MiB: a sorted file and a log more or less.
const DISK_MIB: f64 = 128.0;

/// Growth of a group's lag that is allowed, in seconds of the load.
const LAG_SECONDS: f64 = 1.0;

/// Longest that a request may take from when it was due.
const STALL_MS: f64 = 1_000.0;

/// Fewer samples after the first third say nothing about a slope.
const SAMPLES_MIN: usize = 12;

/// What was looked at, and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// What was looked at.
    pub what: &'static str,
    /// Whether it is as it must be.
    pub ok: bool,
    /// The figures.
    pub says: String,
}

/// Judges a run by its samples. The slope is that of Theil and Sen, the median of the slopes between all pairs: a sawtooth, as compaction and
/// retention draw it, has none, and single outliers do not count.
#[must_use]
pub fn judge(samples: &[Sample]) -> Vec<Verdict> {
    let end = samples.last().map_or(0.0, |sample| sample.at_seconds);
    let steady: Vec<&Sample> = samples.iter().filter(|sample| sample.at_seconds >= end * SETTLING).collect();
    if steady.len() < SAMPLES_MIN {
        let says = format!("{} samples after the first third, {SAMPLES_MIN} are needed", steady.len());
        return vec![Verdict { what: "length", ok: false, says }];
    }
    let rate = median(steady.iter().map(|sample| sample.records_per_second).collect());
    let of = |pick: fn(&Sample) -> f64| steady.iter().map(|sample| (sample.at_seconds, pick(sample))).collect::<Vec<_>>();
    let growth = |what, unit: &str, pick: fn(&Sample) -> f64, least: f64| {
        let values = of(pick);
        let middle = median(values.iter().map(|value| value.1).collect());
        let span = end - steady[0].at_seconds;
        let (grew, allowed) = (slope(&values) * span, (middle * GROWTH_OF_MIDDLE).max(least));
        let says = format!("{grew:+.0} {unit} in {span:.0} s around {middle:.0} {unit}; {allowed:.0} allowed");
        Verdict { what, ok: grew <= allowed, says }
    };
    let worst = samples.iter().map(|sample| sample.max_ms).fold(0.0, f64::max);
    let errors: u64 = samples.iter().map(|sample| sample.errors).sum();
    vec![
        growth("memory", "MiB", |sample| sample.memory_mib, MEMORY_MIB),
        growth("data directory", "MiB", |sample| sample.disk_mib, DISK_MIB),
        growth("lag of the queue group", "records", |sample| sample.group_lag, rate * LAG_SECONDS),
        growth("lag of the stream group", "records", |sample| sample.stream_lag, rate * LAG_SECONDS),
        Verdict { what: "stalls", ok: worst <= STALL_MS, says: format!("the longest produce took {worst:.0} ms; {STALL_MS:.0} allowed") },
        Verdict { what: "errors", ok: errors == 0, says: format!("{errors} requests failed; 0 allowed") },
    ]
}

/// The slope of Theil and Sen; 0 of fewer than two points.
fn slope(points: &[(f64, f64)]) -> f64 {
    let pairs = points.iter().enumerate().flat_map(|(index, &(x, y))| {
        points[index + 1..].iter().filter(move |later| later.0 > x).map(move |later| (later.1 - y) / (later.0 - x))
    });
    median(pairs.collect())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Half an hour, a sample each 5 s, with a sawtooth on memory and disk as compaction draws it.
    fn planted(change: impl Fn(&mut Sample)) -> Vec<Sample> {
        let sample = |number: u32| {
            let tooth = f64::from(number % 17);
            let mut sample = Sample {
                at_seconds: f64::from(number) * 5.0,
                memory_mib: 250.0 + tooth * 2.0,
                cache_mib: 100.0,
                buffers_mib: 40.0,
                records_mib: 60.0,
                disk_mib: 1_500.0 + tooth * 60.0,
                records_per_second: 50_000.0,
                p99_ms: 8.0,
                max_ms: 90.0 + tooth,
                group_lag: 2_000.0 + tooth * 500.0,
                stream_lag: 3_000.0,
                sagas_per_second: 20.0,
                errors: 0,
            };
            change(&mut sample);
            sample
        };
        (1..=360).map(sample).collect()
    }

    fn wrong(change: impl Fn(&mut Sample)) -> Vec<&'static str> {
        judge(&planted(change)).into_iter().filter(|verdict| !verdict.ok).map(|verdict| verdict.what).collect()
    }

    #[test]
    fn a_sawtooth_is_fine_and_so_is_growth_in_the_first_third() {
        assert_eq!(wrong(|_| {}), Vec::<&str>::new());
        assert_eq!(wrong(|sample| sample.memory_mib += (sample.at_seconds - 600.0).min(0.0) * 0.3), Vec::<&str>::new());
        assert_eq!(wrong(|sample| sample.disk_mib -= sample.at_seconds * 0.5), Vec::<&str>::new(), "less is not more");
    }

    #[test]
    fn what_grows_is_found() {
        assert_eq!(wrong(|sample| sample.memory_mib += sample.at_seconds * 0.04), ["memory"], "48 MiB in twenty minutes");
        assert_eq!(wrong(|sample| sample.disk_mib += sample.at_seconds * 0.25), ["data directory"]);
        assert_eq!(wrong(|sample| sample.group_lag += sample.at_seconds * 100.0), ["lag of the queue group"]);
        assert_eq!(wrong(|sample| sample.stream_lag += sample.at_seconds * 100.0), ["lag of the stream group"]);
        let late = |sample: &mut Sample| sample.memory_mib += (sample.at_seconds - 900.0).max(0.0) * 0.2;
        assert_eq!(wrong(late), ["memory"], "growth that begins in the middle");
    }

    #[test]
    fn one_stall_and_one_error_are_found_wherever_they_are() {
        for at in [5.0, 1_000.0, 1_800.0] {
            assert_eq!(wrong(|sample| sample.max_ms = if sample.at_seconds == at { 1_001.0 } else { 50.0 }), ["stalls"], "{at}");
            assert_eq!(wrong(|sample| sample.errors = u64::from(sample.at_seconds == at)), ["errors"], "{at}");
        }
        assert_eq!(wrong(|sample| sample.max_ms = 1_000.0), Vec::<&str>::new());
    }

    #[test]
    fn single_outliers_are_no_slope() {
        assert_eq!(wrong(|sample| sample.memory_mib += if sample.at_seconds > 1_780.0 { 500.0 } else { 0.0 }), Vec::<&str>::new());
    }

    #[test]
    fn a_run_that_is_too_short_is_not_passed() {
        let samples = planted(|_| {});
        assert!(!judge(&samples[..15])[0].ok && !judge(&[])[0].ok);
        assert_eq!(judge(&samples[..20]).len(), 6);
    }
}
