"""How a service is requested: targets, requests sessions, the transport adapter, requests in flight and error texts.

The only package that imports requests and pycurl. May import `log` and `version` alone. Never looks into a document.
"""
