"""Placement rules, one a file. Each reads a GraphView and writes into a Draft; none touches a model."""
