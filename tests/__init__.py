"""A package of ours: another one of this name, which an installed client brings along, would hide it."""
