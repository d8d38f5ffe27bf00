"""What `mmemo` can be told to do, each word a dataclass."""
