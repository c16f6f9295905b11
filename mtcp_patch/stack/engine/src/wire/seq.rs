//! Sequence numbers: points on a circle of 2^32, compared by distance.

use core::ops::{Add, AddAssign, Sub, SubAssign};

/// A sequence number. It has no `PartialOrd`: on a circle "less" holds only for numbers less than
/// 2^31 apart, so the comparisons are methods whose names say which relation of RFC 9293 they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Seq(pub u32);

// RFC 9293 3.4: all arithmetic is modulo 2^32, and so are the comparisons.
impl Seq {
    /// Whether `self` comes before `other`.
    pub const fn lt(self, other: Self) -> bool {
        self.distance(other) < 0
    }

    /// Whether `self` comes before `other` or is it.
    pub const fn le(self, other: Self) -> bool {
        self.distance(other) <= 0
    }

    /// Whether `self` comes after `other`.
    pub const fn gt(self, other: Self) -> bool {
        self.distance(other) > 0
    }

    /// Whether `self` comes after `other` or is it.
    pub const fn ge(self, other: Self) -> bool {
        self.distance(other) >= 0
    }

    /// The later of the two.
    pub const fn max(self, other: Self) -> Self {
        if self.lt(other) {
            other
        } else {
            self
        }
    }

    /// The earlier of the two.
    pub const fn min(self, other: Self) -> Self {
        if self.gt(other) {
            other
        } else {
            self
        }
    }

    /// From `other` to `self`, negative when `self` comes first.
    #[allow(clippy::cast_possible_wrap)] // the wrap is the point: it halves the circle
    const fn distance(self, other: Self) -> i32 {
        self.0.wrapping_sub(other.0) as i32
    }
}

impl Add<u32> for Seq {
    type Output = Self;
    fn add(self, bytes: u32) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

impl AddAssign<u32> for Seq {
    fn add_assign(&mut self, bytes: u32) {
        *self = *self + bytes;
    }
}

impl Sub<u32> for Seq {
    type Output = Self;
    fn sub(self, bytes: u32) -> Self {
        Self(self.0.wrapping_sub(bytes))
    }
}

impl SubAssign<u32> for Seq {
    fn sub_assign(&mut self, bytes: u32) {
        *self = *self - bytes;
    }
}

impl Sub for Seq {
    type Output = i32;
    /// From `other` to `self`, negative when `self` comes first.
    fn sub(self, other: Self) -> i32 {
        self.distance(other)
    }
}

#[cfg(test)]
mod tests {
    use super::Seq;

    #[test]
    fn order_holds_across_the_wrap() {
        let before = Seq(u32::MAX - 1);
        let after = before + 3;
        assert_eq!(after, Seq(1));
        assert!(before.lt(after) && before.le(after) && after.gt(before) && after.ge(before));
        assert!(!after.lt(before) && before.le(before) && before.ge(before) && !before.gt(before));
        assert_eq!((after - before, before - after), (3, -3));
        assert_eq!((before.max(after), before.min(after)), (after, before));
        assert_eq!(after - 3, before);
    }

    #[test]
    fn half_a_circle_is_the_limit() {
        assert!(Seq(0).lt(Seq(0x7fff_ffff)));
        assert!(Seq(0).gt(Seq(0x8000_0001)));
    }
}
