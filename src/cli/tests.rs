//! What `status` and `explain` look like, from stored views.

use jiff::tz::TimeZone;

use super::{
    explain,
    out::Look,
    status_text,
    text::{Paint, width},
};
use crate::admin::{
    explain::{DecisionView, ExplainView, ReadingView},
    view::{StatusView, VipPlace},
};

const VIEWS: [(&str, &str); 5] = [
    ("starting", include_str!("../../tests/fixtures/status/starting.json")),
    ("balanced", include_str!("../../tests/fixtures/status/balanced.json")),
    ("scaling-out", include_str!("../../tests/fixtures/status/scaling-out.json")),
    ("handing-over", include_str!("../../tests/fixtures/status/handing-over.json")),
    ("degraded", include_str!("../../tests/fixtures/status/degraded.json")),
];

fn view(json: &str) -> StatusView {
    serde_json::from_str(json).unwrap()
}

fn look(width: usize, colour: bool) -> Look {
    Look { paint: Paint::new(colour), width, height: None }
}

/// The text without what colours it.
fn plain(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').unwrap().1)
}

#[test]
fn views_survive_being_written_and_read() {
    for (name, json) in VIEWS {
        let view = view(json);
        assert_eq!(
            serde_json::to_value(&view).unwrap(),
            serde_json::from_str::<serde_json::Value>(json).unwrap(),
            "{name}"
        );
    }
}

#[test]
fn status_at_80_and_120_columns() {
    for (name, json) in VIEWS {
        for columns in [80, 120] {
            insta::assert_snapshot!(
                format!("status-{name}-{columns}"),
                status_text::text(&view(json), &look(columns, false), &TimeZone::UTC)
            );
        }
    }
}

#[test]
fn colours_change_nothing_but_colours() {
    for (name, json) in VIEWS {
        let colourful = status_text::text(&view(json), &look(100, true), &TimeZone::UTC);
        let bare = status_text::text(&view(json), &look(100, false), &TimeZone::UTC);
        assert!(colourful.contains("\x1b["), "{name}");
        assert_eq!(plain(&colourful), bare, "{name}");
        assert!(!bare.contains('\x1b'), "{name}: a name or sentence from elsewhere steers the terminal");
    }
    let degraded = status_text::text(&view(VIEWS[4].1), &look(100, true), &TimeZone::UTC);
    insta::assert_snapshot!("status-degraded-colours", degraded.replace('\x1b', "ESC"));
}

#[test]
fn a_release_says_what_it_waits_for_and_when_it_is_done() {
    let mut view = view(VIEWS[1].1);
    view.vip.released = true;
    view.vip.detail = Some("when no client keeps a connection".into());
    let text = |view: &StatusView| status_text::text(view, &look(120, false), &TimeZone::UTC);
    assert!(text(&view).contains("released  when no client keeps a connection"), "{}", text(&view));
    view.vip.place = VipPlace::Elsewhere;
    view.vip.detail = Some("on port 1".into());
    assert!(text(&view).contains("the service address was given back"), "{}", text(&view));
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    for (name, json) in VIEWS {
        for columns in 72..=160 {
            for line in status_text::text(&view(json), &look(columns, false), &TimeZone::UTC).lines() {
                assert!(width(line) <= columns, "{name} at {columns}: {line:?} has {}", width(line));
            }
        }
    }
}

#[test]
fn explain_tells_readings_value_vote_action_and_reason() {
    let reading = |member: &str, value: Option<f64>| ReadingView {
        member: member.into(),
        value,
        used_percent: 60.0,
        steal_percent: 1.5,
        samples: 5,
        problem: value.is_none().then(|| "the guest was paused".into()),
    };
    let at = |second: i64| jiff::Timestamp::from_second(1_795_528_800 + second).unwrap();
    let view = ExplainView {
        schema: 1,
        at: at(12),
        pool: crate::core::ids::PoolName::try_new("web").unwrap(),
        high: 60.0,
        low: 20.0,
        min_up: 4,
        min_down: 4,
        decisions: vec![
            DecisionView {
                at: at(0),
                readings: vec![reading("vm-test", None)],
                value: None,
                vote: "unknown".into(),
                up_run: 3,
                down_run: 0,
                action: "none".into(),
                reason: "no valid reading of vm-test: the guest was paused".into(),
            },
            DecisionView {
                at: at(5),
                readings: vec![reading("vm-test", Some(61.5))],
                value: Some(61.5),
                vote: "high".into(),
                up_run: 4,
                down_run: 0,
                action: "scale-out".into(),
                reason: "at or above 60.0% (4 of 4 votes): scaling out".into(),
            },
        ],
    };
    insta::assert_snapshot!("explain", explain::text(&view, &look(80, false), &TimeZone::UTC));
}
