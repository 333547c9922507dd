//! The decision, whole: each role with each operation, and what patterns reach.

use super::*;
use std::collections::BTreeSet;

fn rights(grants: &[&str]) -> Rights {
    Rights::new(grants.iter().map(|grant| grant.parse().unwrap_or_else(|error| panic!("{grant}: {error}"))).collect())
}

/// What a request to the operation is about, if all names in its path are this one, and the handler has found out what it could not know before.
fn about<'a>(operation: &Operation, name: &'a str) -> Resource<'a> {
    let part = |from: Place| match from {
        Place::Nowhere => Part::None,
        Place::Path(_) | Place::Query(_) | Place::Later | Place::Seen => Part::Named(name),
        Place::Whichever => Part::Some,
        Place::Every => Part::All,
    };
    Resource { topic: part(operation.topic), group: part(operation.group), saga: part(operation.saga) }
}

fn needs(operation: &Operation, role: Role) -> bool {
    match operation.need {
        Need::Nothing | Need::AnyRole => true,
        Need::OneOf(roles) => role == Role::Admin || roles.contains(&role),
    }
}

#[test]
fn each_role_for_everything_may_do_what_the_table_says_and_nothing_else() {
    for operation in OPERATIONS {
        for role in Role::ALL {
            let allowed = rights(&[role.as_str()]).allows(operation.need, &about(operation, "mine"));
            assert_eq!(allowed, needs(operation, role), "{role}: {} {}", operation.method, operation.path);
        }
        let nobody = Rights::default().allows(operation.need, &about(operation, "mine"));
        assert_eq!(nobody, operation.need == Need::Nothing, "{} {}", operation.method, operation.path);
    }
}

#[test]
fn a_role_for_one_name_reaches_that_name_and_no_other() {
    let is_named = |from: Place| !matches!(from, Place::Nowhere | Place::Whichever | Place::Every);
    for operation in OPERATIONS.iter().filter(|operation| operation.need != Need::Nothing) {
        for role in Role::ALL {
            for (kind, named, from) in
                [("topic", is_named(operation.topic), operation.topic), ("saga", is_named(operation.saga), operation.saga)]
            {
                let whole = needs(operation, role);
                let may = |grant: &str, name: &str| rights(&[grant]).allows(operation.need, &about(operation, name));
                let place = format!("{role}:{kind}, {} {}", operation.method, operation.path);
                assert_eq!(may(&format!("{role}:{kind}=mine"), "mine"), whole && (named || from == Place::Whichever), "{place}");
                assert_eq!(may(&format!("{role}:{kind}=mine"), "other"), whole && from == Place::Whichever, "{place}");
                assert_eq!(may(&format!("{role}:{kind}=mi*"), "mine"), whole && (named || from == Place::Whichever), "{place}");
                assert_eq!(may(&format!("{role}:{kind}=*"), "other"), whole && from != Place::Nowhere, "{place}");
            }
        }
    }
}

#[test]
fn a_role_for_a_group_does_not_reach_its_topic_nor_other_groups() {
    let group = rights(&["manage:topic=orders,group=billing", "consume:topic=orders,group=billing"]);
    let (manage, consume) = (Need::OneOf(&[Role::Manage]), Need::OneOf(&[Role::Consume]));
    assert!(group.allows(manage, &Resource::group("orders", "billing")));
    assert!(!group.allows(manage, &Resource::group("orders", "shipping")));
    assert!(!group.allows(manage, &Resource::group("other", "billing")));
    assert!(!group.allows(manage, &Resource::topic("orders")), "the topic is not the group's");
    assert!(group.allows(consume, &Resource::topic_of_any_group("orders")), "reading by offset: it has all records anyway");
    assert!(!group.allows(consume, &Resource::topic_of_any_group("other")));
    assert!(!group.allows(consume, &Resource::SERVER) && !group.allows(consume, &Resource::ALL_SAGAS));
    assert!(!group.allows(consume, &Resource::saga("orders")));
}

#[test]
fn only_an_admin_of_everything_has_the_keys() {
    assert!(rights(&["admin"]).is_admin());
    for less in ["admin:topic=*", "admin:saga=*", "manage", "operate", "produce", "consume", "admin:topic=*,group=*"] {
        assert!(!rights(&[less]).is_admin(), "{less}");
    }
}

