"""One scrape: from the documents of the modules to metric families, and to the text of an exposition.

May import `upstream` and `collectors`. Never reads a setting, and knows nothing of Flask or of the HTTP request that
it answers.
"""
