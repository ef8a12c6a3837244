"""Everything that can be wrong in a manifest, found before a cluster sees it: `python -m infra.check`."""
