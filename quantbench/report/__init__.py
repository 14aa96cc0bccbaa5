"""Reports: sections as plain data, rendered as Markdown and as one HTML page that needs no network."""

from quantbench.callable_rooms import make_callable

make_callable(__name__)
