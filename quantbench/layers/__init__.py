"""Values that six rooms share: a layer of an engine, its formats, names and categories."""