#[test]
fn a_request_is_about_what_its_path_and_query_say() {
    let find = |path: &str, method: &str| OPERATIONS.iter().find(|of| of.path == path && of.method == method).expect("in the table");
    let receive = find("/v1/topics/{topic}/groups/{group}:receive", "POST");
    let template = receive.routed();
    assert_eq!(template, "/v1/topics/{topic}/groups/{group}/~/receive");
    assert_eq!(receive.resource(&template, "/v1/topics/a/groups/b/~/receive", None), Resource::group("a", "b"));
    let sagas = find("/v1/sagas", "GET");
    let asked = |query| sagas.resource("/v1/sagas", "/v1/sagas", query).saga;
    assert_eq!(asked(Some("limit=1&saga=checkout")), Part::Named("checkout"));
    for all in [None, Some(""), Some("limit=1"), Some("saga=a&saga=b"), Some("s%61ga=a"), Some("saga")] {
        assert_eq!(asked(all), Part::All, "{all:?}");
    }
    // What is written otherwise than patterns are matches no name, and a beginning only where it begins so when it is decoded.
    let of = |grant: &str, name: &'static str| rights(&[grant]).allows(Need::AnyRole, &Resource::topic(name));
    assert!(!of("produce:topic=orders", "ord%65rs") && !of("produce:topic=orders*", "%6frders"));
    assert!(of("produce:topic=ord*", "ord%65rs") && of("produce:topic=*", "%6frders"));
}

#[test]
fn grants_are_read_as_they_are_written_and_nonsense_is_refused() {
    for text in [
        "admin",
        "produce:topic=orders",
        "consume:topic=orders.*,group=billing",
        "consume:group=*",
        "operate:saga=check*",
        "manage:topic=*",
    ] {
        let grant: Grant = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(grant.to_string(), text);
        assert_eq!(serde_json::from_value::<Grant>(serde_json::json!(text)).expect("a grant"), grant);
    }
    for wrong in [
        "",
        "root",
        "Admin",
        "admin:",
        "produce:orders",
        "produce:topic",
        "produce:topic=",
        "produce:topic=a b",
        "produce:topic=a*b",
        "produce:topic=a**",
        "produce:group=a",
        "produce:topic=a,topic=b",
        "consume:topic=a,saga=b",
        "consume:queue=a",
        "consume:topic=a;group=b",
        "produce:topic=..",
    ] {
        assert!(wrong.parse::<Grant>().is_err(), "{wrong}");
    }
}

#[test]
fn the_table_has_each_operation_once() {
    let all: BTreeSet<(&str, &str)> = OPERATIONS.iter().map(|operation| (operation.path, operation.method)).collect();
    assert_eq!(all.len(), OPERATIONS.len());
    let names: BTreeSet<&str> = OPERATIONS.iter().map(|operation| operation.name).collect();
    assert_eq!(names.len(), OPERATIONS.len(), "and each has a name of its own");
}

#[test]
fn what_is_read_changes_nothing_and_what_is_not_says_what_it_does() {
    for Operation { method, path, name, effect, .. } in OPERATIONS {
        let is_look = *method == "GET" || ["definition.lint", "saga.preview", "repair.preview"].contains(name);
        assert_eq!(*effect == Effect::Nothing, is_look, "{method} {path}");
        assert!(*effect == Effect::Change || ["GET", "POST"].contains(method), "{method} {path} changes something");
    }
}

/// The table of `docs/security.md`, as it should be.
fn documented() -> String {
    let mut text = "| operation | name | role | topic | group | saga | audited |\n|---|---|---|---|---|---|---|\n".to_owned();
    for Operation { name, effect, method, path, need, topic, group, saga, .. } in OPERATIONS {
        text.push_str(&format!("| `{method} {path}` | `{name}` | {need} | {topic} | {group} | {saga} | {effect} |\n"));
    }
    text
}

#[test]
fn the_table_of_the_documentation_is_this_one() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/security.md");
    let text = std::fs::read_to_string(&path).expect("it is there");
    let (begin, end) = ("<!-- operations: made by api/src/access/tests.rs -->\n", "<!-- end of operations -->");
    let (_, rest) = text.split_once(begin).expect("the table's beginning is marked");
    let (found, _) = rest.split_once(end).expect("the table's end is marked");
    let wanted = documented();
    assert!(found.trim() == wanted.trim(), "docs/security.md has another table than api/src/access/table.rs; it should be:\n{wanted}");
}

#[test]
fn the_secret_of_a_key_does_not_show() {
    let key = KeyDescription {
        name: "a".parse().expect("a name"),
        begins: "sq_0".to_owned(),
        roles: Vec::new(),
        state: KeyState::Active,
        created_at_ms: 1,
        expires_at_ms: None,
        rotated_at_ms: None,
        previous_until_ms: None,
        revoked_at_ms: None,
        quota: KeyQuota::default(),
    };
    let created = CreatedKey { secret: "sq_s3cret".to_owned(), key };
    assert!(!format!("{created:?}").contains("s3cret"));
}
