"""What a user asks of a pretrained encoder: to tell classes apart, and to say how well it does."""
