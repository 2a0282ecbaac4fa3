"""The commands `gt` and `bd`: one module per noun; heavy libraries are imported inside commands only."""
