"""The doors: each file gives one Blueprint or one WSGI application."""
