"""One rule a file: `find(index)` yields findings; those that can be mended without new ranges have `fix(index)`."""
