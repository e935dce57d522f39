"""A twin of a GPU: a model of a card, kept as data, that answers in place of torch.cuda and of the driver."""
