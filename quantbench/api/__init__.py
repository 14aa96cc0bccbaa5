"""The public Python API, which `quantbench` re-exports: thin functions over the rooms, as `cli` is for the shell."""
