//! Numbers for people.

/// A number with as many digits as it is worth: three that count, and groups of thousands.
///
/// ```
/// use zmqv2_tests::measure::figure;
///
/// assert_eq!(figure(0.012_345), "0.0123");
/// assert_eq!(figure(2.0), "2");
/// assert_eq!(figure(48.26), "48.3");
/// assert_eq!(figure(1_234_567.8), "1,234,568");
/// assert_eq!(figure(-1500.0), "-1,500");
/// assert_eq!(figure(1.0 / 0.0), "infinite");
/// ```
pub fn figure(value: f64) -> String {
    if value.is_nan() {
        return "-".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "infinite" } else { "-infinite" }.to_owned();
    }
    let size = value.abs();
    let decimals = match size {
        _ if size == 0.0 || size >= 100.0 => 0,
        _ if size >= 10.0 => 1,
        _ if size >= 1.0 => 2,
        // Zeros before the first digit, and three digits.
        _ => (2 - size.log10().floor() as i32).clamp(0, 9) as usize,
    };
    let text = format!("{value:.decimals$}");
    match text.split_once('.') {
        Some((whole, rest)) => {
            let rest = rest.trim_end_matches('0');
            if rest.is_empty() { grouped(whole) } else { format!("{}.{rest}", grouped(whole)) }
        }
        None => grouped(&text),
    }
}

fn grouped(whole: &str) -> String {
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let mut text = sign.to_owned();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
