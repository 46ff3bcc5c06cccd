//! Figures over time as bars of one column each.

use crate::theme::Glyphs;

/// One bar for each of the last `columns` of `values`, the highest being the whole height.
pub(crate) fn bars(values: &[u32], columns: usize, glyphs: &Glyphs) -> String {
    let values = &values[values.len().saturating_sub(columns)..];
    let highest = u64::from(values.iter().copied().max().unwrap_or(0)).max(1);
    let steps = u64::try_from(glyphs.bars.len() - 1).unwrap_or(1);
    let bar = |value: &u32| {
        let step = (u64::from(*value) * steps).div_ceil(highest);
        glyphs.bars[usize::try_from(step).unwrap_or(0)]
    };
    values.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::theme::{Palette, Theme};

    #[test]
    fn the_highest_is_whole_and_what_is_not_zero_can_be_seen() {
        let glyphs = Theme::new(Palette::Mono, false).glyphs;
        assert_eq!(bars(&[0, 1, 1000], 9, glyphs), "▁▂█");
        assert_eq!(bars(&[5, 0, 0], 2, glyphs), "▁▁");
        assert_eq!(bars(&[u32::MAX], 2, glyphs), "█");
        assert_eq!(bars(&[], 2, glyphs), "");
    }
}
