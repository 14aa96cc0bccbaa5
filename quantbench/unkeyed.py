"""The mark of fields that are no part of a stage's key."""

# Metadata of a field that cannot change the result: where a file lies, threads. Apart from `stage.py`, so that options
# of a build can be read without pydantic (engines/compiler.py).
UNKEYED = {"unkeyed": True}
