//! Requests as JSON.

use super::{Place, Values, of};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

/// The member of a record that holds the value; behind a stamp, what closes it.
pub(super) fn member(value: &[u8], values: Values, is_stamped: bool) -> String {
    match values {
        Values::Random if !is_stamped => format!(r#""value_base64":"{}""#, STANDARD.encode(value)),
        _ => {
            let text = std::str::from_utf8(value).expect("these values are text");
            let quoted = serde_json::to_string(text).expect("text is JSON");
            if is_stamped { quoted[1..].to_owned() } else { format!(r#""value":{quoted}"#) }
        }
    }
}

pub(super) fn body(places: impl Iterator<Item = Place>, members: &[String], stamp: Option<&str>) -> Bytes {
    let mut body = String::with_capacity(places.size_hint().0 * (members[0].len() + 64) + 16);
    body.push_str(r#"{"records":["#);
    for (index, Place { number, key }) in places.enumerate() {
        body.push_str(if index > 0 { ",{" } else { "{" });
        if let Some(stamp) = stamp {
            body.push_str(r#""value":""#);
            body.push_str(stamp);
        }
        body.push_str(of::<String>(members, number));
        if let Some(key) = key {
            body.push_str(r#","key":""#);
            body.push_str(&key);
            body.push('"');
        }
        body.push('}');
    }
    body.push_str("]}");
    body.into()
}
