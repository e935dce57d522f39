"""Whether a device, a node, a cluster is fit for work: judged from run folders, measuring nothing."""
