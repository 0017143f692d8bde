"""What tests send and measure with: frames, namespaces, traffic, faults."""
