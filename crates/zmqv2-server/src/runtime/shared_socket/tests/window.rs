use super::*;

fn record(window: &mut Window, times: u32, took: Duration) {
    (0..times).for_each(|_| window.record(took));
}

#[test]
fn quick_handlers_widen_it_once() {
    let mut window = Window::new(2, 8);
    record(&mut window, SAMPLE - 1, QUICK);
    assert_eq!((window.try_widen(), window.size()), (false, 2));
    window.record(QUICK);
    assert_eq!((window.try_widen(), window.size()), (true, 8));
    record(&mut window, 2 * SAMPLE, QUICK);
    assert_eq!((window.try_widen(), window.size()), (false, 8));
}

#[test]
fn slow_handlers_do_not_widen_it_and_after_a_hand_back_the_average_starts_anew() {
    let mut window = Window::new(2, 8);
    record(&mut window, SAMPLE - 1, QUICK);
    window.record(QUICK + Duration::from_nanos(1));
    assert!(!window.try_widen());
    record(&mut window, SAMPLE, QUICK);
    assert!(window.try_widen());
    window.narrow();
    assert_eq!((window.try_widen(), window.size()), (false, 2));
    record(&mut window, SAMPLE, QUICK);
    assert!(window.try_widen());
}

#[test]
fn a_slow_average_is_reported_once_and_only_while_the_window_is_wide() {
    let mut window = Window::new(2, 8);
    record(&mut window, SAMPLE, 3 * QUICK);
    assert!(!window.take_slow(), "it is not wide");
    record(&mut window, SAMPLE, QUICK);
    assert!(window.try_widen());
    record(&mut window, SAMPLE, 2 * QUICK);
    assert!(!window.take_slow());
    record(&mut window, SAMPLE, 3 * QUICK);
    assert!(window.take_slow() && !window.take_slow());
}

#[test]
fn without_a_larger_window_it_stays_narrow() {
    let mut window = Window::new(2, 2);
    record(&mut window, 2 * SAMPLE, QUICK);
    assert!(!window.try_widen());
}
