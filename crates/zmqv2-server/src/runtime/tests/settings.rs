use super::*;

#[test]
fn the_number_of_workers_is_the_one_asked_for_within_the_bounds() {
    let mut settings = Settings::default();
    assert_eq!(settings.workers_or(7).unwrap(), 7);
    for (asked, allowed) in [(1, true), (MAX_WORKERS.into(), true), (0, false), (usize::from(MAX_WORKERS) + 1, false)] {
        settings.workers = Some(asked);
        match settings.workers_or(7) {
            Ok(workers) => assert!(allowed && usize::from(workers) == asked),
            Err(error) => assert!(!allowed && matches!(error, ServerError::Workers(count) if count == asked)),
        }
    }
}
