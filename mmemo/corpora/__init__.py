"""Tables of clips and labels: manifests, splits, the leak guard, readers of the data sets."""
