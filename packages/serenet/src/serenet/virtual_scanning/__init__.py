"""Virtual scanning: unscanned light fields as if they had been scanned, with VsNet."""
