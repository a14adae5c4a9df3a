//! The expected result of a test for each driver.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// The expected result of a test for a driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    Pass,
    /// The test fails: a documented difference.
    Differs {
        because: &'static str,
        /// A part of the failure's message. A failure with another message is unexpected.
        with: &'static str,
    },
}

/// Runs a test and compares its result with the expected one. A documented difference that no
/// longer exists is a failure too, because the documentation would be wrong.
pub fn judge(driver: &str, expected: Expected, test: impl FnOnce()) {
    let outcome = catch_unwind(AssertUnwindSafe(test));
    match (expected, outcome) {
        (Expected::Pass, Ok(())) => {}
        (Expected::Pass, Err(panic)) => resume_unwind(panic),
        (Expected::Differs { because, .. }, Ok(())) => {
            panic!("{driver} passes a test that is documented to fail: {because}")
        }
        (Expected::Differs { because, with }, Err(panic)) => {
            let message = text(panic.as_ref()).to_owned();
            if !message.contains(with) {
                eprintln!("{driver}: the documented failure has {with:?} in its message");
                resume_unwind(panic);
            }
            eprintln!("{driver}: documented difference: {because}");
        }
    }
}

/// Makes one test for each driver from functions that take a [`Driver`](super::Driver).
#[macro_export]
macro_rules! suite {
    ($($name:ident: legacy $legacy:expr, zmqv2 $zmqv2:expr;)*) => {
        mod legacy {
            use super::*;
            $(#[test]
            fn $name() {
                $crate::messaging::judge("legacy", $legacy, || super::$name($crate::messaging::Driver::Legacy));
            })*
        }
        mod zmqv2 {
            use super::*;
            $(#[test]
            fn $name() {
                $crate::messaging::judge("zmqv2", $zmqv2, || super::$name($crate::messaging::Driver::Zmqv2));
            })*
        }
    };
}

fn text(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIFFERS: Expected = Expected::Differs { because: "it never did", with: "never" };

    fn message_of(expected: Expected, test: impl FnOnce()) -> Result<(), String> {
        catch_unwind(AssertUnwindSafe(|| judge("d", expected, test))).map_err(|panic| text(panic.as_ref()).to_owned())
    }

    #[test]
    fn what_is_expected_is_fine() {
        assert_eq!(message_of(Expected::Pass, || {}), Ok(()));
        assert_eq!(message_of(DIFFERS, || panic!("it never comes")), Ok(()));
    }

    #[test]
    fn a_failure_that_is_not_expected_is_one() {
        assert_eq!(message_of(Expected::Pass, || panic!("broken")), Err("broken".to_owned()));
        assert_eq!(message_of(DIFFERS, || panic!("no daemon")), Err("no daemon".to_owned()));
    }

    #[test]
    fn a_documented_difference_that_starts_passing_is_caught() {
        let message = message_of(DIFFERS, || {}).unwrap_err();
        assert!(message.contains("d passes a test that is documented to fail: it never did"), "{message}");
    }
}
