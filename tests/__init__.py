"""Makes `tests` this folder, whatever a dependency ships under that name."""
