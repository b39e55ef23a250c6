"""What a run looked like: statistics over seeds, tables, curves, videos, and one page that holds them."""
