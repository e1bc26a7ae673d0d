//! The main road: make a log, push, and read it back on another device and another transport.

use crate::support::{Group, TestRelay, device, envelope, epoch_envelope, own, stored};

#[tokio::test]
async fn two_devices_on_websocket_share_a_log() {
    let relay = TestRelay::start().await;
    let group = Group::new(1);
    let mut a = relay.founder(&group, &device(1)).await;
    let mut b = relay.member(&group, &device(2)).await;

    assert_eq!(a.push(7, &[envelope(1), envelope(2)]).await, [Ok(2), Ok(3)]);

    let entries = b.follow().await;
    assert_eq!(entries, [stored(1, &epoch_envelope(0)), stored(2, &envelope(1)), stored(3, &envelope(2))]);
    assert_eq!(a.push(8, &[envelope(3)]).await, [Ok(4)]);
    assert_eq!(b.entries().await, [stored(4, &envelope(3))]);
}

#[tokio::test]
async fn devices_on_different_transports_share_a_log() {
    let relay = TestRelay::start().await;
    let group = Group::new(1);
    let mut on_ws = relay.founder(&group, &device(1)).await;
    let mut on_iroh = relay.iroh(&device(2)).await;
    on_iroh.admitted(&group).await;
    on_ws.follow().await;
    on_iroh.follow().await;

    assert_eq!(on_ws.push(1, &[envelope(1)]).await, [Ok(2)]);
    assert_eq!(on_iroh.entries().await, [stored(2, &envelope(1))]);
    assert_eq!(on_ws.entries().await, [own(2, &envelope(1))]);
    assert_eq!(on_iroh.push(1, &[envelope(2)]).await, [Ok(3)]);
    assert_eq!(on_ws.entries().await, [stored(3, &envelope(2))]);
}
