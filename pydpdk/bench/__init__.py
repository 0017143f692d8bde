"""What this host and this build can do: each part beside its physical floor and its peers."""
