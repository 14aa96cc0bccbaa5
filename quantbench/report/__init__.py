"""Reports: sections as plain data, rendered as Markdown and as one HTML page that needs no network."""
