"""From image files and arrays to batches: decoding, declared preprocessing, sources, parallel streaming."""
