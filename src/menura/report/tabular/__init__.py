"""Pictures of tabular inverse RL: maps of states, weights with their errors, and trees of paths."""
