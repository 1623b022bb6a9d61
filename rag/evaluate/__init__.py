"""How well questions find their pages: BEIR folders, metrics, intervals, settings side by side."""
