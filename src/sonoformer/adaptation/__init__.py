"""Which weights of a pretrained encoder change when it learns a task, and how fast."""
