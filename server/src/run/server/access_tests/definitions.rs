//! Who may publish, list and try definitions.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_cannot_write_take_over_or_start_what_its_publisher_may_not() {
    let guarded = Guarded::start().await;
    let of_topic = DEFINITION.replace("saga: mine", "saga: of-topic").replace("http: http://127.0.0.1:9/", "topic: secrets.commands");
    let some = guarded.key("a", &["manage:saga=*", "manage:topic=secrets.*"]).await;
    let writes = guarded.key("b", &["manage:saga=of-*", "produce:topic=secrets.*"]).await;
    let both = guarded.key("c", &["manage:saga=of-*", "produce:topic=secrets.*", "manage:topic=secrets.*"]).await;
    let publish = async |key: &str, text: &str| guarded.ask(key, "POST", "/v1/saga-definitions", text).await;
    let refused = |answer: Answer, needs: &str, what: &str| {
        assert_eq!(answer.body["code"], "FORBIDDEN", "{}", answer.body);
        let detail = answer.body["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(needs) && detail.contains(what), "{detail}");
    };
    refused(publish(&some, &of_topic).await, "`produce`", "secrets.commands");
    // The topic is not there: publishing makes it, and it cannot be deleted from then on.
    refused(publish(&writes, &of_topic).await, "`manage`", "secrets.commands");
    assert_eq!(publish(&both, &of_topic).await.status, StatusCode::CREATED);
    let next = of_topic.replace("version: 1", "version: 2");
    assert_eq!(publish(&writes, &next).await.status, StatusCode::CREATED, "a topic of sagas is taken over by nobody");
    let tells = "compensate: none\n    emit: { topic: secrets.told, value: { n: 1 } }\n";
    let emits = DEFINITION.replace("saga: mine", "saga: of-told").replace("compensate: none\n", tells);
    refused(publish(&some, &emits).await, "`produce`", "secrets.told");
    refused(publish(&writes, &emits).await, "`manage`", "secrets.told");
    let other = publish(&both, &DEFINITION.replace("saga: mine", "saga: another")).await;
    assert_eq!(other.body["code"], "FORBIDDEN", "{}", other.body);
    let parent = DEFINITION.replace("saga: mine", "saga: of-parent");
    let parent = parent + "  - id: child\n    saga: mine\n    with: { n: \"${ input.n }\" }\n";
    let refused = guarded.ask(&both, "POST", "/v1/saga-definitions", &parent).await;
    assert_eq!(refused.body["code"], "FORBIDDEN", "it would start a saga that its publisher may not: {}", refused.body);
    let starts = guarded.key("d", &["manage:saga=of-*", "produce:saga=mine"]).await;
    assert_eq!(guarded.ask(&starts, "POST", "/v1/saga-definitions", &parent).await.status, StatusCode::CREATED);
    let faulty = guarded.ask(&both, "POST", "/v1/saga-definitions", "saga: of-x").await;
    assert_eq!(faulty.body["code"], "INVALID_DEFINITION", "{}", faulty.body);
    guarded.parts.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_is_told_nothing_of_sagas_that_its_writer_may_not_see() {
    let guarded = Guarded::start().await;
    let seeing = guarded.key("a", &["operate:saga=mine", "operate:saga=strict"]).await;
    let (blind, admin) = (guarded.key("b", &["operate:saga=other"]).await, guarded.key("c", &["admin"]).await);
    let strict = "input:\n  schema: { type: object, required: [n, a], properties: { n: { type: integer }, a: { type: integer } } }\n";
    let strict = DEFINITION.replace("saga: mine", "saga: strict") + strict;
    assert_eq!(guarded.ask(&admin, "POST", "/v1/saga-definitions", &strict).await.status, StatusCode::CREATED);
    let starts = |saga: &str, with: &str| {
        DEFINITION.replace("saga: mine", "saga: parent")
            + &format!("  - id: child\n    saga: {saga}\n    with: {with}\n    compensate: none\n")
    };
    let told = async |key: &str, text: String| {
        let answer = guarded.ask(key, "POST", "/v1/saga-definitions:lint", &text).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        answer.body["faults"].as_array().expect("a list").iter().map(|fault| fault["code"].to_string()).collect::<Vec<_>>()
    };
    let nothing = told(&blind, starts("nowhere", "{}")).await;
    assert_eq!(told(&blind, starts("mine", "{}")).await, nothing, "one that is there is as one that is not");
    assert_eq!(told(&blind, starts("{ name: mine, version: 7 }", "{}")).await, nothing);
    assert_eq!(told(&blind, starts("strict", "{}")).await, nothing, "nor what it wants");
    assert_ne!(told(&seeing, starts("strict", "{}")).await, nothing);
    // Who sees it is told which version there is not.
    let missing = told(&seeing, starts("{ name: mine, version: 7 }", "{}")).await;
    assert!(
        missing.iter().any(|code| code.contains("unknown_saga")) && !nothing.iter().any(|code| code.contains("unknown_saga")),
        "{missing:?}"
    );
    assert!(told(&seeing, starts("mine", "{ n: 1 }")).await.iter().all(|code| !code.contains("unknown_saga")));
    guarded.parts.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_are_listed_to_those_who_have_a_role_for_them() {
    let guarded = Guarded::start().await;
    let other = DEFINITION.replace("saga: mine", "saga: other");
    let admin = guarded.key("a", &["admin"]).await;
    assert_eq!(guarded.ask(&admin, "POST", "/v1/saga-definitions", &other).await.status, StatusCode::CREATED);
    let listed = async |roles: &[&str]| {
        let key = guarded.key(&format!("k-{}", roles.concat().replace([':', '=', '*'], "-")), roles).await;
        let answer = guarded.ask(&key, "GET", "/v1/saga-definitions", "").await;
        let rows = answer.body["definitions"].as_array().expect("a list").clone();
        rows.iter().map(|row| row["name"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(listed(&["operate:saga=other"]).await, ["other"]);
    assert_eq!(listed(&["produce:saga=m*"]).await, ["mine"]);
    assert_eq!(listed(&["manage:saga=*"]).await, ["mine", "other"]);
    guarded.parts.shutdown().await;
}
