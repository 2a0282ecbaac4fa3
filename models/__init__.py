"""What crosses a boundary: frozen pydantic models, names, errors and settings. No I/O."""
