"""Pictures and screens. A leaf: nothing below depends on it."""
