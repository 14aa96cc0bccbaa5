"""What a run says of itself: typed values with one way to and from JSON."""
