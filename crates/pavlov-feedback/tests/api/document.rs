use std::path::Path;

use super::setup::{Place, plain};

/// `docs/openapi.json` is what is served. `UPDATE=1` as an argument cannot be, so: write what this test prints.
#[test]
fn the_document_is_the_one_in_docs() {
    let place = Place::new(plain());
    let served = place.call(None, "GET", "/openapi.json", None).text;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    if kept != served {
        let fresh = path.with_extension("json.new");
        std::fs::write(&fresh, &served).unwrap();
        panic!("docs/openapi.json is not what is served; look at docs/openapi.json.new and rename it");
    }
    let document: serde_json::Value = serde_json::from_str(&served).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
}
