//! Whether this machine's processor has the instructions that the binary was compiled for. Without a look it would end with "illegal
//! instruction" somewhere, for example in a virtual machine whose processor is a very plain model.

use raw_cpuid::{CpuId, CpuIdReader, FeatureInfo};

/// Whether an instruction set was compiled in, its name, and whether a processor has it.
type Need = (bool, &'static str, fn(&FeatureInfo) -> bool);

/// What `.cargo/config.toml` compiles for, as far as it goes beyond what every x86-64 processor has.
const NEEDS: [Need; 6] = [
    (cfg!(target_feature = "sse3"), "SSE3", FeatureInfo::has_sse3),
    (cfg!(target_feature = "ssse3"), "SSSE3", FeatureInfo::has_ssse3),
    (cfg!(target_feature = "sse4.1"), "SSE4.1", FeatureInfo::has_sse41),
    (cfg!(target_feature = "sse4.2"), "SSE4.2", FeatureInfo::has_sse42),
    (cfg!(target_feature = "popcnt"), "POPCNT", FeatureInfo::has_popcnt),
    (cfg!(target_feature = "pclmulqdq"), "PCLMULQDQ", FeatureInfo::has_pclmulqdq),
];

/// What this machine's processor lacks, as a sentence with what to do; `None` when it lacks nothing.
#[must_use]
pub fn lacks() -> Option<String> {
    says(&missing(&CpuId::new()))
}

fn missing<R: CpuIdReader>(processor: &CpuId<R>) -> Vec<&'static str> {
    let features = processor.get_feature_info();
    let is_missing = |(is_compiled_in, _, has): &&Need| *is_compiled_in && !features.as_ref().is_some_and(has);
    NEEDS.iter().filter(is_missing).map(|(_, name, _)| *name).collect()
}

fn says(missing: &[&str]) -> Option<String> {
    (!missing.is_empty()).then(|| {
        format!(
            "this processor lacks {}, for which sagamq was compiled: use one of 2011 or later (for a virtual machine, give it the processor \
             of its host), or compile sagamq with RUSTFLAGS=\"\"",
            missing.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use raw_cpuid::CpuIdResult;

    /// A processor whose first leaf of features says `ecx`.
    fn processor(ecx: u32) -> CpuId<impl CpuIdReader> {
        CpuId::with_cpuid_reader(move |leaf: u32, _: u32| match leaf {
            // The highest leaf, and the maker's name.
            0 => CpuIdResult { eax: 1, ebx: 0x756e_6547, ecx: 0x6c65_746e, edx: 0x4965_6e69 },
            1 => CpuIdResult { eax: 0, ebx: 0, ecx, edx: 0 },
            _ => CpuIdResult { eax: 0, ebx: 0, ecx: 0, edx: 0 },
        })
    }

    #[test]
    fn a_plain_processor_lacks_what_was_compiled_in_and_is_told_so() {
        let compiled_in: Vec<&str> = NEEDS.iter().filter(|need| need.0).map(|need| need.1).collect();
        assert_eq!(missing(&processor(0)), compiled_in);
        assert_eq!(missing(&processor(u32::MAX)), Vec::<&str>::new());
        assert_eq!(
            missing(&processor(!(1 << 20))),
            NEEDS.iter().filter(|need| need.0 && need.1 == "SSE4.2").map(|_| "SSE4.2").collect::<Vec<_>>()
        );
        let said = says(&["SSE4.2", "POPCNT"]).expect("something is missing");
        assert!(said.contains("lacks SSE4.2, POPCNT, ") && said.contains("RUSTFLAGS"), "{said}");
    }

    #[test]
    fn the_processor_that_runs_this_lacks_nothing() {
        assert_eq!(lacks(), None);
    }
}
