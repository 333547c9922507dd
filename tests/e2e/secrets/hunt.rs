//! Looks for secrets in all that a system said and left: as they are, in hexadecimal digits, and in base64 wherever in it they begin.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use memchr::memmem::Finder;
use std::path::Path;

/// What must not be found: a name, and every form of the bytes.
pub(super) struct Secret {
    name: &'static str,
    forms: Vec<(&'static str, Finder<'static>)>,
}

/// The characters of base64 that are the same whatever stands before and behind, for each place at which the bytes may begin.
fn in_base64(bytes: &[u8], engine: &impl base64::Engine) -> Vec<String> {
    let shifted = |shift: usize| {
        let text = engine.encode([&vec![0; shift][..], bytes].concat());
        let (from, to) = ((8 * shift).div_ceil(6), 8 * (shift + bytes.len()) / 6);
        text[from..to].to_owned()
    };
    (0..3).map(shifted).collect()
}

impl Secret {
    /// # Panics
    /// When it is so short that it may stand anywhere by chance.
    pub(super) fn new(name: &'static str, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        assert!(bytes.len() >= 12, "{name} is too short to be looked for");
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut forms =
            vec![("as it is", bytes.to_vec()), ("in hex", hex.clone().into_bytes()), ("in HEX", hex.to_uppercase().into_bytes())];
        for text in in_base64(bytes, &STANDARD_NO_PAD).into_iter().chain(in_base64(bytes, &URL_SAFE_NO_PAD)) {
            forms.push(("in base64", text.into_bytes()));
        }
        // As Rust shows bytes.
        let shown = format!("{bytes:?}");
        forms.push(("as numbers", shown.as_bytes()[1..shown.len() - 1].to_vec()));
        Self { name, forms: forms.into_iter().map(|(form, bytes)| (form, Finder::new(&bytes).into_owned())).collect() }
    }

    /// As what a file or an answer holds.
    fn found_in<'f>(&'f self, hay: &'f [u8]) -> impl Iterator<Item = String> + 'f {
        let found = self.forms.iter().filter(|(_, form)| form.find(hay).is_some());
        found.map(|(form, _)| format!("{} {form}", self.name))
    }
}

/// What was said and left, by where it was.
#[derive(Default)]
pub(super) struct Heard(Vec<(String, Vec<u8>)>);

impl Heard {
    pub(super) fn hear(&mut self, place: impl Into<String>, said: impl Into<Vec<u8>>) {
        self.0.push((place.into(), said.into()));
    }

    /// Every file below a folder, save one.
    pub(super) fn hear_files(&mut self, folder: &Path, save: Option<&Path>) {
        for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() {
                self.hear_files(&entry, save);
            } else if Some(entry.as_path()) != save {
                self.hear(entry.display().to_string(), std::fs::read(&entry).expect("ours"));
            }
        }
    }

    /// Where any of these stands.
    pub(super) fn found(&self, secrets: &[Secret]) -> Vec<String> {
        let look = |(place, said): &(String, Vec<u8>)| {
            let found = secrets.iter().flat_map(|secret| secret.found_in(said)).map(|what| format!("{what} in {place}"));
            found.collect::<Vec<_>>()
        };
        self.0.iter().flat_map(look).collect()
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(|(_, said)| said.len()).sum()
    }
}

#[test]
fn a_secret_is_found_in_whichever_form_it_stands() {
    let secret = [Secret::new("planted", b"planted-s3cr3t-\x01\xfe")];
    let bytes = b"planted-s3cr3t-\x01\xfe";
    let hex: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    let mut forms = vec![bytes.to_vec(), hex.clone().into_bytes(), hex.to_lowercase().into_bytes(), format!("{bytes:?}").into_bytes()];
    for before in ["", "a", "ab", "abc", "user:"] {
        for behind in ["", "x", "yz"] {
            let text = [before.as_bytes(), bytes, behind.as_bytes()].concat();
            forms.push(base64::engine::general_purpose::STANDARD.encode(&text).into_bytes());
            forms.push(base64::engine::general_purpose::URL_SAFE.encode(&text).into_bytes());
        }
    }
    for form in forms {
        let mut heard = Heard::default();
        heard.hear("here", [b"before ", form.as_slice(), b" behind"].concat());
        assert!(!heard.found(&secret).is_empty(), "{}", String::from_utf8_lossy(&form));
    }
    let mut heard = Heard::default();
    heard.hear("here", "planted-s3cr3t and nothing else");
    assert_eq!(heard.found(&secret), Vec::<String>::new());
}
