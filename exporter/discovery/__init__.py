"""Discovery of the clusters of a module and of their members."""
