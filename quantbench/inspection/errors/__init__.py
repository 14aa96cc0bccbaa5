"""What TensorRT's errors mean: one table for `inspect`, `explain` and docs/build-errors.md."""
