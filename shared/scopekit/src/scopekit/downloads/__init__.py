"""Files that others keep: fetched by name, checked, kept in the cache of the user."""
