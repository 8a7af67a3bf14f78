"""Everything that a client of the exporter can see: endpoints, error responses, authentication and server-side TLS.

May import every other package. Never parses a document of a service, and never sends a request by itself: it makes a
scrape for that.
"""
