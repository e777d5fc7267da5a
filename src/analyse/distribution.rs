//! The two distributions that intervals are read from.

/// The probability that a standard normal number is below `z` (Abramowitz and Stegun, 7.1.26; error below 1.5e-7).
pub(super) fn normal_cdf(z: f64) -> f64 {
    let x = z.abs() / 2f64.sqrt();
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let poly =
        t * (0.254_829_592 + t * (-0.284_496_736 + t * (1.421_413_741 + t * (-1.453_152_027 + t * 1.061_405_429))));
    let tail = 0.5 * poly * (-x * x).exp();
    if z > 0.0 { 1.0 - tail } else { tail }
}

/// The 95% interval of a Poisson mean of which `count` were seen (Garwood, 1936), by the cube root of Wilson and
/// Hilferty: within 1% of the count from 2 on.
pub(super) fn poisson_interval(count: f64) -> (f64, f64) {
    let bound = |k: f64, z: f64| k * (1.0 - 1.0 / (9.0 * k) + z / (3.0 * k.sqrt())).powi(3);
    (if count > 0.0 { bound(count, -1.96).max(0.0) } else { 0.0 }, bound(count + 1.0, 1.96))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_as_in_the_tables() {
        for (z, p) in [(0.0, 0.5), (1.0, 0.841_344_7), (-1.959_964, 0.025), (4.0, 0.999_968_3)] {
            assert!((normal_cdf(z) - p).abs() < 2e-7, "{z}: {}", normal_cdf(z));
        }
    }

    #[test]
    fn poisson_as_in_the_tables() {
        // Exact limits of Garwood.
        for (count, low, high) in [(2.0, 0.242, 7.225), (10.0, 4.795, 18.390), (100.0, 81.36, 121.63)] {
            let (got_low, got_high) = poisson_interval(count);
            assert!((got_low - low).abs() < 0.02 * high && (got_high - high).abs() < 0.01 * high, "{count}");
        }
        assert_eq!(poisson_interval(0.0).0, 0.0);
    }
}
