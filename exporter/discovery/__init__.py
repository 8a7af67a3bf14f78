"""Discovery: finds the clusters of a module, and remembers the members that vanish from them.

Imports scrape, config and the packages below them. Serves no request; that is web/discovery.py.
"""
