use adapters::sealing::Secret;

use super::{compatible, header, sent};
use crate::models::{
    CreateModel, UpdateModel,
    testing::{House, SYSTEM},
};

#[tokio::test]
async fn secrets_are_sealed_and_bound_to_where_they_go() {
    let house = House::new().await;
    let new = CreateModel {
        api_key: Some(Secret::new("sk-secret-1")),
        headers: vec![
            header("X-One", Some("one-value")),
            header("X-Two", Some("two-value")),
        ],
        ..compatible("https://a.example/v1")
    };
    let id = house.engine.create_model(&house.owner, new).await.unwrap();
    let rows = house.secrets().await;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].bound_to, "https://a.example:443");
    assert!(
        !rows[0]
            .sealed
            .windows(6)
            .any(|window| window == b"secret" || window == b"-value")
    );

    let update = |change: UpdateModel| house.engine.update_model(&house.owner, id, change);
    let (sk, pair) = (
        |key: &str| Some(key.to_owned()),
        |name: &str, value: &str| (name.to_owned(), value.to_owned()),
    );
    let headers = Some(Some(vec![
        header("x-one", None),
        header("X-TWO", Some("2")),
        header("X-Three", Some("3")),
    ]));
    update(UpdateModel {
        headers,
        ..UpdateModel::default()
    })
    .await
    .unwrap();
    assert_eq!(
        sent(&house, id).await,
        (
            sk("sk-secret-1"),
            vec![pair("X-TWO", "2"), pair("X-Three", "3")]
        )
    );
    assert_eq!(house.model(id).await.header_names.0, ["X-TWO", "X-Three"]);

    // Another path is the same place; another host is not.
    let to = |url: &str| Some(Some(url.to_owned()));
    update(UpdateModel {
        base_url: to("https://a.example:443/v2"),
        ..UpdateModel::default()
    })
    .await
    .unwrap();
    assert_eq!(sent(&house, id).await.0, sk("sk-secret-1"));
    let headers = Some(Some(vec![header("X-New", Some("n"))]));
    update(UpdateModel {
        base_url: to("https://b.example/v1"),
        headers,
        ..UpdateModel::default()
    })
    .await
    .unwrap();
    assert_eq!(sent(&house, id).await, (None, vec![pair("X-New", "n")]));
    assert!(!house.model(id).await.has_api_key);
    update(UpdateModel {
        base_url: to("http://b.example/v1"),
        api_key: Some(Some(Secret::new("sk-2"))),
        ..UpdateModel::default()
    })
    .await
    .unwrap();
    assert_eq!(sent(&house, id).await, (sk("sk-2"), vec![]));
    update(UpdateModel {
        base_url: to("http://b.example:81/v1"),
        ..UpdateModel::default()
    })
    .await
    .unwrap();
    assert_eq!(sent(&house, id).await, (None, vec![]));
    assert_eq!(
        (house.model(id).await.secret_id, house.secrets().await.len()),
        (None, 0)
    );

    // A row that was tampered with sends nothing to its new address.
    update(UpdateModel {
        api_key: Some(Some(Secret::new("sk-3"))),
        ..UpdateModel::default()
    })
    .await
    .unwrap();
    let mut row = house.model(id).await;
    row.base_url = Some("https://thief.example".into());
    let snapshot = house.engine.log().snapshot(entities::Within::Owner(SYSTEM));
    assert!(
        house
            .engine
            .endpoint(snapshot.tx().await.unwrap(), &row)
            .await
            .is_err()
    );
}
