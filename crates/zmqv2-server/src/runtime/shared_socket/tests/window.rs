use super::*;

fn record(window: &mut Window, times: u32, took: Duration) {
    (0..times).for_each(|_| window.record(took));
}

#[test]
fn quick_handlers_widen_it_once() {
    let mut window = Window::new(true);
    record(&mut window, SAMPLE - 1, QUICK);
    assert!(!window.should_widen());
    window.record(QUICK);
    assert!(window.should_widen());
    window.widen();
    record(&mut window, 2 * SAMPLE, QUICK);
    assert!(!window.should_widen());
}

#[test]
fn slow_handlers_do_not_widen_it_and_after_a_hand_back_the_average_starts_anew() {
    let mut window = Window::new(true);
    record(&mut window, SAMPLE - 1, QUICK);
    window.record(QUICK + Duration::from_nanos(1));
    assert!(!window.should_widen());
    record(&mut window, SAMPLE, QUICK);
    assert!(window.should_widen());
    window.widen();
    window.narrow();
    assert!(!window.should_widen());
    record(&mut window, SAMPLE, QUICK);
    assert!(window.should_widen());
}

#[test]
fn a_slow_average_is_reported_once_and_only_while_the_window_is_wide() {
    let mut window = Window::new(true);
    record(&mut window, SAMPLE, 3 * QUICK);
    assert!(!window.take_slow(), "it is not wide");
    window.widen();
    record(&mut window, SAMPLE, 2 * QUICK);
    assert!(!window.take_slow());
    record(&mut window, SAMPLE, 3 * QUICK);
    assert!(window.take_slow() && !window.take_slow());
}

#[test]
fn without_a_larger_window_it_stays_narrow() {
    let mut window = Window::new(false);
    record(&mut window, 2 * SAMPLE, QUICK);
    assert!(!window.should_widen());
}
