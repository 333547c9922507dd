//! Whether two JSON texts say the same: the order of fields, spaces and escapes do not count, the text of a number does.

use super::value::{read_fields, read_items};

/// Whether two well-formed texts say the same. Objects with a repeated field are the same only as bytes.
pub(crate) fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.trim(), b.trim());
    if a == b {
        return true;
    }
    match (a.as_bytes().first(), b.as_bytes().first()) {
        (Some(b'{'), Some(b'{')) => {
            let (Some(mut a), Some(mut b)) = (read_fields(a), read_fields(b)) else { return false };
            a.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
            b.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
            a.len() == b.len() && a.iter().zip(&b).all(|((a, one), (b, other))| a == b && same(one.get(), other.get()))
        }
        (Some(b'['), Some(b'[')) => {
            let (a, b) = (read_items(a), read_items(b));
            a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| same(a.get(), b.get()))
        }
        (Some(b'"'), Some(b'"')) => {
            serde_json::from_str::<String>(a).is_ok_and(|a| serde_json::from_str::<String>(b).is_ok_and(|b| a == b))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_spaces_do_not_count_and_numbers_do() {
        assert!(same(r#"{"a":1,"b":[1, {"x":"\u0041"}]}"#, r#" { "b" : [1,{"x":"A"}], "a":1 }"#));
        for (a, b) in [
            ("1", "1.0"),
            ("100000000000000000001", "100000000000000000002"),
            ("[1,2]", "[2,1]"),
            ("[1]", "[1,1]"),
            (r#"{"a":1}"#, r#"{"a":1,"b":1}"#),
            (r#"{"a":1}"#, r#"{"b":1}"#),
            (r#"{"a":1,"a":2}"#, r#"{"a":2,"a":1}"#),
            (r#""a""#, r#""b""#),
            ("null", "false"),
            ("{}", "[]"),
        ] {
            assert!(!same(a, b), "{a} and {b}");
        }
        assert!(same(r#"{"a":1,"a":2}"#, r#"{"a":1,"a":2}"#), "the same bytes say the same");
    }
}
