"""What the programs' windows in napari share; nothing else imports it."""
