//! Which numbers of JSON a computation can hold exactly. A number that it cannot hold is never rounded: see [`Raw`](super::value::Raw).

/// A number that CEL holds as it was sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Exact {
    Int(i64),
    Uint(u64),
    Double(f64),
}

/// The number of a JSON text, if it can be held exactly.
///
/// An integer without an exponent is exact if it fits 64 bits. Any other number is exact if the shortest decimal that names its double is
/// the same number: `19.99`, `1.50` and `1e3` are, `12345678901234567890.5`, `1E400` and `1e-400` are not.
pub(crate) fn exact(text: &str) -> Option<Exact> {
    // A negative zero is a double; as an integer it would lose its sign.
    if !text.contains(['.', 'e', 'E']) && text != "-0" {
        return text.parse().map(Exact::Int).or_else(|_| text.parse().map(Exact::Uint)).ok();
    }
    let double: f64 = text.parse().ok().filter(|double: &f64| double.is_finite())?;
    let number = decimal(text)?;
    // Between two decimals that are as short and as near, printers choose differently: what either prints is the double's own name.
    let names = [format!("{double:e}"), serde_json::to_string(&double).ok()?];
    names.iter().any(|name| decimal(name).as_ref() == Some(&number)).then_some(Exact::Double(double))
}

/// Sign, digits without zeros at either end, and the power of ten of the first digit: equal for equal numbers.
fn decimal(text: &str) -> Option<(bool, String, i64)> {
    let (is_negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_start_matches('0');
    if significant.is_empty() {
        return Some((is_negative, String::new(), 0));
    }
    let exponent: i64 = exponent.parse().ok()?;
    let point = i64::try_from(whole.len()).ok()? - i64::try_from(digits.len() - significant.len()).ok()?;
    Some((is_negative, significant.trim_end_matches('0').to_owned(), exponent.checked_add(point)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ordinary_numbers_compute_and_those_beyond_are_left_alone() {
        for (text, double) in [("19.99", 19.99), ("1.50", 1.5), ("1e3", 1000.0), ("0.1", 0.1), ("-0.0", 0.0), ("-0", 0.0), ("0E999", 0.0)] {
            assert_eq!(exact(text), Some(Exact::Double(if text.starts_with('-') { -double } else { double })), "{text}");
        }
        assert_eq!(exact("1E22"), Some(Exact::Double(1e22)));
        for tie in ["1452480168903010.3", "1452480168903010.2"] {
            assert_eq!(exact(tie), Some(Exact::Double(1_452_480_168_903_010.3)), "{tie}");
        }
        assert_eq!(exact("5e-324"), Some(Exact::Double(5e-324)));
        assert_eq!((exact("-7"), exact("18446744073709551615")), (Some(Exact::Int(-7)), Some(Exact::Uint(u64::MAX))));
        for text in [
            "18446744073709551616",
            "-9223372036854775809",
            "12345678901234567890.5",
            "0.1000000000000000000001",
            "1E400",
            "1e-400",
            "1e99999999999999999999",
            "1e-99999999999999999999",
            "9007199254740993.0",
        ] {
            assert_eq!(exact(text), None, "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_a_double_prints_is_exact(double: f64) {
            prop_assume!(double.is_finite());
            for text in [format!("{double:e}"), serde_json::to_string(&double).expect("JSON")] {
                prop_assert_eq!(exact(&text).map(|exact| format!("{exact:?}")), Some(format!("{:?}", Exact::Double(double))));
            }
        }

        #[test]
        fn cents_are_exact(cents in 0_u64..100_000_000_000) {
            let text = format!("{}.{:02}", cents / 100, cents % 100);
            prop_assert!(exact(&text).is_some(), "{}", text);
        }
    }
}
