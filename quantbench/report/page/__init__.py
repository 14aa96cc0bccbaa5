"""The interactive parts of report.html: their data, their script, and the libraries that are written into the page."""
