"""What the operator sets: options, the environment and `.env`, the modules file, its allow-list, and reloading.

May import `upstream` and `collectors`. Never sends a request, and knows nothing of a scrape.
"""
