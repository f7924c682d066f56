//! Days since 1970 to dates of the Gregorian calendar and back: for the log, and for certificates.
//!
//! Pure. It never asks what time it is.

/// Days since 1970 as a date. Counts years from March, so that the leap day comes last, in eras of 400 years,
/// which all have the same length.
pub(crate) fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_TO_1970: u64 = 719_468; // from 0000-03-01
    const ERA_DAYS: u64 = 146_097;
    let (era, day) = ((days + DAYS_TO_1970) / ERA_DAYS, (days + DAYS_TO_1970) % ERA_DAYS);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Five months from March are 153 days, twice, in every year.
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next, month, date)
}

/// Days from 1970-01-01 in the Gregorian calendar, with years that begin in March.
#[cfg(any(feature = "tls", test))] // for certificates alone
pub(crate) fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// `2026-11-25`, of seconds since 1970.
pub(crate) fn show(unix_s: i64) -> String {
    let (year, month, day) = civil(u64::try_from(unix_s).unwrap_or(0) / 86_400);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_counted_from_1970() {
        for (year, month, day, expected) in
            [(1970, 1, 1, 0), (1999, 12, 31, 10_956), (2000, 2, 29, 11_016), (2026, 11, 25, 20_782)]
        {
            assert_eq!(days(year, month, day), expected, "{year}-{month}-{day}");
        }
    }

    #[test]
    fn a_date_and_its_day_are_one() {
        for day in (0..60_000).step_by(7) {
            let (year, month, date) = civil(day);
            assert_eq!(days(year as i64, month as i64, date as i64), day as i64);
        }
        assert_eq!((show(0).as_str(), show(1_795_564_800).as_str()), ("1970-01-01", "2026-11-25"));
    }
}
